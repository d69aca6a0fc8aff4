import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmtune.data.manifest import example, read_rows, write_manifest
from mmtune.errors import DataError
from mmtune.image.corpus.caption_sources import caption_from_name
from mmtune.image.image_row import ImageRow
from mmtune.runs.modalities import guess_modality
from mmtune.speech.speech_row import SpeechRow, plain_words
from tests.data.pieces import IMAGE, SPEECH, write_audio, write_image
from tests.speech.real import corpus

GOOD = {"id": "1", "audio": "a.wav", "text": "hello"}


def lines(folder: Path, *values: Any) -> Path:
    path = folder / "manifest.jsonl"
    raw = [v if isinstance(v, bytes) else json.dumps(v).encode() for v in values]
    path.write_bytes(b"\n".join(raw) + b"\n")
    return path


def test_a_manifest_with_everything_that_writers_do(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf"
        + json.dumps(GOOD | {"age": 21, "gender": "f", "accent": None, "duration_s": 3.8}).encode()
        + b"\r\n\r\n"
        + json.dumps({"audio": "b/c.flac", "text": "na\u00efve", "terms": ["x"]}).encode()
    )
    rows, findings = read_rows(path, SPEECH)
    assert not findings
    assert rows[0] == SpeechRow(
        id="1", audio="a.wav", text="hello", duration_s=3.8, group={"age": "21", "gender": "f"}
    )
    assert (rows[1].id, rows[1].reference) == ("b/c", "naïve")


def test_the_shared_corpus_is_readable() -> None:
    rows, findings = read_rows(corpus(), SPEECH)
    assert not findings
    assert len(rows) == 970
    assert {row.split for row in rows} == {"train", "test"}
    assert rows[0].group == {"age": "21", "gender": "f", "accent": "mandarin"}


@pytest.mark.parametrize(
    ("modality", "row", "key", "meant"),
    [
        (SPEECH, {"id": "1", "audio": "a", "text": "x"}, "transcript", "text"),
        (SPEECH, {"id": "1", "audio": "a", "text": "x"}, "audio_filepath", "audio"),
        (SPEECH, {"id": "1", "audio": "a", "text": "x"}, "spekaer", "speaker"),
        (IMAGE, {"id": "1", "image": "a", "caption": "x"}, "file_name", "image"),
        (IMAGE, {"id": "1", "image": "a", "caption": "x"}, "text", "caption"),
        (IMAGE, {"id": "1", "image": "a", "caption": "x"}, "captoin", "caption"),
    ],
)
def test_unknown_key_says_what_was_meant(
    tmp_path: Path, modality: Any, row: dict[str, str], key: str, meant: str
) -> None:
    rows, (finding,) = read_rows(lines(tmp_path, row | {key: "y"}), modality)
    assert not rows
    assert finding.kind == "unknown-key"
    assert finding.row == "1"
    assert "line 1" in finding.message
    assert repr(key) in finding.message
    assert "did you mean" in finding.cure
    assert meant in finding.cure


