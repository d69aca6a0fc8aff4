"""A process of a run that dies or hangs ends the others within a stated time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mmtune.errors import ConfigError, TrainingError
from mmtune.system.processes import TIMEOUT, _timeout, together

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_lost_process_ends_the_other(tmp_path: Path, how: str) -> None:
    """Without a launcher, which would end the other one sooner."""
    shared = os.environ | {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", TIMEOUT: "15", "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.training.lost_process", str(tmp_path), how]
    first, second = (
        subprocess.Popen(
            command, env=shared | {"RANK": rank, "LOCAL_RANK": rank}, cwd=ROOT,
            stderr=subprocess.PIPE, text=True,
        )
        for rank in "01"
    )  # fmt: skip
    try:
        _, errors = first.communicate(timeout=240)
        assert first.returncode == 2, errors
        assert "another process of this run has ended, or gave no answer for 15 s" in errors
        assert (tmp_path / "checkpoints").is_dir()
    finally:
        second.kill()
        second.communicate()


@pytest.mark.parametrize("given", ["0", "-3", "soon", "nan", "inf"])
def test_a_timeout_that_is_no_time_is_an_error(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(TIMEOUT, given)
    with pytest.raises(ConfigError, match=f"{TIMEOUT} is '{given}'"):
        _timeout()


def test_only_errors_of_the_connection_are_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:33445"
    with pytest.raises(RuntimeError, match="closed by peer"), together():
        raise RuntimeError(lost)  # a single process
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="another process of this run has ended"), together():
        raise RuntimeError(lost)
    with pytest.raises(RuntimeError, match="shapes"), together():
        raise RuntimeError("shapes don't match")
