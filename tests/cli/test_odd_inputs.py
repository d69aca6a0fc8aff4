"""Odd inputs for every place that takes a path, a name, a number or a map: one error, with a cure.

Each case runs the command in this process, under an alarm: a command that waits for a pipe fails.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from mmtune.cli import main
from mmtune.errors import ERROR, printable

SECONDS = 20

Make = Callable[[Path, str], Path]


def fifo(folder: Path, suffix: str) -> Path:
    os.mkfifo(folder / f"pipe{suffix}")
    return folder / f"pipe{suffix}"


def folder_named(folder: Path, suffix: str) -> Path:
    (folder / f"folder{suffix}").mkdir()
    return folder / f"folder{suffix}"


def holding(content: bytes) -> Make:
    def make(folder: Path, suffix: str) -> Path:
        path = folder / f"odd{suffix}"
        path.write_bytes(content)
        return path

    return make


def not_utf8_name(folder: Path, suffix: str) -> Path:
    path = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).with_suffix(suffix or ".x")
    path.write_bytes(b"\xff\xfe\x80")
    return path


BOMB = b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 12)
)
DATES = (
    b"recipe: 2024-01-01\nmodality: speech\nbase: 2024-01-01\nlora: {rank: 2024-01-01}\n"
    b"by: accent\nlabels: {2024-01-01: {x: 2024-01-02}}\n"
)
NULLS = b"recipe: null\nmodality: speech\nlora: null\ntrain: null\nby: null\nlabels: null\n"
ODD: dict[str, Make] = {
    "a name of 300 bytes": lambda folder, suffix: folder / ("x" * 300 + suffix),
    "a pipe": fifo,
    "a folder with a file's suffix": folder_named,
    "a name that isn't UTF-8": not_utf8_name,
    "bytes that aren't UTF-8": holding(b"\xff\x80\xc3\x28"),
    "deep nesting": holding(b"[" * 100_000),
    "deep nesting of maps": holding(b'{"a":' * 100_000),
    "null": holding(b"null\n"),
    "nothing": holding(b""),
    "a bomb of aliases": holding(BOMB),
    "dates": holding(DATES),
    "null in place of maps": holding(NULLS),
    "half a surrogate": holding(b'{"id": "\\udcff", "audio": "\\udcff.wav", "text": "\\ud800"}\n'),
    "a number of 5,000 digits": holding(b"train: {lr: %s}\nby: x\n" % (b"9" * 5_000)),
}

# For each command: the file's suffix, and the words.
Words = Callable[[str, Path], list[str]]
COMMANDS: dict[str, tuple[str, Words]] = {
    "caption": ("", lambda odd, out: ["caption", odd]),
    "check": (".x", lambda odd, out: ["check", odd, "--modality", "speech"]),
    "compose": ("", lambda odd, out: ["compose", odd, f"{odd}=2", "--out", f"{out}/made"]),
    "compose --route": (
        ".yaml",
        lambda odd, out: ["compose", "--route", odd, "--out", f"{out}/made"],
    ),
    "evaluate": ("", lambda odd, out: ["evaluate", odd]),
    "export": (
        "",
        lambda odd, out: ["export", odd, "--format", "kohya", "--out", f"{out}/a.safetensors"],
    ),
    "generate --rows": (".jsonl", lambda odd, out: ["generate", "--rows", odd, "--base", "none"]),
    "generate --adapter": (
        "",
        lambda odd, out: ["generate", "--prompt", "a", "--adapter", odd],
    ),
    "redact": (
        ".x",
        lambda odd, out: ["redact", odd, "--to", f"{out}/made", "--modality", "image"],
    ),
    "report": ("", lambda odd, out: ["report", odd]),
    "review": ("", lambda odd, out: ["review", odd]),
    "review --answers": (".json", lambda odd, out: ["review", str(out), "--answers", odd]),
    "train": (".yaml", lambda odd, out: ["train", odd, "--out", str(out)]),
    "train --data": (
        ".jsonl",
        lambda odd, out: ["train", "dialect", "--data", odd, "--out", str(out), "--base", "none"],
    ),
    "train --suite": (
        ".yaml",
        lambda odd, out: ["train", "dialect", "--suite", odd, "--data", odd, "--out", str(out)],
    ),
    "transcribe --adapter": ("", lambda odd, out: ["transcribe", "--adapter", odd, odd]),
    "transcribe": (".wav", lambda odd, out: ["transcribe", "--base", "none", odd]),
}


READERS = ("compose --route", "generate --rows", "review --answers")
READERS += ("train", "train --data", "train --suite")
CASES = [(c, o) for c in COMMANDS for o in ODD if c in READERS or o in list(ODD)[:4]]


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """Import the slow libraries first: the alarm must not ring inside an import."""
    from transformers import WhisperForConditionalGeneration  # noqa: F401

    import mmtune.image.diffusion.base
    import mmtune.pages.report
    import mmtune.speech.transcription.transcribe
    import mmtune.training.loop  # noqa: F401


class Hang(BaseException):
    """A command that doesn't end; no `except Exception` catches it."""