@pytest.mark.parametrize(
    ("line", "kind", "says"),
    [
        (b"{", "not-json", "column"),
        (b"[1]", "not-json", "list"),
        (b'"words"', "not-json", "str"),
        (b"null", "not-json", "NoneType"),
        (b'{"id":"2","id":"3","audio":"a","text":"b"}', "not-json", "'id' occurs twice"),
        (b'{"id":"2","audio":"a","text":"\xff"}', "not-json", "utf-8"),
        (b"[" * 200_000, "not-json", ""),
        (b'{"x":' * 100_000, "not-json", ""),
        (b"1" * 5_000, "not-json", ""),
        (b'{"id":"2","audio":"a","text":"\\ud800"}', "not-json", "surrogates"),
        (b'{"id":"2","audio":"a","text":"b","group":{"a":"\\uDFFF"}}', "not-json", "surrogates"),
        (b'{"id":"2","audio":"a","text":"b","weight":NaN}', "bad-value", "weight"),
        (b'{"id":"2","audio":"a","text":"b","weight":-1}', "bad-value", "weight"),
        (b'{"id":"2","audio":"a","text":"b","weight":1e999}', "bad-value", "weight"),
        (b'{"id":"2","audio":"a","text":"b","split":"dev"}', "bad-value", "'validation'"),
        (b'{"id":"2","audio":"a","text":5}', "bad-value", "text = 5"),
        (b'{"id":"2","audio":"a","text":"b","group":[1]}', "bad-value", "group"),
        (b'{"id":"2","audio":"a","text":"b","age":[1]}', "unknown-key", "age"),
        (b'{"id":"","audio":"a","text":"b"}', "bad-value", "id"),
        (b'{"id":7,"audio":"a","text":"b"}', "bad-value", "id = 7"),
        (b'{"id":"2","audio":"","text":"b"}', "bad-value", "audio"),
        (b'{"id":"2","audio":"a"}', "missing-key", "'text'"),
        (b'{"text":"a"}', "missing-key", "'audio'"),
        (b'{"id":"2","audio":"a","text":"b","content":"00"}', "unknown-key", "content"),
        (b'{"id":"1","audio":"b.wav","text":"b"}', "duplicate-id", "'1' is already used in line 1"),
    ],
)
def test_a_bad_line_is_a_finding_and_the_others_stay(
    tmp_path: Path, line: bytes, kind: str, says: str
) -> None:
    rows, findings = read_rows(lines(tmp_path, GOOD, line, GOOD | {"id": "last"}), SPEECH)
    assert [row.id for row in rows] == ["1", "last"]
    assert findings[0].kind == kind
    assert "line 2" in findings[0].message
    assert says in findings[0].message
    assert findings[0].row != "1"
    assert findings[0].cure


