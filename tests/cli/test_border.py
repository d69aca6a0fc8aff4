"""The border of the command line: the system's errors get a cure, and mmtune's faults a log."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mmtune
from mmtune import cli
from mmtune.cli import main, run_commands
from mmtune.errors import ERROR, UNEXPECTED, MmtuneError
from mmtune.metrics.text.wer import WordErrors
from mmtune.system.storage_errors import translated


def raises(error: BaseException) -> Callable[..., int]:
    def command(options: object) -> int:
        raise error

    return command


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "runs/a/log.jsonl"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "runs/a"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
        OSError("We couldn't connect to the hub"),
    ],
    ids=["disk full", "vanished", "torch's writer", "a library's own message"],
)
def test_an_error_of_the_system_is_an_error_with_a_cure(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_commands, "recipes", raises(error))
    assert main(["recipes"]) == ERROR
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "\n  cure: " in said
    assert "Traceback" not in said


def test_a_fault_of_mmtune_keeps_its_traceback_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path))
    monkeypatch.setattr(run_commands, "recipes", raises(TypeError("planted\x1b[31m")))
    assert main(["recipes"]) == UNEXPECTED
    said = capsys.readouterr().err
    assert "internal error: TypeError: planted\\x1b[31m" in said
    [log] = (tmp_path / "faults").iterdir()
    assert str(log) in said
    text = log.read_text()
    assert "raise error" in text
    assert "command: mmtune recipes" in text


def test_a_fault_is_printed_if_no_file_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("MMTUNE_CACHE", str(blocked))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(blocked))
    monkeypatch.setattr(run_commands, "recipes", raises(KeyError("planted")))
    assert main(["recipes"]) == UNEXPECTED
    assert "Traceback" in capsys.readouterr().err


def test_a_planted_fault_in_a_metric_is_no_error_of_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The readers of stored files turn a TypeError into an error; computing must not."""
    from mmtune.data.rows import Row
    from mmtune.evaluation.paired import _measure
    from mmtune.image.image_row import ImageRow
    from mmtune.predict import Prediction

    def planted(self: object, row: Row, prediction: Prediction) -> None:
        raise TypeError("planted")

    monkeypatch.setattr(WordErrors, "observe", planted)
    row = ImageRow(id="a", image="a.png", caption="a")
    answer = [Prediction("a", "a")]
    monkeypatch.setattr(
        run_commands,
        "recipes",
        lambda options: _measure(WordErrors("en"), [row], answer, answer),
    )
    assert main(["recipes"]) == UNEXPECTED


def test_a_public_function_translates_and_lets_faults_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmtune.runs import public_functions as public

    def fails(error: Exception) -> Callable[..., None]:
        def call(*given: object, **named: object) -> None:
            raise error

        return call

    monkeypatch.setattr(public, "guess_modality", fails(OSError(errno.EIO, "x", "data")))
    with pytest.raises(MmtuneError, match="data: the disk reports an error"):
        mmtune.check(tmp_path)
    fault = TypeError("planted")
    monkeypatch.setattr(public, "guess_modality", fails(fault))
    with pytest.raises(TypeError) as caught:
        mmtune.check(tmp_path)
    assert caught.value is fault


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["recipes"], ["train", "dialect", "--print-config"]])
def test_a_full_disk_behind_the_output_is_an_error(words: list[str], unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mmtune", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == ERROR
    assert done.stderr.startswith("error: standard output: the disk is full")


def test_a_full_output_is_named_where_a_public_function_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`mmtune transcribe` prints each transcript inside `mmtune.transcribe`."""

    def prints(options: object) -> int:
        with translated():
            print("a transcript", flush=True)
        return 0

    monkeypatch.setattr(run_commands, "recipes", prints)
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["recipes"]) == ERROR
        monkeypatch.undo()
    assert "error: standard output: the disk is full" in capsys.readouterr().err


def test_the_exit_codes_differ() -> None:
    assert len({0, cli.ERROR, cli.INTERRUPTED, UNEXPECTED}) == 4
