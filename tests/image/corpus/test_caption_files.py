"""Captions in files of any spelling and encoding, in kohya's JSON, and several of one image."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from mmtune.data.check import check
from mmtune.data.dataset import describe
from mmtune.data.manifest import write_manifest
from mmtune.errors import DataError
from mmtune.image.corpus.prompt import wordings
from mmtune.image.corpus.propose_captions import by_name, propose
from mmtune.image.image_row import ImageRow
from tests.data.pieces import IMAGE, write_image

NFC = unicodedata.normalize("NFC", "café")
NFD = unicodedata.normalize("NFD", "café")


def looked_at(folder: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The captions by row, and the findings' rows by kind."""
    data = check(folder, IMAGE, strict=False, divide=False)
    kinds: dict[str, list[str]] = {}
    for finding in data.findings:
        kinds.setdefault(finding.kind, []).append(finding.row)
    return {row.id: row.reference for row in data.rows}, kinds


# The image's file, the caption's file, what it holds; the caption is "a red apple".
SPELLINGS: dict[str, tuple[str, str, bytes]] = {
    "small": ("a.png", "a.txt", b"a red apple"),
    "capitals": ("a.png", "a.TXT", b"a red apple"),
    "mixed": ("a.PNG", "a.Caption", b"a red apple"),
    "of the whole name": ("a.png", "a.png.txt", b"a red apple"),
    "of the whole name, in capitals": ("a.PNG", "a.png.TXT", b"a red apple"),
    "kohya's": ("a.png", "a.caption", b"a red apple"),
    "decomposed": (f"{NFC}.png", f"{NFD}.txt", b"a red apple"),
    "composed": (f"{NFD}.png", f"{NFC}.txt", b"a red apple"),
    "UTF-8 with a mark": ("a.png", "a.txt", "a red apple".encode("utf-8-sig")),
    "UTF-16": ("a.png", "a.txt", "a red apple".encode("utf-16")),
    "UTF-16 big": ("a.png", "a.txt", b"\xfe\xff" + "a red apple".encode("utf-16-be")),
    "UTF-16 without a mark": ("a.png", "a.txt", "a red apple".encode("utf-16-le")),
    "UTF-32": ("a.png", "a.txt", "a red apple".encode("utf-32")),
    "several lines": ("a.png", "a.txt", b"a red\r\napple\n"),
    "JSON": ("a.png", "a.json", b'{"caption": "a red apple", "seed": 3}'),
    "JSON of the whole name": ("a.png", "a.png.json", b'{"text": "a red apple"}'),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_caption_file_is_found_and_read(tmp_path: Path, name: str) -> None:
    image, file, data = SPELLINGS[name]
    write_image(tmp_path / image, format="PNG")
    (tmp_path / file).write_bytes(data)
    rows, kinds = looked_at(tmp_path)
    assert list(rows.values()) == ["a red apple"]
    assert kinds == {}
    assert [each.outcome for each in propose(tmp_path, by_name, write=False)] == ["kept"]


REFUSED = {
    "cp1252": ("caf\xe9 au lait".encode("cp1252"), "encoding"),
    "Shift JIS": ("林檎".encode("shift_jis"), "encoding"),
    "pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "lfs-pointer"),
    "too long": (b"x" * 70_000, "encoding"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_caption_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    data, kind = REFUSED[name]
    write_image(tmp_path / "red apple.png")
    (tmp_path / "red apple.txt").write_bytes(data)
    found = check(tmp_path, IMAGE, strict=False, divide=False)
    assert found.rows == ()
    (finding,) = (each for each in found.findings if each.severity == "error")
    assert (finding.kind, finding.file) == (kind, "red apple.txt")


def test_an_empty_file_hides_no_caption(tmp_path: Path) -> None:
    for i, name in enumerate(("a", "b", "c")):
        write_image(tmp_path / f"{name}.png", i)
        (tmp_path / f"{name}.txt").write_text(" \n" if name != "c" else "of the text")
    (tmp_path / "a.caption").write_text("a red apple")
    (tmp_path / "c.caption").write_text("of the caption")
    rows, kinds = looked_at(tmp_path)
    assert rows == {"a": "a red apple", "c": "of the text"}
    assert kinds == {"unused-text": ["a.txt", "c.caption"], "missing-text": ["b"]}


KOHYA: dict[str, Any] = {
    "a": {"caption": "a red apple", "tags": "fruit, red"},
    "sub/b.png": {"tags": "pear, green"},
    "C:\\elsewhere\\c.png": {"caption": ["a plum", "a blue plum"]},
    "/gone/d": {"caption": "gone"},
}


def test_kohya_s_json(tmp_path: Path) -> None:
    for i, name in enumerate(("a.png", "sub/b.png", "c.png", "red cherry.png")):
        write_image(tmp_path / name, i)
    (tmp_path / "a.txt").write_text("another caption")
    (tmp_path / "meta_cap.json").write_text(json.dumps(KOHYA))
    (tmp_path / "notes.json").write_text('{"project": "x"}')
    rows, kinds = looked_at(tmp_path)
    assert rows == {
        "a": "a red apple, fruit, red",
        "sub/b": "pear, green",
        "c": "a plum",
        "red cherry": "red cherry",
    }
    assert kinds == {
        "missing": ["meta_cap.json"],
        "unused-text": ["a.txt"],
        "unused-table": ["notes.json"],
    }
    guessed = check(tmp_path, IMAGE, strict=False, divide=False).guesses
    assert any(guess.what == "image" and "meta_cap.json" in guess.source for guess in guessed)
    outcomes = {p.image.name: p.outcome for p in propose(tmp_path, by_name, write=False)}
    assert outcomes == dict.fromkeys(("a.png", "b.png", "c.png"), "kept") | {
        "red cherry.png": "new"
    }


METADATA = {
    "semicolons": ("metadata.csv", b"file_name;text\na.png;a red apple\n"),
    "capitals": ("Metadata.CSV", b"file_name,text\na.png,a red apple\n"),
    "tabs": ("metadata.tsv", b"file_name\ttext\na.png\ta red apple\n"),
    "one list of JSON": ("metadata.json", b'[{"file_name": "a.png", "text": "a red apple"}]'),
    "Excel's tabs": ("metadata.csv", "file_name\ttext\r\na.png\ta red apple\r\n".encode("utf-16")),
    "UTF-16": (
        "metadata.jsonl",
        '{"file_name": "a.png", "text": "a red apple"}\n'.encode("utf-16"),
    ),
    "decomposed": (
        "metadata.jsonl",
        b'{"file_name": "b.png", "text": "b"}\n'
        + json.dumps({"file_name": f"{NFD}.png", "text": "a red apple"}).encode(),
    ),
    "a list": ("metadata.jsonl", b'{"file_name": "a.png", "text": ["a red apple", "fruit"]}\n'),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_of_other_forms(tmp_path: Path, name: str) -> None:
    file, data = METADATA[name]
    write_image(tmp_path / (f"{NFC}.png" if name == "decomposed" else "a.png"))
    write_image(tmp_path / "b.png", 1)
    (tmp_path / "b.txt").write_text("b")
    (tmp_path / file).write_bytes(data)
    rows, _ = looked_at(tmp_path)
    assert "a red apple" in rows.values()


UNREADABLE = {
    "metadata.csv": ("file_name,text\na.png,caf\xe9\n".encode("latin-1"), "not UTF-8 text"),
    "metadata.jsonl": (b'\xff\xfe{\0"', "not UTF-8 text|truncated"),
    "metadata.parquet": (b"PAR1", "files aren't"),
    "sub/Metadata.xlsx": (b"PK", "files aren't"),
    "sub/metadata.jsonl": (b'[{"file_name": "a.png", "text": "a"}]', "none of its 1 lines"),
    "sub/metadata.csv": (b"name,words\na.png,a\n", "it has: name, words"),
    "meta_lat.json": (b'{"a": {"caption": ', "Expecting value"),
}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many good rows that one bad row is let through."""
    folder = tmp_path_factory.mktemp("many")
    for i in range(105):
        image = write_image(folder / f"{i:03d}.bmp", i)
        image.with_suffix(".txt").write_text(f"thing {i}")
    (folder / "sub").mkdir()
    return folder


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_metadata_file_stops_the_check(many: Path, name: str) -> None:
    data, why = UNREADABLE[name]
    (many / name).write_bytes(data)
    try:
        found = check(many, IMAGE, strict=False, divide=False)
        with pytest.raises(DataError, match=f"{name} can't be read: .*({why})"):
            check(many, IMAGE, divide=False)
    finally:
        (many / name).unlink()
    stopping = [each for each in found.findings if each.kind == "unreadable-metadata"]
    assert [(each.file, each.severity) for each in stopping] == [(name, "error")]
    assert found.bad <= 0.02


def test_several_captions_in_a_manifest(tmp_path: Path) -> None:
    for i in range(2):
        write_image(tmp_path / f"{i}.png", i)
    write_manifest(
        tmp_path / "manifest.jsonl",
        [
            {"id": "0", "image": "0.png", "caption": ["a plum", "a blue plum"]},
            {"id": "1", "image": "1.png", "caption": "a pear"},
        ],
    )
    data = check(tmp_path, IMAGE, strict=False, divide=False)
    assert [wordings(row) for row in data.rows] == [("a plum", "a blue plum"), ("a pear",)]
    assert [row.reference for row in data.rows] == ["a plum", "a pear"]
    write_manifest(tmp_path / "again.jsonl", data.rows)
    again = check(tmp_path / "again.jsonl", IMAGE, strict=False, divide=False)
    assert again.fingerprint == data.fingerprint
    bad = {"id": "1", "image": "1.png", "caption": ["a pear", 5]}
    write_manifest(tmp_path / "bad.jsonl", [bad])
    assert check(tmp_path / "bad.jsonl", IMAGE, strict=False).rows == ()


def test_one_caption_leaves_the_fingerprint_as_it_was() -> None:
    from mmtune.data.check import _identity

    one = ImageRow(id="a", image="a.png", caption="a pear")
    assert "captions" not in _identity(one)
    several = ImageRow(id="a", image="a.png", caption="a pear", captions=("a pear", "fruit"))
    assert "captions" in _identity(several)


def series(folder: Path, stem: str, count: int, start: int = 0) -> None:
    for i in range(count):
        write_image(folder / f"{stem}{i + 1:02d}.png", start + i)


def test_many_unlike_pictures_under_one_name(tmp_path: Path) -> None:
    series(tmp_path, "Summer Campaign ", 9)
    write_image(tmp_path / "red apple.png", 50)
    write_image(tmp_path / "Summer Campaign 10.png", 60)
    (tmp_path / "Summer Campaign 10.txt").write_text("a beach")
    rows, kinds = looked_at(tmp_path)
    assert rows == {"red apple": "red apple", "Summer Campaign 10": "a beach"}
    assert kinds["shared-name"] == ["Summer Campaign 01"]
    assert len(kinds["missing-text"]) == 9
    outcomes = {p.image.name: p.outcome for p in propose(tmp_path, by_name, write=False)}
    assert outcomes.pop("red apple.png") == "new"
    assert outcomes.pop("Summer Campaign 10.png") == "kept"
    assert set(outcomes.values()) == {"nothing"}


@pytest.mark.parametrize("kind", ["few", "views", "alike", "kohya"])
def test_names_that_are_captions(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / ("10_acme" if kind == "kohya" else ".")
    if kind == "few":
        series(folder, "red apple_", 4)
    elif kind == "alike":
        for i in range(9):
            write_image(folder / f"red apple_{i:02d}.jpg", 1, quality=50 + 5 * i)
    elif kind == "views":
        for start, stem in enumerate(("shoe", "hat", "bag", "coat", "belt")):
            series(folder, f"red {stem}_", 5, start * 10)
    else:
        series(folder, "photo_", 8)
    rows, kinds = looked_at(tmp_path)
    assert "shared-name" not in kinds
    assert len(rows) >= 4


@pytest.mark.parametrize(
    ("name", "data", "cure"),
    [
        ("pictures.csv", "name,caption\na.png,an apple\n", "rename it metadata.csv, with"),
        ("captions.TSV", "name\tcaption\na.png\tan apple\n", "rename it metadata.tsv, with"),
        ("list.xlsx", "PK", "save it as metadata.csv, with"),
    ],
)
def test_a_table_of_another_name_is_to_become_metadata(
    tmp_path: Path, name: str, data: str, cure: str
) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / name).write_text(data)
    found = check(tmp_path, IMAGE, strict=False, divide=False)
    (finding,) = [each for each in found.findings if each.file == name]
    assert (finding.kind, finding.severity) == ("unused-table", "warning")
    assert f"{cure} the columns file_name and text" in finding.cure


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ("Dateiname;Beschreibung", "Dateiname, Beschreibung"),
        ("file,caption", "file, caption"),
        ("image\twords\tnote", "image, words, note"),
    ],
)
def test_a_csv_with_other_columns(tmp_path: Path, head: str, columns: str) -> None:
    separator = next(each for each in ";,\t" if each in head)
    for i in range(3):
        write_image(tmp_path / f"thing {'abc'[i]}.png", i)
    lines = [head, *(f"{name}.png{separator}words" for name in "abc")]
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    data = check(tmp_path, IMAGE, strict=False, divide=False)
    (finding,) = [each for each in data.findings if each.kind == "unreadable-metadata"]
    assert finding.message.endswith(f"no column is named file_name; it has: {columns}")
    assert finding.cure.startswith("name the columns file_name and text in the first line")
    assert data.found == 3


def test_a_line_of_a_csv_without_a_file_s_name(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,an apple\n,a pear\n")
    data = check(tmp_path, IMAGE, strict=False, divide=False)
    (line,) = [each for each in describe(data) if "column file_name" in each]
    assert line.count("line 3") == line.count("metadata.csv") == 1
    assert "is empty" in line
    assert "{" not in line
