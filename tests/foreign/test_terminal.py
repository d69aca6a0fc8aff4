"""No name, id, transcript, rater or error can control the terminal that it is printed on."""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmtune.cli import main
from mmtune.cli.console import show
from mmtune.errors import ConfigError, displayable, printable
from mmtune.runs.rich_reporter import RichReporter
from mmtune.system.output import say
from mmtune.system.progress import SafeConsole
from tests.data.pieces import write_audio, write_image
from tests.pages.test_review import data_of, speech_run

ROOT = Path(__file__).parents[2]
# A title of the window, a colour by C1, an order of letters, and rich's markup.
EVIL = "\x1b]0;owned\x07\x9b31m\u202eevil\r[bold red]x[-red]"
SHOWN = r"\x1b]0;owned\x07\x9b31m\u202eevil\r[bold red]x[-red]"
NAME = EVIL.replace("/", "-")
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make standard output and error one terminal, to which rich writes no colours.

    Not as a fixture: pytest replaces the streams again between a fixture and its test.
    """
    stream = Terminal()
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr("sys.stderr", stream)
    return stream


def check_recordings(folder: Path) -> list[str]:
    for i in range(2):
        write_audio(folder / f"{NAME} {i}.wav", seed=1, seconds=1.0)
        (folder / f"{NAME} {i}.txt").write_text(EVIL)
    return ["check", str(folder), "--all"]


def check_images(folder: Path) -> list[str]:
    for i in range(2):
        write_image(folder / f"{NAME} {i}.png", seed=1)
        (folder / f"{NAME} {i}.txt").write_text(EVIL)
    return ["check", str(folder), "--all"]


def check_manifest(folder: Path) -> list[str]:
    row = {"id": EVIL, "audio": EVIL, "text": EVIL, EVIL: 1}
    (folder / "manifest.jsonl").write_text(json.dumps(row))
    return ["check", str(folder), "--modality", "speech"]


def import_table(folder: Path) -> list[str]:
    (folder / "calls.jsonl").write_text(json.dumps({"audio": EVIL, "text": EVIL, "id": EVIL}))
    return ["import", str(folder), "--to", str(folder.parent / NAME), "--format", "table"]


def caption(folder: Path) -> list[str]:
    write_image(folder / f"{NAME} apple.png", seed=1)
    return ["caption", str(folder)]


def report(folder: Path) -> list[str]:
    return ["report", str(speech_run(folder / NAME))]


def review(folder: Path) -> list[str]:
    return ["review", str(speech_run(folder / NAME))]


def answers(folder: Path) -> list[str]:
    run = speech_run(folder / NAME)
    assert main(["review", str(run)]) == 0
    page = data_of(run / "review" / "review.html")
    given = {item["id"]: "A" for item in page["items"]}
    values = {"review": page["review"], "rater": EVIL, "answers": given}
    (folder / "answers.json").write_text(json.dumps(values))
    return ["review", str(run), "--answers", str(folder / "answers.json")]


COMMANDS: tuple[Callable[[Path], list[str]], ...] = (
    *(check_recordings, check_images, check_manifest, import_table, caption),
    *(report, review, answers),
)
# Each ends with an error that names what was given.
REFUSED = (
    [EVIL],
    ["recipes", EVIL],
    ["init", EVIL],
    ["init", "dialect", EVIL + "/x/y"],
    ["train", EVIL],
    ["train", "dialect", f"--{EVIL}", "1"],
    ["train", "dialect", "--data", f"/{EVIL}"],
    ["evaluate", EVIL],
    ["report", EVIL],
    ["review", EVIL],
    ["check", EVIL],
    ["import", EVIL, "--to", "x"],
    ["caption", EVIL],
    ["transcribe", "--base", "starter:x", EVIL],
    ["transcribe", "--adapter", EVIL, "a.wav"],
    ["generate", "--adapter", EVIL, "--prompt", "x"],
    ["compose", EVIL, "b", "--out", "x"],
    ["export", EVIL, "--format", "kohya", "--out", "x"],
    ["cache", EVIL],
)


@pytest.mark.parametrize("make", COMMANDS)
def test_what_a_command_shows_of_data(
    make: Callable[[Path], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = on_terminal(monkeypatch)
    folder = tmp_path / "data"
    folder.mkdir()
    main(make(folder))
    shown = terminal.getvalue()
    assert not CONTROLS.findall(shown)
    assert r"\x1b]0;owned" in shown.replace("\n", "")
    assert "[bold red]" in shown.replace("\n", "")


@pytest.mark.parametrize("words", REFUSED, ids=lambda words: f"{words[0][-8:]} {len(words)}")
def test_errors(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    monkeypatch.chdir(tmp_path)
    main(words)
    shown = terminal.getvalue()
    assert shown
    assert not CONTROLS.findall(shown)


def spoken(text: str) -> Any:
    """A function in the place of `transcribe`, which hears `text` in every file."""
    from mmtune.speech.api import TranscribedFile
    from mmtune.speech.transcription.transcript import Transcript

    def transcribe(files: Any, **given: Any) -> Any:
        each = TranscribedFile(Path("a.wav"), "a", transcript=Transcript(text, "en", ()))
        given["on_each"](each, 1)

        class Found(list[TranscribedFile]):
            notes = (text,)

        return Found([each])

    return transcribe


@pytest.mark.parametrize("format", ["txt", "json"])
def test_transcripts(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    monkeypatch.setattr("mmtune.speech.command.api.transcribe", spoken(f"a\tb\n{EVIL}"))
    assert main(["transcribe", "--base", "x", "a.wav", "--format", format]) == 0
    assert not CONTROLS.findall(terminal.getvalue())
    if format == "txt":
        assert terminal.getvalue().startswith(f"a\tb\n{SHOWN}")


def test_what_is_piped_is_exact(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"a\tb\n{EVIL}"
    monkeypatch.setattr("mmtune.speech.command.api.transcribe", spoken(text))
    assert main(["transcribe", "--base", "x", "a.wav"]) == 0
    piped = capsys.readouterr()
    assert piped.out == text + "\n"
    assert not CONTROLS.findall(piped.err), "notes are escaped in logs too"


def test_tables_bars_and_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    show([EVIL, [["name", "items"], [EVIL, "1"]]])
    SafeConsole(stderr=True).print(EVIL)
    with RichReporter(SafeConsole(stderr=True)) as reporter:
        reporter.note(EVIL)
        reporter.validation(1, {EVIL: 0.5}, True)
    shown = terminal.getvalue()
    assert not CONTROLS.findall(shown)
    assert shown.replace("\n", "").count("[bold red]x[-red]") == 5


def test_an_unprintable_name_ends_no_command() -> None:
    stream = SimpleNamespace(encoding="ascii", isatty=lambda: False, written="")

    def write(text: str) -> None:
        text.encode("ascii")
        stream.written += text

    stream.write = write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        say("caf\udce9 é")
    assert stream.written == "caf\\udce9 \\xe9\n"


def test_what_is_escaped() -> None:
    assert displayable(EVIL) == SHOWN
    assert displayable("a\n\tb") == "a\n\tb"
    assert printable("a\n\tb") == "a\\n\\tb"
    # Joiners, marks and spaces that languages need.
    for kept in (
        "نمی\u200cخواهم",
        "क्\u200dष",
        "👩\u200d🚀",
        "a\u00a0b",
        "שלום\u200f",
        "日本語\u3000",
    ):
        assert printable(kept) == kept
    assert displayable("\u2028\u2066\ud800") == "\\u2028\\u2066\\ud800"


MAY_PRINT = {"system/output.py": (), "system/progress.py": ("Console",)}


def test_nothing_else_prints() -> None:
    found = []
    for path in sorted((ROOT / "mmtune").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                name = path.relative_to(ROOT / "mmtune").as_posix()
                if node.func.id in ("print", "Console") and name not in MAY_PRINT:
                    found.append(f"{name}:{node.lineno} {node.func.id}")
            if isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr"):
                name = path.relative_to(ROOT / "mmtune").as_posix()
                if isinstance(node.value, ast.Name) and node.value.id == "sys":
                    found.append(f"{name}:{node.lineno} sys.{node.attr}")
    allowed = ("system/output.py", "cli/__init__.py")  # the second closes a broken pipe
    assert [each for each in found if not each.startswith(allowed)] == []


def test_an_error_s_cure_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)

    def fail(arguments: list[str]) -> int:
        raise ConfigError(EVIL, EVIL)

    monkeypatch.setattr("mmtune.cli._run", fail)
    assert main(["check"]) == 2
    assert terminal.getvalue() == f"error: {SHOWN}\n  cure: {SHOWN}\n"
