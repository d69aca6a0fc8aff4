"""Folders of images as other tools lay them out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmtune.data.check import check
from mmtune.data.manifest import read_rows
from mmtune.image.corpus.caption_sources import Repeats, caption_from_name, parse_repeats
from mmtune.image.corpus.propose_captions import proposal_from_name
from mmtune.runs.modalities import guess_modality
from tests.data.pieces import IMAGE, write_audio, write_image


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("10_acme icon", Repeats(10, "acme icon")),
        ("5_sks_dog", Repeats(5, "sks dog")),
        ("1__red  apple", Repeats(1, "red apple")),
        ("100_ohwx", Repeats(100, "ohwx")),
        ("01_icons", None),
        ("2024_summer", None),
        ("0_nothing", None),
        ("10_", None),
        ("10_ ", None),
        ("10", None),
        ("acme_10", None),
        ("-3_acme", None),
        ("3 acme", None),
    ],
)
def test_names_of_kohya_s_folders(name: str, found: Repeats | None) -> None:
    assert parse_repeats(name) == found


words = st.lists(st.text("abcäß漢-.()0123456789", min_size=1), min_size=1, max_size=4)


@given(st.integers(1, 999), words)
def test_any_such_name_is_read_back(times: int, said: list[str]) -> None:
    wanted = Repeats(times, " ".join(said))
    assert parse_repeats(f"{times}_{' '.join(said)}") == wanted
    assert parse_repeats(f"{times}_{'_'.join(said)}") == wanted


@given(st.text())
def test_no_folder_s_name_breaks_the_reader(name: str) -> None:
    found = parse_repeats(name)
    if found is not None:
        assert name.strip().startswith(f"{found.times}_")
        assert 1 <= found.times <= 999
        assert found.words.strip() == found.words != ""


def test_repeats_become_weights(tmp_path: Path) -> None:
    for place, seed in (
        ("4_acme icon/00012.png", 0),
        ("4_acme icon/red-apple.png", 1),
        ("10_acme_photo/a.webp", 2),
        ("10_acme_photo/b.jpg", 3),
    ):
        write_image(tmp_path / place, seed)
    (tmp_path / "10_acme_photo/a.txt").write_text("a shop at night")
    (tmp_path / "10_acme_photo/b.caption").write_text("a shop at noon\n")
    rows, (finding,) = read_rows(tmp_path, IMAGE)
    assert {(row.path.name, row.reference, row.weight) for row in rows} == {
        ("00012.png", "acme icon", 1.0),
        ("red-apple.png", "red apple", 1.0),
        ("a.webp", "a shop at night", 2.5),
        ("b.jpg", "a shop at noon", 2.5),
    }
    assert (finding.kind, finding.severity) == ("folder-weights", "warning")
    assert "'10_acme_photo' 10, '4_acme icon' 4" in finding.message
    data = check(tmp_path, IMAGE, strict=False)
    assert data.quarantined == (), "a warning leaves nothing out"
    assert len(data.rows) == 4


def test_one_folder_of_repeats_weighs_nothing_more(tmp_path: Path) -> None:
    write_image(tmp_path / "10_acme icon" / "1.png")
    rows, findings = read_rows(tmp_path, IMAGE)
    assert [(row.reference, row.weight) for row in rows] == [("acme icon", 1.0)]
    assert findings == []
    write_image(tmp_path / "red apple.png", 1)  # a folder without a number counts once
    rows, _ = read_rows(tmp_path, IMAGE)
    assert {row.reference: row.weight for row in rows} == {"acme icon": 10.0, "red apple": 1.0}


def metadata(folder: Path, *rows: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metadata.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_an_imagefolder_of_hugging_face(tmp_path: Path) -> None:
    for i, place in enumerate(["train/1.png", "train/2.png", "train/3.png", "test/red-pear.png"]):
        write_image(tmp_path / place, i)
    (tmp_path / "train/3.txt").write_text("a blue plum")
    metadata(
        tmp_path / "train",
        {"file_name": "1.png", "text": "a red apple", "licence": "CC0"},
        {"file_name": "2.png", "caption": "a green pear", "subject": "pear", "weight": 2.0},
        {"file_name": "3.png", "text": None},
    )
    metadata(tmp_path / "test", {"file_name": "red-pear.png", "prompt": "a red pear, cut"})
    rows, findings = read_rows(tmp_path, IMAGE)
    assert findings == []
    assert {(row.id, row.reference, row.split, row.weight) for row in rows} == {
        ("train/1", "a red apple", "train", 1.0),
        ("train/2", "a green pear", "train", 2.0),
        ("train/3", "a blue plum", "train", 1.0),
        ("test/red-pear", "a red pear, cut", "test", 1.0),
    }
    assert next(row for row in rows if row.id == "train/2").leakage_keys == ("subject pear",)
    assert guess_modality(tmp_path).name == "image"


def test_metadata_at_the_top_and_as_a_table(tmp_path: Path) -> None:
    write_image(tmp_path / "val" / "1.png")
    write_image(tmp_path / "sets" / "2.png", 1)
    metadata(tmp_path, {"file_name": "val/1.png", "text": "one"})
    (tmp_path / "sets/metadata.csv").write_text(
        'file_name,text,weight\n2.png,"a pear, cut",0.5\n', encoding="utf-8-sig"
    )
    rows, findings = read_rows(tmp_path, IMAGE)
    assert findings == []
    assert {(row.id, row.reference, row.split, row.weight) for row in rows} == {
        ("val/1", "one", "validation", 1.0),
        ("sets/2", "a pear, cut", None, 0.5),
    }


def test_what_is_wrong_in_metadata_is_found(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.png")
    write_image(tmp_path / "secret.png", 1)
    path = metadata(
        tmp_path / "in",
        {"file_name": "a.png", "text": "a"},
        {"file_name": "a.png", "text": "another"},
        {"file_name": "gone.png", "text": "gone"},
        {"file_name": "../secret.png", "text": "out"},
        {"text": "no file"},
        [1],
        {"file_name": "sound.wav", "text": "another medium"},
        {"file_name": "a.heic", "text": "foreign"},
        {"file_name": "b.png", "text": "b", "split": "exam"},
    )
    with path.open("ab") as file:
        file.write(b"{\n\xff\n")
    data = check(tmp_path / "in", IMAGE, strict=False)
    errors = {(f.row, f.kind) for f in data.findings if f.severity == "error"}
    assert errors == {
        ("metadata.jsonl a.png", "duplicate-id"),
        ("gone", "missing"),
        ("../secret", "outside"),
        ("metadata.jsonl, line 5", "missing-key"),
        ("metadata.jsonl, line 6", "not-json"),
        ("metadata.jsonl, line 10", "not-json"),
        ("metadata.jsonl, line 11", "not-json"),
        ("a.heic", "missing"),
        ("b", "bad-value"),
    }
    assert [(row.id, row.reference) for row in data.rows] == [("a", "a")]


def test_recordings_with_metadata_are_no_images(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav")
    metadata(tmp_path, {"file_name": "a.wav", "text": "words"}, [1])
    assert guess_modality(tmp_path).name == "speech"


@given(st.binary(max_size=300), st.sampled_from(["metadata.jsonl", "metadata.csv"]))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_metadata_whatsoever_raises(tmp_path: Path, data: bytes, name: str) -> None:
    for each in ("metadata.jsonl", "metadata.csv"):
        (tmp_path / each).unlink(missing_ok=True)
    write_image(tmp_path / "red-apple.png")
    (tmp_path / name).write_bytes(data)
    rows, _ = read_rows(tmp_path, IMAGE)
    assert "red-apple" in {row.id for row in rows}


file_names = st.text("ab .#/\\\0:äé\n", max_size=8).map(lambda stem: f"{stem}.png")


@given(st.lists(st.tuples(file_names, st.text(max_size=8)), max_size=5))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_file_name_in_metadata_raises(tmp_path: Path, said: list[tuple[str, str]]) -> None:
    write_image(tmp_path / "red-apple.png")
    metadata(tmp_path, *({"file_name": name, "text": text} for name, text in said))
    data = check(tmp_path, IMAGE, strict=False)
    assert "red-apple" in {row.id for row in data.rows}


@pytest.mark.parametrize(
    ("stem", "found"),
    [
        ("0041_red-apple_3f9ac04e", "red apple"),
        ("red apple", "red apple"),
        ("red-apple-1024x768_v2", "red apple"),
        ("route-66", "route"),
        ("facade at night", "facade at night"),
        ("decade cafe", "decade cafe"),
        ("IMG_2041", ""),
        ("3f9ac04e77d1", ""),
        ("(12)", ""),
        ("Äpfel, rot (2)", "Äpfel rot"),
    ],
)
def test_words_of_names(stem: str, found: str) -> None:
    assert proposal_from_name(stem) == found


@given(st.text())
@settings(max_examples=300)
def test_words_of_any_name(stem: str) -> None:
    found = proposal_from_name(stem)
    assert found == " ".join(found.split())
    assert not any(word.isdecimal() for word in found.split())
    assert all(word in stem for word in found.split())


@given(st.lists(st.sampled_from(["red", "apple", "Äpfel", "漢字", "facade"]), min_size=1),
       st.lists(st.integers(0, 10**6).map(str) | st.integers(16**9, 16**12).map(
           lambda n: f"{n:x}0")), st.randoms(use_true_random=False))  # fmt: skip
def test_words_survive_among_numbers_and_hashes(
    said: list[str], noise: list[str], rng: object
) -> None:
    parts = [*said, *noise]
    rng.shuffle(parts)  # type: ignore[attr-defined]
    wanted = [part for part in parts if part in said]
    assert proposal_from_name("_".join(["the", *parts])).split() == ["the", *wanted]
    assert caption_from_name(" ".join(said)) == " ".join(said)