@given(st.lists(st.binary(max_size=60), max_size=6))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_bytes_whatsoever_raise_anything_else(tmp_path: Path, values: list[bytes]) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"\n".join(values))
    if not b"".join(values).strip():
        return  # tested below: a manifest without rows
    with contextlib.suppress(DataError):  # bytes that begin as UTF-16 does
        rows, findings = read_rows(path, SPEECH)
        assert rows or findings


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*SpeechRow.model_fields, "age", "x"]), json_values))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_json_whatsoever_raises(tmp_path: Path, row: dict[str, Any]) -> None:
    rows, findings = read_rows(lines(tmp_path, row), SPEECH)
    assert len(rows) == (0 if findings else 1)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.lists(
        st.builds(
            SpeechRow,
            id=text.filter(bool),
            audio=text.filter(bool),
            text=text,
            speaker=st.none() | text.filter(bool),
            terms=st.lists(text, max_size=2).map(tuple),
            group=st.dictionaries(text, text, max_size=2),
            split=st.sampled_from([None, "train", "validation", "test"]),
            weight=st.floats(0.1, 10),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda row: row.id,
    )
)
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_written_is_read(tmp_path: Path, rows: list[SpeechRow]) -> None:
    path = tmp_path / "out.jsonl"
    write_manifest(path, [row.model_copy(update={"content": "0f"}) for row in rows])
    assert read_rows(path, SPEECH) == (rows, [])
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_manifest_is_written_as_people_read_it(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.jsonl", [{"id": "1", "text": "naïve 心電図", "audio": "ä.wav"}])
    assert (tmp_path / "m.jsonl").read_text(encoding="utf-8") == (
        '{"id": "1", "text": "naïve 心電図", "audio": "ä.wav"}\n'
    )


@pytest.mark.parametrize(("size", "whole"), [(58, True), (59, False), (500, False)])
def test_a_long_wrong_value_is_shown_in_part(tmp_path: Path, size: int, whole: bool) -> None:
    """Of 60 characters with its quotation marks, all are shown; of more, the first 57."""
    value = "x" * size
    (tmp_path / "m.jsonl").write_text(
        json.dumps({"id": "1", "audio": "a.wav", "text": "t", "split": value}) + "\n"
    )
    _, findings = read_rows(tmp_path / "m.jsonl", SPEECH)
    [finding] = findings
    shown = repr(value) if whole else repr(value)[:57] + "…"
    assert f"split = {shown}: " in finding.message


def test_written_paths_are_relative_to_the_manifest(tmp_path: Path) -> None:
    row = SpeechRow(id="1", audio=str(tmp_path.resolve() / "clips" / "a.wav"), text="x")
    write_manifest(tmp_path / "m.jsonl", [row])
    assert json.loads((tmp_path / "m.jsonl").read_text())["audio"] == "clips/a.wav"


def test_a_folder_of_recordings(tmp_path: Path) -> None:
    write_audio(tmp_path / "b.wav")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbf two\r\nlines\r\n")
    write_audio(tmp_path / "spk" / "A.FLAC", format="FLAC")
    (tmp_path / "spk" / "A.txt").write_text("upper case suffix")
    write_audio(tmp_path / "untold.wav")
    write_audio(tmp_path / "latin.wav")
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    write_audio(tmp_path / "novel.wav")
    (tmp_path / "novel.txt").write_text("word " * 20_000)
    for hidden in (".DS_Store", "._b.wav", ".git/x.wav", "__MACOSX/b.wav"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_bytes(b"x")
    rows, findings = read_rows(tmp_path, SPEECH)
    assert {(row.id, row.reference) for row in rows} == {
        ("b", "two lines"),
        ("spk/A", "upper case suffix"),
    }
    assert {(f.row, f.kind) for f in findings} == {
        ("untold", "missing-text"),
        ("latin", "bad-value"),
        ("novel", "bad-value"),
    }
    assert str(tmp_path / "untold.txt") in next(f.cure for f in findings if f.row == "untold")


def test_a_folder_of_images(tmp_path: Path) -> None:
    write_image(tmp_path / "red-apple_01.png")
    write_image(tmp_path / "fruit" / "pear.jpg")
    write_image(tmp_path / "fruit" / "pear.png")
    (tmp_path / "fruit" / "pear.txt").write_text("a green pear")
    write_image(tmp_path / "IMG_0042.JPG", format="JPEG")
    rows, (finding,) = read_rows(tmp_path, IMAGE)
    assert {(row.id, row.reference) for row in rows} == {
        ("red-apple_01", "red apple"),
        ("fruit/pear", "a green pear"),
        ("fruit/pear.png", "a green pear"),
    }
    assert (finding.row, finding.kind) == ("IMG_0042", "missing-text")


@pytest.mark.parametrize(
    ("stem", "caption"),
    [
        ("red-apple_01", "red apple"),
        ("red apple (2)", "red apple"),
        ("red_apple", "red apple"),
        ("apple-003", "apple"),
        ("route-66", "route 66"),
        ("3-wheeler", "3 wheeler"),
        ("blue car - copy", "blue car"),
        ("hard copy", "hard copy"),
        ("copia di seta", "copia di seta"),
        ("photocopy", "photocopy"),
        ("paper (2024)", "paper (2024)"),
        ("paper (214)", "paper"),
        ("IMG_2041 copy", ""),
        ("copy", ""),
        ("blue car_2_003", "blue car"),
        ("pineapple", "pineapple"),
        ("photograph of a cat", "photograph of a cat"),
        ("Äpfel_1", "Äpfel"),
        ("p", ""),
        ("IMG_2041", ""),
        ("DSC00017", ""),
        ("00017", ""),
        ("Screenshot 2024-01-02 at 10.11.12", "Screenshot 2024 01 02 at 10.11.12"),
        ("3f9ac04e77d1", ""),
        ("1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed", ""),
        ("facade", "facade"),
        ("defaced", "defaced"),
    ],
)
def test_captions_from_names(stem: str, caption: str) -> None:
    assert caption_from_name(stem) == caption


@pytest.mark.parametrize(
    ("others", "split"), [((), None), (("test",), "train"), (("validation",), "train")]
)
def test_rows_are_held_out_from_a_train_jsonl_that_is_alone(
    tmp_path: Path, others: tuple[str, ...], split: str | None
) -> None:
    for name in ("train", *others):
        row = {"id": name, "audio": f"{name}.wav", "text": name}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    rows, _ = read_rows(tmp_path, SPEECH)
    assert [row.split for row in rows] == [split, *others]


def test_splits_named_by_files(tmp_path: Path) -> None:
    for name in ("train", "validation", "test"):
        row = {"id": name, "audio": f"{name}.wav", "text": name}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n{\n")
    rows, findings = read_rows(tmp_path, SPEECH)
    assert [(row.id, row.split) for row in rows] == [
        ("train", "train"), ("validation", "validation"), ("test", "test"),
    ]  # fmt: skip
    assert [f.row for f in findings] == [
        "train.jsonl line 2", "validation.jsonl line 2", "test.jsonl line 2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("m.csv", b"audio,text\n", "neither a manifest"),
        ("a.wav", b"RIFF", "is one audio file, and neither a manifest"),
        ("m.jsonl", b"", "holds no rows"),
        ("m.jsonl", b"\n \n", "holds no rows"),
        ("m.jsonl", '{"id": "1"}'.encode("utf-16"), "UTF-16"),
        ("nothing.jsonl", None, "no such file"),
        ("folder", None, "no such file"),
    ],
)
def test_a_source_that_is_none(tmp_path: Path, name: str, data: bytes | None, says: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=says) as caught:
        read_rows(tmp_path / name, SPEECH)
    assert name in caught.value.found
    assert caught.value.cure


@pytest.mark.parametrize("modality", [SPEECH, IMAGE])
def test_an_empty_folder_shows_what_is_expected(tmp_path: Path, modality: Any) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="holds no") as caught:
        read_rows(tmp_path, modality)
    assert example(modality.row) in caught.value.cure
    assert modality.row.model_validate(json.loads(example(modality.row)))
    assert next(iter(json.loads(example(modality.row)))) == "id"


def test_sentences_compare_without_case_and_punctuation_but_with_vowel_signs() -> None:
    assert plain_words("  Don't STOP, now! ") == plain_words("don t stop now")
    assert plain_words("किताब") != plain_words("कतब")
    assert ImageRow(id="1", image="a", caption="Red  Apple").leakage_keys == ("subject red apple",)


def test_the_modality_is_guessed_from_keys_or_files(tmp_path: Path) -> None:
    write_audio(tmp_path / "a" / "x.wav")
    write_image(tmp_path / "i" / "red-apple.png")
    assert guess_modality(tmp_path / "a").name == "speech"
    assert guess_modality(tmp_path / "i").name == "image"
    assert guess_modality(lines(tmp_path, b"{", {"image": "a.png"})).name == "image"
    assert guess_modality(lines(tmp_path / "i", GOOD)).name == "speech"
    assert guess_modality(tmp_path / "i").name == "speech"  # its manifest comes first


@pytest.mark.parametrize("make", ["both", "neither", "nowhere", "words"])
def test_no_guess_without_evidence(tmp_path: Path, make: str) -> None:
    source = tmp_path / "data"
    if make != "nowhere":
        source.mkdir()
    if make == "both":
        write_audio(source / "x.wav")
        write_image(source / "x.png")
    if make == "words":
        source = lines(source, {"text": "audio"})
    with pytest.raises(DataError) as caught:
        guess_modality(source)
    assert str(source) in caught.value.found
    assert ("--modality" in caught.value.cure) == (make not in ("nowhere", "neither"))
    assert ("folder of audio files" in caught.value.cure) == (make == "neither")
