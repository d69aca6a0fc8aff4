"""What an import and a check print: whole outputs, and where lists are cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.data.check import check
from mmtune.data.dataset import remarks
from mmtune.data.importing import Imported, LeftOut
from mmtune.data.ledger import Guess, Ledger, Used, guessed_lines, reason_by_kind
from mmtune.data.manifest import scan_files, write_manifest
from tests.data.pieces import SPEECH, write_audio


def left(number: int, kind: str = "left-out") -> LeftOut:
    return LeftOut(f"line {number}", f"it holds {number}", f"correct {number}", kind)


def test_an_import_prints_what_it_did() -> None:
    whole = Imported(
        Path("data"), "csv", 5, (left(1), left(7, "empty"), left(2), left(3)), seconds=5_400,
        guesses=(Guess("split", "train", "its name", 2, "a"), Guess("split", "test", "its name")),
        files={"found": 9, "used": 7, "left_out": 2}, new=("a", "b"), removed=("x", "y", "z"),
    )  # fmt: skip
    assert whole.describe(2) == [
        "data  5 rows, 1.50 h (format: csv)",
        "2 rows are new; the others are as they were",
        "3 rows of the earlier import are no longer in the source and were removed: x, y and 1 "
        "more",
        "9 files found, 2 not used",
        "guessed split 'train': its name (2 rows, first a)",
        "guessed split 'test': its name",
        "4 items left out; see data/left_out.jsonl",
        "  line 1: it holds 1. Cure: correct 1",
        "  line 2: it holds 2. Cure: correct 2",
        "  … and 1 more (left-out)",
        "  line 7: it holds 7. Cure: correct 7",
        "next: mmtune check data",
    ]
    assert list(whole.shown()) == whole.describe(5)
    assert "were removed: x, y, z" in whole.describe(3)[2]
    assert not any("more" in line for line in whole.describe(3))


@pytest.mark.parametrize("rows", [0, 3])
def test_a_dry_import_says_what_it_would_do(rows: int) -> None:
    dry = Imported(Path("data"), "csv", rows, (left(1),), removed=("x",), dry=True)
    assert dry.describe() == [
        f"data  {rows} rows would be written (format: csv)",
        "1 rows of the earlier import are no longer in the source and would be removed: x",
        "1 items left out",
        "  line 1: it holds 1. Cure: correct 1",
    ]
    # Rows that are all new, and none that are, are no news.
    for new in ((), ("a", "b", "c")):
        same = Imported(Path("data"), "csv", 3, (), new=new)
        assert same.describe() == ["data  3 rows (format: csv)", "next: mmtune check data"]
    assert Imported(Path("data"), "csv", 0, ()).describe() == ["data  0 rows (format: csv)"]


def test_guesses_are_shown_by_field_and_source_and_the_rest_is_counted() -> None:
    names = [Guess("speaker", name, "folders", n) for name, n in (("a", 3), ("b", 1), ("c", 1_500))]
    other = Guess("speaker", "d", "a column")
    shown = [
        "guessed speaker 'a': folders (3 rows, first )",
        "guessed speaker 'b': folders",
        "guessed speaker 'c': folders (1,500 rows, first )",
    ]
    assert guessed_lines([*names, other], 3) == [*shown, "guessed speaker 'd': a column"]
    assert guessed_lines([*names, other], 2) == [
        *shown[:2],
        "guessed speaker: 1,500 more rows, folders",
        "guessed speaker 'd': a column",
    ]
    assert guessed_lines(names, 1) == [shown[0], "guessed speaker: 1,501 more rows, folders"]
    assert guessed_lines([], 3) == []


def test_a_ledger_adds_up_lines_files_and_guesses(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "c.wav"):
        (tmp_path / name).write_text("x")
    ledger = Ledger([tmp_path], tmp_path)
    ledger.use(Used(tmp_path / "a.csv", 3, 1))
    ledger.use(Used(tmp_path / "a.csv", 2))
    ledger.use_items(tmp_path / "a.csv", 2)
    ledger.use_items(tmp_path / "a.csv", 0)
    ledger.leave(tmp_path / "a.csv", 2)
    ledger.leave(tmp_path / "b.csv")
    items = ledger.items["a.csv"]
    assert (items.found, items.used, items.left_out) == (5, 3, 2)
    assert ledger.counts() == {"found": 3, "used": 1, "left_out": 1}
    [finding] = ledger.findings()
    assert (finding.kind, finding.file) == ("unused-file", "c.wav")
    assert ledger.counts() == {"found": 3, "used": 1, "left_out": 2}
    for rows, first in ((2, "a"), (5, "b")):
        ledger.guess(Guess("split", "train", "its name", rows, first))
    assert list(ledger.guesses.values()) == [Guess("split", "train", "its name", 7, "a")]


@pytest.mark.parametrize(
    ("name", "kind", "severity"),
    [
        ("a.csv", "unused-table", "warning"), ("a.PARQUET", "unused-table", "warning"),
        ("a.xlsx", "unused-table", "warning"), ("a.txt", "unused-text", "warning"),
        ("a.srt", "unused-subtitles", "warning"), ("a.zip", "unused-archive", "warning"),
        ("a.bin", "unused-file", "note"), ("README", "unused-file", "note"),
    ],
)  # fmt: skip
def test_a_file_that_nobody_reads_has_its_kinds_reason(name: str, kind: str, severity: str) -> None:
    found = reason_by_kind(Path(name))
    assert (found.kind, found.severity) == (kind, severity)
    assert ("save it as CSV" in found.cure) is name.endswith(".xlsx")


def test_files_are_listed_in_one_order_on_any_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order in which the file system names them; hidden ones are skipped."""
    names = ["b/2.wav", "b/1.WAV", "a/z/1.wav", "a/1.flac", "a/1.wav", "c.wav"]
    skipped = [".c.wav", ".git/1.wav", "__MACOSX/1.wav", "c.txt"]
    for name in [*names, *skipped]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    import os

    walk = os.walk

    def turned(top: Path):  # type: ignore[no-untyped-def]
        for parent, folders, files in walk(top):
            folders.sort(reverse=True)
            yield parent, folders, sorted(files, reverse=True)

    expected = [
        ("c", "c.wav"), ("a/1", "a/1.flac"), ("a/1.wav", "a/1.wav"), ("a/z/1", "a/z/1.wav"),
        ("b/1", "b/1.WAV"), ("b/2", "b/2.wav"),
    ]  # fmt: skip
    for found in (walk, turned):
        monkeypatch.setattr(os, "walk", found)
        listed = [(row, path.as_posix()) for row, path in scan_files(tmp_path, (".wav", ".FLAC"))]
        assert listed == expected


def test_remarks_are_one_line_for_each_kind_and_say_what_is_left_out(tmp_path: Path) -> None:
    """What a user who trains is shown: no notes, and the first of each kind in full."""
    rows = []
    for i in range(6):
        write_audio(tmp_path / f"{i}.flac", seed=i)
        rows.append({"id": f"r{i}", "audio": f"{i}.flac", "text": f"words {i}"})
    write_manifest(tmp_path / "manifest.jsonl", rows)
    (tmp_path / "notes.bin").write_text("x")
    assert not [line for line in remarks(check(tmp_path, SPEECH, strict=False)) if "left" in line]
    for i in (1, 4):
        (tmp_path / f"{i}.flac").unlink()
    data = check(tmp_path, SPEECH, strict=False)
    assert any(finding.severity == "note" for finding in data.findings)
    errors = [line for line in remarks(data) if line.startswith("error")]
    assert len(errors) == 1
    assert ", 2 times: " in errors[0]
    assert "1.flac" in errors[0]
    assert "4.flac" not in errors[0]
    assert not any(line.startswith("note") for line in remarks(data))
    assert remarks(data)[-1] == (f"2 rows are left out; list them with mmtune check {tmp_path}")
