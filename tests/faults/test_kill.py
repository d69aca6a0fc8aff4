"""Both modalities, through the public pipeline: killed in mid-epoch, resumed, bit-identical."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file

from mmtune.data.manifest import write_manifest
from mmtune.training.log import read_log
from tests.faults.writers import STORED

SCRIPT = """
import os, sys
from mmtune.runs.pipeline import train
from mmtune.runs.recipes import load_recipe
from mmtune.training.reporter import Reporter

class Die(Reporter):
    def step(self, step, total, loss, lr):
        if step == int(sys.argv[1]):
            os.kill(os.getpid(), 9)

train(load_recipe(sys.argv[2], dict(pair.split("=", 1) for pair in sys.argv[3:])), Die())
"""
WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima".split()  # noqa: SIM905


SPLITS = ["train"] * 8 + ["validation"] * 2 + ["test"] * 2


def recordings(folder: Path) -> Path:
    """Twelve tones with their words, and a manifest."""
    folder.mkdir()
    rows: list[dict[str, object]] = []
    for i, (word, split) in enumerate(zip(WORDS, SPLITS, strict=True)):
        times = np.arange(16_000 + 1600 * i) / 16_000
        soundfile.write(
            folder / f"{i}.wav", 0.3 * np.sin(2 * np.pi * (200 + 40 * i) * times), 16_000
        )
        rows.append({"id": word, "audio": f"{i}.wav", "text": f"say {word} now", "split": split})
    write_manifest(folder / "manifest.jsonl", rows)
    return folder


def pictures(folder: Path) -> Path:
    """Twelve pictures of coloured squares, and a manifest."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for i, (word, split) in enumerate(zip(WORDS, SPLITS, strict=True)):
        blocks = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(blocks.repeat(16, 0).repeat(16, 1)).save(folder / f"{i}.png")
        rows.append({"id": word, "image": f"{i}.png", "caption": word, "split": split})
    write_manifest(folder / "manifest.jsonl", rows)
    return folder


CASES = {
    "speech": (
        "terminology", recordings, "adapter_model.safetensors",
        ["base=starter:whisper-tiny.en", "joined=0", "nonspeech=0", "views=2", "scales=[0.5, 1.0]",
         "probes=0"],
    ),
    "image": (
        "brand_style", pictures, "pytorch_lora_weights.safetensors",
        ["base=starter:icons", "task.steps=2", "validation_images=2", "train.validate_every=4",
         "scales=[1.0]"],
    ),
}  # fmt: skip


def environment(cache: Path) -> dict[str, str]:
    return os.environ | {"MMTUNE_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def settings(data: Path, out: Path, extra: list[str]) -> list[str]:
    return [
        f"data={data}", f"out={out}", "name=run", "epochs=3", "batch_size=4",
        "checkpoint_every=2", "lora.dropout=0.1", *extra,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["speech", "image"])
def test_kill_9_in_mid_epoch_ends_with_the_same_adapter(tmp_path: Path, modality: str) -> None:
    shutil.copytree(STORED / modality, tmp_path, dirs_exist_ok=True)  # a tiny base and its data
    weights = CASES[modality][2]

    def run(out: str, die_at: int) -> int:
        # The two runs share no cache: stored values can't depend on what was stored with them.
        return subprocess.run(
            [sys.executable, "-c", SCRIPT, str(die_at), "recipe.yaml", f"out={out}", "name=run",
             "epochs=3", "checkpoint_every=2", "scales=[1.0]", "data.shared=[sentence]"],
            env=environment(tmp_path / f"cache-{out}"), cwd=tmp_path, check=False, timeout=400,
        ).returncode  # fmt: skip

    assert run("whole", -1) == 0
    assert run("cut", 3) == -signal.SIGKILL
    assert run("cut", -1) == 0
    # Tensors, not files: safetensors writes the entries of its metadata in no fixed order.
    whole, cut = (load_file(tmp_path / out / "run/adapter" / weights) for out in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    logs = [read_log(tmp_path / out / "run" / "log.jsonl") for out in ("whole", "cut")]
    losses = [[e["loss"] for e in log if "loss" in e] for log in logs]
    assert losses[0] == losses[1]
    assert len(losses[0]) > 4


def test_sigterm_saves_and_prints_the_command_that_resumes(tmp_path: Path) -> None:
    data, log = recordings(tmp_path / "data"), tmp_path / "run" / "log.jsonl"
    pairs = settings(data, tmp_path, ["base=starter:whisper-tiny.en", "train.epochs=400"])
    options = [f"--{pair}" for pair in pairs if pair != "epochs=3"]
    command = [sys.executable, "-m", "mmtune", "train", "terminology", *options]
    process = subprocess.Popen(
        command, env=environment(tmp_path / "cache"), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and any("loss" in entry for entry in read_log(log)):
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert "resume: mmtune train terminology" in errors
    steps = [entry["step"] for entry in read_log(log) if "loss" in entry]
    saved = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1]
    assert saved.name == f"step-{steps[-1]:07d}"
