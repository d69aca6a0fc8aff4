"""A real Jupyter kernel: results as tables, progress as text, and an interrupt that saves."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from tests.faults.test_kill import environment, recordings

PATIENCE = 240  # seconds until a cell must have ended
SETTINGS = (
    "base='starter:whisper-tiny.en', epochs=40, batch_size=4, joined=0, nonspeech=0, views=1,"
    " scales=[1.0], checkpoint_every=1000"
)
Outputs = list[dict[str, Any]]


class Kernel:
    """A kernel that runs cells and collects what they show."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self.client = manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, cell: str, interrupt: Callable[[str], bool] = lambda text: False) -> Outputs:
        """Run a cell; press the stop button once `interrupt` is true of what it has shown."""
        request, shown, pressed = self.client.execute(cell), [], False
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return shown
            if kind in ("stream", "display_data", "execute_result", "error"):
                shown.append(content)
            if not pressed and interrupt(text_of(shown)):
                pressed = True
                self.manager.interrupt_kernel()
        pytest.fail(f"the cell hasn't ended; it showed {text_of(shown)}")


def text_of(shown: Outputs) -> str:
    return "".join(c.get("text", c.get("data", {}).get("text/plain", "")) for c in shown)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    manager = KernelManager(kernel_name="python3")
    root = str(Path(__file__).parents[2])
    cache = tmp_path_factory.mktemp("cache")
    manager.start_kernel(env=environment(cache) | {"PYTHONPATH": root})
    try:
        yield Kernel(manager)
    finally:
        manager.shutdown_kernel(now=True)


@pytest.mark.slow
def test_a_notebook_shows_tables_and_progress_and_its_stop_button_saves(
    kernel: Kernel, tmp_path: Path
) -> None:
    data = recordings(tmp_path / "data")
    shown = kernel.run(f"import mmtune\nmmtune.check({str(data)!r})")[-1]["data"]
    assert shown["text/html"].startswith("<div")
    assert len(shown["text/plain"].splitlines()) < 20  # a table, and not the repr of all rows
    call = f"mmtune.train('terminology', data={str(data)!r}, out={str(tmp_path)!r}, {SETTINGS})"
    cut = kernel.run(call, interrupt=lambda text: "loss" in text and "train" in text)
    progress = text_of(cut)
    assert "trainable" in progress
    assert "ipywidgets" not in progress  # rich and tqdm ask for it; bars are text without it
    assert cut[-1]["ename"] == "Interrupted"
    assert "the run is saved" in cut[-1]["evalue"]
    (saved,) = (tmp_path / "terminology" / "checkpoints").iterdir()
    step = int(saved.name.removeprefix("step-"))
    assert 0 < step < 80
    resumed = kernel.run(
        call.replace("checkpoint_every=1000", "checkpoint_every=1000, progress=True"),
        interrupt=lambda text: "loss" in text,
    )
    assert f"step {step}" in text_of(resumed)