@pytest.fixture(autouse=True)
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang

    old = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


def require_one_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command, and check that it ends with one error and its cure."""
    code = main(words)
    said = capsys.readouterr().err
    lines = said.splitlines()
    assert code == ERROR, said
    assert len([line for line in lines if line.startswith("error: ")]) == 1, said
    assert "  cure: " in said
    assert "Traceback" not in said
    assert "Errno" not in said
    return said


@pytest.mark.parametrize(("command", "odd"), CASES)
def test_an_odd_file_is_one_error_with_a_cure(
    command: str, odd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix, words = COMMANDS[command]
    (tmp_path / "runs").mkdir()
    path = ODD[odd](tmp_path, suffix)
    said = require_one_error(words(str(path), tmp_path / "runs"), capsys)
    # Some commands find their missing base first.
    assert printable(path.name)[:60] in said or "base 'none'" in said


@pytest.mark.parametrize(
    "setting",
    [
        ("--name", "../../x"),
        ("--name", ""),
        ("--name", ".."),
        ("--name", "a/b"),
        ("--name", "x" * 300),
        ("--name", "a\x1b[31m"),
        ("--name", "\udcff"),
        ("--lr", "inf"),
        ("--lr", "nan"),
        ("--lr", ".inf"),
        ("--lr", "2024-01-01"),
        ("--lr", "9" * 5_000),
        ("--lr", "[" * 5_000),
        ("--rank", "100000000"),
        ("--rank", "null"),
        ("--seed", "-1"),
        ("--seed", "9" * 40),
        ("--alpha", "-.inf"),
        ("--scales", "1,inf"),
        ("--epochs", "1e400"),
        ("--base", "\udcff"),
        ("--lora", "null"),
    ],
    ids=lambda each: f"{each[0]} {each[1][:12]!r}" if isinstance(each, tuple) else None,
)
def test_an_odd_setting_is_one_error_with_a_cure(
    setting: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, value = setting
    data = tmp_path / "empty"
    data.mkdir()
    words = ["train", "dialect", f"{name}={value}", "--out", str(tmp_path / "runs")]
    words += ["--data", str(data)] + ([] if name == "--base" else ["--base", "none"])
    said = require_one_error(words, capsys)
    assert not (tmp_path / "x").exists()
    assert len(said) < 1_000


@pytest.mark.parametrize(
    "words",
    [
        ["cache", "prune", "--max-gb", "inf"],
        ["cache", "prune", "--max-gb", "nan"],
        ["cache", "prune", "--older-than", "-1"],
        ["review", "x", "--items", "100000000"],
        ["review", "x", "--seed", "9" * 40],
        ["generate", "--prompt", "a", "--base", "none", "--scale", "nan"],
        ["generate", "--prompt", "a", "--base", "none", "--guidance", "inf"],
        ["generate", "--prompt", "a", "--base", "none", "--seeds", "1," + "9" * 40],
        ["generate", "--prompt", "a", "--base", "none", "--adapter", "x=nan"],
        ["compose", "a=nan", "b", "--out", "c"],
        ["compose", "a", "b", "--out", "c", "--density", "inf"],
        ["compose", "a", "b", "--out", "c", "--method", "svd", "--rank", "100000000"],
        ["export", "a", "--format", "kohya", "--out", "b", "--scale", "inf"],
        ["transcribe", "--base", "none", "a.wav", "--beams", "9" * 5_000],
        ["generate", "--prompt", "\udcff", "--base", "none"],
        ["transcribe", "--language", "\udcff", "--base", "none", "a.wav"],
        ["\udcff"],
        ["init", "\udcff"],
        ["init", "dialect", "--to", "x" * 300],
    ],
    ids=lambda each: " ".join(each)[:60].encode("ascii", "backslashreplace").decode(),
)
def test_an_odd_number_or_name_is_one_error_with_a_cure(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    require_one_error(words, capsys)
    assert list(tmp_path.iterdir()) == []
