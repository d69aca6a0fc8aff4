"""Used files and lines, and those with findings, are together all that a source holds.

Each fixture gets strange files of two dozen kinds. What is in a source is listed by `os.scandir`,
and lines are counted by Python's csv, webvtt-py, `datasets` and plain counting.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webvtt

from mmtune.cli import main
from mmtune.data.check import check
from mmtune.data.ledger import Ledger, Used
from mmtune.data.manifest import write_manifest
from mmtune.speech.corpus.importers import import_speech
from tests.data.pieces import IMAGE, SPEECH, write_audio, write_image
from tests.speech.corpus import test_import

TEXTS = {
    "notes.txt": "call back on Monday", "deep/er/memo.txt": "x", "README.md": "# hello",
    "LICENSE": "CC0", "list.xlsx": "PK", "more.zip": "PK", "model.onnx": "x", "empty": "",
    "calls.docx": "PK", "stray.srt": "1\n00:00:00,000 --> 00:00:01,000\nhello\n",
    "stray.ass": "[Events]", "labels.TextGrid": "x", "deep/other.parquet": "PAR1",
    "deep/old.tsv": "path\tsentence\na.wav\thello\n", "film.kdenlive": "x",
}  # fmt: skip
LITTER = {
    ".DS_Store": "x", "Thumbs.db": "x", "desktop.ini": "x", "._a.wav": "x", ".hidden.wav": "x",
    ".git/config": "x", "deep/__MACOSX/a.wav": "x", "@eaDir/a.jpg": "x",
}  # fmt: skip


def plant(folder: Path) -> set[str]:
    """Write files that no reader wants; return their names, hidden folders as one."""
    for name, text in (TEXTS | LITTER).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    os.mkfifo(folder / "pipe")
    (folder / "nowhere").symlink_to(folder / "gone")
    (folder / "again").symlink_to(folder / "deep")
    hidden = {".git", "deep/__MACOSX", "@eaDir"}
    loose = {name for name in LITTER if not name.startswith(tuple(f"{each}/" for each in hidden))}
    return {*TEXTS, *loose, *hidden, "pipe", "nowhere", "again"}


def inventory(folder: Path, prefix: str = "") -> set[str]:
    """The names of all files; a linked or hidden folder is one item."""
    found = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            skipped = entry.name.startswith((".", "__MACOSX", "@eaDir"))
            if entry.is_dir(follow_symlinks=False) and not skipped:
                found |= inventory(Path(entry.path), f"{name}/")
            else:
                found.add(name)
    return found


def words_with_sound(folder: Path) -> Path:
    for i in range(3):
        write_audio(folder / f"sub/{i}.wav", seed=i)
        (folder / f"sub/{i}.txt").write_text(f"words {i}")
    write_audio(folder / "silent.mp3", seed=9)
    return folder


def listed(folder: Path) -> Path:
    rows = []
    for i in range(3):
        write_audio(folder / f"clips/{i}.wav", seed=i)
        rows.append({"id": str(i), "audio": f"clips/{i}.wav", "text": f"words {i}"})
    write_manifest(folder / "manifest.jsonl", [*rows, rows[0], {"id": "x", "text": "no file"}])
    with (folder / "manifest.jsonl").open("a") as file:
        file.write("{\n\n")
    write_audio(folder / "clips/unnamed.wav", seed=9)
    (folder / "train.jsonl").write_text("{}\n")
    return folder


def by_split(folder: Path) -> Path:
    for i, name in enumerate(["train", "validation", "test"]):
        write_audio(folder / f"{i}.wav", seed=i)
        row = {"audio": f"{i}.wav", "text": f"words {i}"}
        write_manifest(folder / f"{name}.jsonl", [row])
    return folder


def pictures(folder: Path) -> Path:
    write_image(folder / "red-apple_01.png", 1)
    write_image(folder / "0001.jpg", 2)
    (folder / "0001.txt").write_text("a pear")
    (folder / "0001.caption").write_text("another pear")
    write_image(folder / "0002.png", 3)
    write_image(folder / "10_acme icon/0003.webp", 4)
    write_image(folder / "0001.mask.png", 5)
    (folder / "photo.heic").write_bytes(b"x")
    return folder


def imagefolder(folder: Path) -> Path:
    for i, place in enumerate(["train/1.png", "train/2.png", "test/3.png"]):
        write_image(folder / place, i)
    (folder / "train/1.txt").write_text("spare")
    lines = [
        {"file_name": "1.png", "text": "one"},
        {"file_name": "1.png", "text": "one again"},
        {"file_name": "gone.png", "text": "no file"},
        {"file_name": "sound.wav", "text": "no image"},
        {"text": "no name"},
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n\n{\n"
    (folder / "train/metadata.jsonl").write_text(text)
    (folder / "test/metadata.csv").write_text("file_name,text\n3.png,three\n")
    return folder


def lines_of(path: Path) -> int:
    return sum(1 for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())


# What `check` reads: the fixture, its reader, and the files that aren't used of its own.
CHECKED: dict[str, tuple[Callable[[Path], Path], Any, set[str]]] = {
    "recordings": (words_with_sound, SPEECH, {"silent.mp3"}),
    "manifest": (listed, SPEECH, {"clips/unnamed.wav", "train.jsonl"}),
    "split manifests": (by_split, SPEECH, set()),
    "pictures": (pictures, IMAGE, {"0001.caption", "0002.png", "photo.heic"}),
    "imagefolder": (imagefolder, IMAGE, {"train/1.txt", "train/2.png"}),
}


@pytest.mark.parametrize("name", CHECKED)
def test_check_accounts_for_each_file_and_line(tmp_path: Path, name: str) -> None:
    make, reader, own = CHECKED[name]
    folder = make(tmp_path / "source")
    planted = plant(folder)
    data = check(folder, reader, strict=False)
    everything = inventory(folder)
    unused = planted | own
    assert {f.file for f in data.findings if f.line is None} >= unused
    assert data.files["found"] == len(everything)
    # Rows that can't be made are findings, and their files count as left out.
    assert data.files["used"] + data.files["left_out"] == len(everything)
    assert data.files["left_out"] == len(unused)
    assert all(f.message and f.cure for f in data.findings)
    for place, (found, used) in data.lines.items():
        path = folder / place
        wanted = lines_of(path) - (path.suffix == ".csv")
        named = {f.line for f in data.findings if f.file == place and f.line is not None}
        assert found == wanted
        assert found - used == len(named), place
    manifests = [
        each for each in everything if Path(each).name.startswith(("manifest", "metadata"))
    ]
    assert data.lines.keys() >= set(manifests)


def records(path: Path) -> int:
    """Count the records of a table or the cues of subtitles by another program."""
    if path.suffix in (".csv", ".tsv"):
        delimiter = ";" if path.name == "list.csv" else "\t" if path.suffix == ".tsv" else ","
        with path.open(newline="") as file:
            return sum(1 for _ in csv.DictReader(file, delimiter=delimiter))
    if path.suffix in (".srt", ".vtt"):
        read = webvtt.WebVTT.from_srt if path.suffix == ".srt" else webvtt.WebVTT.read
        return len(read(str(path), encoding="utf-8-sig").captions)
    if path.suffix == ".parquet":
        return int(pytest.importorskip("pyarrow.parquet").read_table(path).num_rows)
    if path.is_dir():
        return len(pytest.importorskip("datasets").load_from_disk(str(path)))
    return lines_of(path)


# Files of the fixtures that their layout doesn't read.
OWN = {"commonvoice": {"validated.tsv"}}


@pytest.mark.parametrize("name", test_import.SAMPLES)
def test_an_import_accounts_for_each_file_and_line(tmp_path: Path, name: str) -> None:
    source = test_import.SAMPLES[name](tmp_path / "source")
    layout = test_import.CALLED.get(name, name)
    source = source if source.is_dir() else source.parent
    planted = plant(source)
    if name == "parquet":  # it would be read, and is none
        (source / "deep/other.parquet").unlink()
        planted.discard("deep/other.parquet")
    beside, recordings = tmp_path / "source/wavs", {}
    everything, unused = inventory(source), planted | OWN.get(name, set())
    if beside.is_dir():  # Kaldi's recordings lie outside of its folder
        write_audio(beside / "spare.wav", seed=9)
        recordings = {"recordings": str(beside)}
        everything |= {f"{beside}/{each}" for each in inventory(beside)}
        unused |= {f"{beside}/spare.wav"}
    result = import_speech(source, tmp_path / "to", layout, recordings)
    left = [each.file for each in result.left_out if not each.items]
    assert set(left) >= unused
    assert result.files == {
        "found": len(everything),
        "used": len(everything) - len(unused),
        "left_out": len(unused),
    }
    assert result.rows == (6 if name == "commonvoice" else 4)
    for place, counts in result.lines.items():
        assert counts["found"] == records(source / place), place
        assert counts["found"] == counts["used"] + counts["left_out"], place
        left_out = sum(each.items for each in result.left_out if each.file == place)
        assert left_out == counts["left_out"]
    assert bool(result.lines) == (name != "transcripts")
    assert all(each.found and each.cure for each in result.left_out)
    stored = (tmp_path / "to/left_out.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in stored] == [e.file for e in result.left_out]


def test_bad_lines_of_each_kind_are_counted(tmp_path: Path) -> None:
    write_audio(tmp_path / "a/1.wav", seconds=1.0)
    (tmp_path / "a/list.csv").write_text(
        'audio,text\n1.wav,"one\ntwo"\n\ngone.wav,x\n1.wav,\n,words\n1.wav,a,b\n1.wav,last\n'
    )
    (tmp_path / "a/notes.csv").write_text("when,what\nmonday,call\ntuesday,mail\n")
    (tmp_path / "a/empty.csv").write_text("audio,text\n")
    result = import_speech(tmp_path / "a", tmp_path / "to")
    assert result.lines == {
        "list.csv": {"found": 6, "used": 2, "left_out": 4},
        "notes.csv": {"found": 2, "used": 0, "left_out": 2},
    }
    kinds = {each.where: each.kind for each in result.left_out}
    assert kinds["list.csv line 5"] == "missing"
    assert kinds["notes.csv line 2"] == "no-column"
    assert kinds["empty.csv"] == "empty-table"
    assert result.files == {"found": 4, "used": 3, "left_out": 1}


def test_a_transcript_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_audio(tmp_path / f"set/{name}.wav", seconds=1.0)
    (tmp_path / "set/a.txt").write_text("hello")
    (tmp_path / "set/b.txt").write_bytes(b"f\xfcr")
    result = import_speech(tmp_path / "set", tmp_path / "to")
    found = {each.file: each.found for each in result.left_out}
    assert found["b.txt"] == "it is not UTF-8"
    assert found["c.wav"] == "the recording has no transcript"
    assert found.keys() == {"b.txt", "b.wav", "c.wav"}
    assert result.files == {"found": 5, "used": 2, "left_out": 3}


def test_an_unreadable_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words_with_sound(tmp_path)
    (tmp_path / "locked").mkdir()
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    (finding,) = Ledger([tmp_path / "locked"]).findings()
    assert (finding.kind, finding.severity) == ("unreadable-folder", "error")
    data = check(tmp_path, SPEECH, strict=False)
    assert ("locked", "unreadable-folder") in {(f.file, f.kind) for f in data.findings}


def test_links_inside_the_folder_are_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    ledger = Ledger([tmp_path])
    ledger.use(Used(tmp_path / "b"))
    assert [finding.file for finding in ledger.findings()] == ["a"]


GUESSES = {
    "commonvoice": ("split", "validation", "the name of dev.tsv"),
    "table": ("separator", ";", "the most frequent one in the first line of list.csv"),
    "audiofolder": ("split", "test", "the name of the folder test"),
    "saved": ("split", "test", "the name of the split test"),
    "parquet": ("split", "test", "the name of test-00000-of-00001.parquet"),
    "kaldi": ("split", "test", "the name of the folder test"),
    "vtt": ("language", "en", "the name of talk.en.vtt"),
}


@pytest.mark.parametrize("name", GUESSES)
def test_guessed_values_name_their_source(tmp_path: Path, name: str) -> None:
    source = test_import.SAMPLES[name](tmp_path / "source")
    result = import_speech(source, tmp_path / "to", settings={"recordings": str(tmp_path)})
    found = {(guess.what, guess.value, guess.source) for guess in result.guesses}
    assert GUESSES[name] in found
    layout = test_import.CALLED.get(name, name)
    assert ("format", layout, f"the content of {source.name}") in found
    assert any(str(GUESSES[name][1]) in line for line in result.describe())


def test_guesses_of_check_name_their_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {(g.what, g.value, g.source) for g in check(pictures(tmp_path / "a"), IMAGE,
                                                        strict=False).guesses}  # fmt: skip
    assert found == {
        ("caption", "red apple", "the image's name"),
        ("caption", "acme icon", "the name of the folder 10_acme icon"),
    }
    found = {(g.what, g.value, g.source) for g in check(imagefolder(tmp_path / "b"), IMAGE,
                                                        strict=False).guesses}  # fmt: skip
    assert ("split", "test", "the name of the folder test") in found
    by_split(tmp_path / "c")
    assert main(["check", str(tmp_path / "c"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    guesses = {(each["what"], each["value"], each["source"]) for each in facts["guesses"]}
    assert ("split", "test", "the name of test.jsonl") in guesses
    assert main(["check", str(tmp_path / "c")]) == 0
    assert "guessed split 'test': the name of test.jsonl" in capsys.readouterr().out


def test_json_of_check_has_rows_hours_lines_and_levels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(listed(tmp_path)), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert facts["rows"] == 6
    assert facts["hours"] == pytest.approx(0.9 / 3600)
    assert facts["files"] == {"found": 6, "used": 4, "left_out": 2}
    assert facts["lines"] == {"manifest.jsonl": {"found": 6, "rows": 3, "left_out": 3}}
    places = {(each["file"], each["line"], each["kind"], each["severity"])
              for each in facts["findings"]}  # fmt: skip
    assert ("manifest.jsonl", 4, "duplicate-id", "error") in places
    assert ("manifest.jsonl", 5, "missing-key", "error") in places
    assert ("manifest.jsonl", 6, "not-json", "error") in places
    assert ("clips/unnamed.wav", None, "unnamed", "warning") in places
    assert all(each["cure"] for each in facts["findings"])
    # Findings of a row's sound lead to its line, too.
    (tmp_path / "clips/2.wav").write_bytes(b"RIFF")
    assert main(["check", str(tmp_path), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    (broken,) = (each for each in facts["findings"] if each["row"] == "2")
    assert (broken["file"], broken["line"]) == ("manifest.jsonl", 3)


def test_subtitles_in_several_languages_are_named(tmp_path: Path) -> None:
    write_audio(tmp_path / "set/talk.wav", seconds=2.0)
    for code in ("en", "de"):
        text = "WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n"
        (tmp_path / f"set/talk.{code}.vtt").write_text(text)
    result = import_speech(tmp_path / "set", tmp_path / "to")
    assert {each.file for each in result.left_out} == {"talk.wav", "talk.de.vtt", "talk.en.vtt"}
    assert all("several languages" in each.found for each in result.left_out)
    assert result.files == {"found": 3, "used": 0, "left_out": 3}


@pytest.mark.parametrize("kind", [".png", ".jpg", ".wav", ".mp3"])
def test_files_that_a_manifest_does_not_name(tmp_path: Path, kind: str) -> None:
    """Of whatever suffix, with the texts beside them."""
    is_image = kind in (".png", ".jpg")
    if is_image:
        write_image(tmp_path / "a.png", 1)
        row = {"id": "a", "image": "a.png", "caption": "an apple"}
    else:
        write_audio(tmp_path / "a.wav", seed=1)
        row = {"id": "a", "audio": "a.wav", "text": "an apple"}
    write_manifest(tmp_path / "manifest.jsonl", [row])
    for name in (f"Rocket FINAL v2{kind}", "Rocket FINAL v2.txt", "a.txt"):
        (tmp_path / name).write_bytes(b"x")
    data = check(tmp_path, IMAGE if is_image else SPEECH, strict=False, divide=False)
    found = {each.file: (each.kind, each.message, each.cure) for each in data.findings}
    name = f"Rocket FINAL v2{kind}"
    media = "image" if is_image else "audio"
    assert found[name] == (
        "unnamed",
        f"no row of the manifest names it as {media}",
        "add a row for it, or remove it",
    )
    assert found["Rocket FINAL v2.txt"] == (
        "unused-text",
        f"its file {name} isn't in the manifest",
        f"add a row for {name} with this text, or remove both",
    )
    assert found["a.txt"][1:] == ("the manifest holds the texts", "remove it")
