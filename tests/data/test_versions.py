"""Versions of data: their fingerprint, the log's chain, and what `mmtune data` tells of them."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmtune.cli import main
from mmtune.data.check import check
from mmtune.data.version_keys import KEYS_FILE
from mmtune.data.version_log import LOG, read_log, rows_file, versions_folder
from mmtune.data.version_rows import VersionRow, current_rows, difference, fingerprint_of
from mmtune.data.versions import find_version, record_version
from mmtune.errors import ERROR, FINDINGS, ConfigError, DataError, MmtuneError
from mmtune.runs.data_versions import (
    DataDifference,
    data_log,
    diff_versions,
    parse_version,
    record_data_version,
    show_version,
    verify_data,
)
from mmtune.runs.modalities import find_modality
from mmtune.speech.corpus.speech_reader import READER
from mmtune.system.contents import VERSIONS, hash_contents
from tests.data.pieces import write_audio, write_image

NAMES = st.text("abcdef", min_size=1, max_size=2)
VALUES = st.one_of(st.text(max_size=6), st.integers(0, 9), st.none(), st.lists(st.text(max_size=3)))


@st.composite
def versions(draw: st.DrawFn) -> dict[str, VersionRow]:
    rows = {}
    for name in draw(st.lists(NAMES, unique=True, max_size=6)):
        values = {"id": name} | draw(st.dictionaries(st.sampled_from("tuv"), VALUES, max_size=3))
        digest = draw(st.sampled_from(["0" * 64, "1" * 64, ""]))
        rows[name] = VersionRow(values, {"audio": digest})
    return rows


def applied(found: dict[str, Any], rows: dict[str, VersionRow]) -> dict[str, VersionRow]:
    """What `mmtune data diff --json` says, done to the rows of the first version."""
    now = {name: row for name, row in rows.items() if name not in found["removed"]}
    now |= {name: VersionRow.from_dict(row) for name, row in found["added"].items()}
    for name, changes in found["changed"].items():
        values, files = dict(now[name].values), dict(now[name].files)
        for each in changes:
            side = files if each["name"].startswith("content of ") else values
            side[each["name"].removeprefix("content of ")] = each["now"]
        now[name] = VersionRow(values, files)
    return now


def plain(rows: dict[str, VersionRow]) -> dict[str, Any]:
    """Rows without the fields that have no value: a field that is None isn't there."""
    return {
        name: ({k: v for k, v in row.values.items() if v is not None}, dict(row.files))
        for name, row in rows.items()
    }


@settings(max_examples=30, deadline=None)
@given(versions(), st.randoms())
def test_the_order_of_rows_doesnt_count(rows: dict[str, VersionRow], random: Any) -> None:
    shuffled = list(rows.values())
    random.shuffle(shuffled)
    assert fingerprint_of(shuffled) == fingerprint_of(rows.values())


@settings(max_examples=40, deadline=None)
@given(versions(), versions())
def test_a_difference_done_to_the_first_version_gives_the_second(
    first: dict[str, VersionRow], second: dict[str, VersionRow]
) -> None:
    found = DataDifference("a", "b", difference(first, second)).to_dict()
    assert plain(applied(json.loads(json.dumps(found)), first)) == plain(second)
    assert bool(difference(first, second)) == (plain(first) != plain(second))
    if plain(first) != plain(second):
        assert fingerprint_of(first.values()) != fingerprint_of(second.values())


# --- on the disk ---


def corpus(folder: Path, rows: int = 3, **more: Any) -> Path:
    """Rows of two speakers, with small files whose content isn't read by a version."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(rows):
        (folder / f"{i}.wav").write_bytes(f"sound {i}".encode())
        row = {"id": f"r{i}", "audio": f"{i}.wav", "text": f"grüße {i}", "speaker": f"s{i % 2}"}
        lines.append(json.dumps(row | more, ensure_ascii=False) + "\n")
    (folder / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def change(folder: Path, old: str, new: str) -> None:
    path = folder / "manifest.jsonl"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def told(source: Path) -> list[str]:
    found = verify_data(source)
    return [*found.differing, *map(str, found.problems)]


def three_versions(folder: Path) -> Path:
    data = corpus(folder)
    record_version(data, READER)
    change(data, "grüße 1", "grüße eins")
    record_version(data, READER, about={"note": "words"})
    change(data, '"r2"', '"r9"')
    record_version(data, READER, "audit")
    return data


def test_a_version_is_written_when_something_changed(tmp_path: Path) -> None:
    data = three_versions(tmp_path / "data")
    log = read_log(data)
    assert [each.step for each in log.versions.values()] == ["import", "fix", "audit"]
    assert record_version(data, READER).number == 3, "without a change nothing is written"
    second, third = log.versions[2], log.versions[3]
    assert third.parents == (second.fingerprint,)
    assert [f"{row}: {row in log.rows(n)}" for n, row in ((1, "r2"), (2, "r9"), (3, "r9"))] == [
        *("r2: True", "r9: False", "r9: True"),
    ]
    assert told(data) == []
    lines = [each.changed for each in data_log(data).versions]
    assert lines == ["3 added", "1 changed", "1 added, 1 removed"]


def test_the_chain_holds_no_word_no_name_and_no_hash_of_a_row(tmp_path: Path) -> None:
    data = three_versions(tmp_path / "data")
    text = (versions_folder(data) / LOG).read_text()
    digests = [d for n in (1, 2, 3) for row in read_log(data).rows(n).values()
               for d in row.files.values()]  # fmt: skip
    assert not [each for each in ("r1", "s0", "grüße", "words", ".wav", *digests) if each in text]
    keys = versions_folder(data) / KEYS_FILE
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600


CHANGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "a value": (
        lambda data: change(data, "grüße 0", "grüße O"),
        ['row r0: text was "grüße 0" in version 3, and is "grüße O"'],
    ),
    "a new value": (
        lambda data: change(data, '"s0"', '"s0", "prompt": "x"'),
        ['row r0: prompt was nothing in version 3, and is "x"'],
    ),
    "a file": (
        lambda data: (data / "1.wav").write_bytes(b"sound 2"),
        ["row r1: content of audio was 94c9e1a7b1b2 in version 3, and is 1a9a2ee5e0e0"],
    ),
    "a missing file": (
        lambda data: (data / "1.wav").unlink(),
        ["row r1: content of audio was 94c9e1a7b1b2 in version 3, and is nothing"],
    ),
    "a row": (
        lambda data: change(data, '{"id": "r0"', '{"id": "r7"'),
        ["row r0: it was in version 3, and is gone", "row r7: it wasn't in version 3"],
    ),
    "no row": (
        lambda data: change(data, '{"id": "r0"', '{"id" "r0"'),
        [
            "row r0: it was in version 3, and is gone",
            "manifest.jsonl, line 1: this line is not a row",
        ],
    ),
    "spacing": (
        lambda data: change(data, ', "text"', ',\t"text"'),
        ["manifest.jsonl: its bytes aren't those of version 3, but its rows are"],
    ),
    "order": (
        lambda data: (data / "manifest.jsonl").write_text(
            "".join(sorted((data / "manifest.jsonl").read_text().splitlines(True), reverse=True))
        ),
        ["manifest.jsonl: its bytes aren't those of version 3, but its rows are"],
    ),
    "nothing": (lambda data: None, []),
}


@pytest.mark.parametrize("what", CHANGES)
def test_verify_names_the_row_that_was_changed(tmp_path: Path, what: str) -> None:
    data = three_versions(tmp_path / "data")
    done, lines = CHANGES[what]
    done(data)
    found = told(data)
    assert len(found) == len(lines)
    for line, start in zip(found, lines, strict=True):
        assert line.startswith(start.split("94c9e1")[0])
    assert main(["data", "verify", str(data)]) == (FINDINGS if lines else 0)


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


LOG_CHANGES: dict[str, tuple[str, Callable[[list[bytes]], Sequence[bytes]], str]] = {
    "a line": (LOG, lambda x: [x[0], x[1].replace(b"fix", b"fox"), x[2]], ", line 2: it isn't"),
    "a line is gone": (LOG, lambda x: [x[0], x[2]], ", line 2: version 3 "),
    "the last line is gone": (LOG, lambda x: x[:2], ": lines are missing at its end"),
    "all lines are gone": (LOG, lambda x: [], ": lines are missing at its end"),
    "lines change places": (LOG, lambda x: [x[1], x[0], x[2]], ", line 1: version 2 "),
    "a line twice": (LOG, lambda x: [*x, x[2]], ", line 4: version 3 "),
    "a row of a version": (
        rows_file(1),
        lambda x: [x[0], x[1].replace(b"s0", b"s9"), *x[2:]],
        ", line 2: row r0: it isn't",
    ),
    "a row of a version is gone": (rows_file(1), lambda x: x[:-1], ": its rows aren't those of"),
    "what is said of a step": (rows_file(2), lambda x: [b"{}\n", *x[1:]], ", line 1: it isn't"),
    "the end of a file": (rows_file(3), lambda x: [*x[:-1], x[-1][:-1]], "line 3: it isn't what"),
}


@pytest.mark.parametrize("what", LOG_CHANGES)
def test_verify_names_the_line_that_was_changed(tmp_path: Path, what: str) -> None:
    data = three_versions(tmp_path / "data")
    name, done, expected = LOG_CHANGES[what]
    path = versions_folder(data) / name
    path.write_bytes(b"".join(done(_lines(path))))
    found = told(data)
    assert any(line.startswith(str(path)) and expected in line for line in found)
    change(data, "grüße 0", "grüße null")
    with pytest.raises(DataError, match=name):
        record_version(data, READER)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Path, bytes]]:
    data = three_versions(tmp_path_factory.mktemp("kept") / "data")
    files = [data / "manifest.jsonl", data / "1.wav", *sorted((data / VERSIONS).glob("[lr]*"))]
    return data, {path: path.read_bytes() for path in files}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255), number=st.integers(0, 9))
def test_any_changed_byte_of_a_row_a_file_or_a_line_is_found(
    kept: tuple[Path, dict[Path, bytes]], place: float, byte: int, number: int
) -> None:
    data, files = kept
    path, content = list(files.items())[number % len(files)]
    at = int(place * len(content))
    path.write_bytes(content[:at] + bytes([content[at] ^ byte]) + content[at + 1 :])
    try:
        found = told(data)
    finally:
        path.write_bytes(content)
    assert found, f"{path.name}, byte {at}: {content[at]} became {content[at] ^ byte}"
    named = "row r1" if path.suffix == ".wav" else path.name
    assert path.name == "manifest.jsonl" or any(named in line for line in found)


@pytest.mark.parametrize("kind", ["before the line", "after the line"])
def test_a_kill_leaves_the_log_as_it_was_or_with_the_new_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    data = corpus(tmp_path / "data")
    record_version(data, READER)
    change(data, "grüße 1", "grüße eins")
    written = []

    def killed(*given: Any, **more: Any) -> None:
        written.append(given)
        if len(written) == {"before the line": 2, "after the line": 3}[kind]:
            raise KeyboardInterrupt

    import mmtune.data.version_keys as keys
    import mmtune.data.version_log as log

    write_json, write_bytes = keys.write_json, log.write_bytes
    with monkeypatch.context() as patch:
        patch.setattr(keys, "write_json", lambda *a, **k: (killed(), write_json(*a, **k)))
        patch.setattr(log, "write_bytes", lambda *a, **k: (killed(), write_bytes(*a, **k)))
        with pytest.raises(KeyboardInterrupt):
            record_version(data, READER)
    assert read_log(data).lines == (1 if kind == "before the line" else 2)
    assert bool(told(data)) == (kind == "before the line")
    assert record_version(data, READER).number == 2
    assert told(data) == []


def test_without_keys_rows_are_compared(tmp_path: Path) -> None:
    data = three_versions(tmp_path / "data")
    (data / VERSIONS / KEYS_FILE).unlink()
    assert len(diff_versions(f"{data}@1", f"{data}@3").found.changed) == 1
    (line,) = told(data)
    assert "the keys are missing" in line
    change(data, "grüße 0", "grüße null")
    assert len(told(data)) == 2
    with pytest.raises(DataError, match=r"keys\.json is missing"):
        record_version(data, READER)


def test_check_writes_a_version_with_the_splits(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rows = [
        {"id": f"r{i}", "audio": f"{i}.wav", "text": f"words {i}", "speaker": f"s{i}"}
        for i in range(12)
    ]
    for i in range(12):
        write_audio(data / f"{i}.wav", i, seconds=0.5)
    (data / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record_version(data, READER, "import")
    assert main(["check", str(data)]) == 0
    log = read_log(data)
    assert [each.step for each in log.versions.values()] == ["import", "split"]
    found = show_version(str(data))
    checked = check(data, READER, record=True)
    assert {name: len(checked.split(name)) for name in found.splits} == dict(found.splits)
    assert checked.version == log.versions[2].fingerprint
    assert (found.speakers, found.minutes) == (12, pytest.approx(0.1))
    assert checked.files["left_out"] == 0, "the log isn't a part of the data"
    (data / "manifest.jsonl").write_text('{"id": "x", "audio": "no.wav", "text": "a"}\n')
    assert main(["check", str(data)]) == FINDINGS
    assert read_log(data).lines == 2, "data that training refuses is no version"


@pytest.mark.parametrize("kind", ["speech", "image"])
def test_files_that_check_has_hashed_arent_hashed_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = find_modality(kind)
    rows: list[dict[str, Any]] = []
    for i in range(6):
        if kind == "speech":  # two rows of each file
            write_audio(tmp_path / f"{i}.wav", i, seconds=1.0)
            cuts = ((0.0, 0.5), (0.5, 1.0))
            rows += [
                {"id": f"{i}-{a}", "audio": f"{i}.wav", "text": f"w{i}{a}", "start": a, "end": b}
                for a, b in cuts
            ]
            continue
        write_image(tmp_path / f"{i}.png", i)
        write_image(tmp_path / f"{i}-mask.png", 40 + i)
        rows.append({"id": str(i), "image": f"{i}.png", "caption": "a", "mask": f"{i}-mask.png"})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected, _ = current_rows(tmp_path, reader)
    assert all(row.files and all(row.files.values()) for row in expected.values())
    with monkeypatch.context() as patched:
        patched.setattr("mmtune.data.version_rows.hash_file", lambda path: pytest.fail(str(path)))
        checked = check(tmp_path, reader, record=True)
    kept = read_log(tmp_path).rows(1)
    assert len(checked.rows) == len(rows)
    assert {n: row.files for n, row in kept.items()} == {n: r.files for n, r in expected.items()}


def test_the_log_of_one_manifest_lies_beside_it(tmp_path: Path) -> None:
    data = corpus(tmp_path / "data")
    record_version(data, READER)
    assert versions_folder(data / "manifest.jsonl") == versions_folder(data)
    shutil.rmtree(data / VERSIONS)
    before = hash_contents(data)
    for name in ("calls", "train"):
        shutil.copy(data / "manifest.jsonl", data / f"{name}.jsonl")
        record_version(data / f"{name}.jsonl", READER)
        assert (data / f"{name}.{VERSIONS}" / LOG).is_file()
        (data / f"{name}.jsonl").unlink()
    assert hash_contents(data) == before


def test_a_folder_without_a_manifest_has_versions(tmp_path: Path) -> None:
    for i, name in enumerate(("red apple", "green pear")):
        write_image(tmp_path / "icons" / f"{name}.png", i)
    assert record_data_version(tmp_path / "icons").modality == "image"
    (tmp_path / "icons" / "red apple.txt").write_text("a red apple")
    (line,) = told(tmp_path / "icons")
    assert line.startswith("row red apple: caption was ")
    assert main(["caption", str(tmp_path / "icons")]) == 0
    assert [v.step for v in read_log(tmp_path / "icons").versions.values()] == [
        *("import", "caption"),
    ]


def test_data_that_cant_be_written_has_its_log_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = corpus(tmp_path / "data")
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("mmtune.data.version_log.os.access", lambda path, mode: False)
    record_version(data, READER)
    assert not (data / VERSIONS).exists()
    assert versions_folder(data).is_relative_to(tmp_path / "cache")
    assert told(data) == []


WRONG: dict[str, tuple[list[str], str]] = {
    "no log": (["verify", "plain"], "has no version log"),
    "no data": (["log", "nowhere"], "no such file or folder"),
    "no such number": (["show", "data@9"], "holds no version '9'"),
    "no such fingerprint": (["show", "data@0000000"], "holds no version '0000000'"),
    "no step": (["record", "data", "--step", "magic"], "magic"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_request_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    record_version(corpus(tmp_path / "data"), READER)
    corpus(tmp_path / "plain")
    monkeypatch.chdir(tmp_path)
    words, message = WRONG[what]
    assert main(["data", *words]) == ERROR
    assert message in capsys.readouterr().err


def test_versions_are_found_by_number_and_fingerprint(tmp_path: Path) -> None:
    data = three_versions(tmp_path / "data")
    log = read_log(data)
    for number, version in log.versions.items():
        assert find_version(log, str(number)) == version
        assert find_version(log, version.fingerprint[:6].upper()) == version
    assert find_version(log) == log.versions[3]
    assert parse_version("a/b@2") == (Path("a/b"), "2")
    odd = tmp_path / "me@home"
    shutil.copytree(data, odd)
    assert parse_version(str(odd)) == (odd, "")
    assert show_version(f"{odd}@1").version.number == 1
    with pytest.raises(ConfigError, match="no version 'now'"):
        show_version(f"{odd}@now")


def test_other_data_without_a_version_is_compared_as_it_is(tmp_path: Path) -> None:
    data, other = three_versions(tmp_path / "data"), three_versions(tmp_path / "other")
    change(other, "grüße 0", "grüße null")
    assert not diff_versions(str(data)).found
    for first in (str(data), f"{data}@3", f"{data}@now"):
        assert list(diff_versions(first, str(other)).found.changed) == ["r0"]
        assert not diff_versions(first, f"{other}@3").found
    assert diff_versions(f"{data}@2", f"{data}@1").found.counts() == "1 changed"


def test_a_link_in_place_of_the_log_is_refused(tmp_path: Path) -> None:
    data = corpus(tmp_path / "data")
    (tmp_path / "elsewhere").mkdir()
    (data / VERSIONS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MmtuneError, match="is a link"):
        record_version(data, READER)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_training_refuses_a_log_that_was_changed_and_check_warns_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for i in range(3):
        write_audio(data / f"{i}.wav", i, seconds=0.5)
        (data / f"{i}.txt").write_text(f"words {i}")
    assert main(["check", str(data)]) == 0
    (data / "0.txt").write_text("other words")
    log = data / VERSIONS / LOG
    log.write_bytes(log.read_bytes().replace(b'"rows":3', b'"rows":4'))
    assert main(["check", str(data)]) == 0
    assert "line 1: it isn't what mmtune wrote: no version" in capsys.readouterr().out
    with pytest.raises(DataError, match="it isn't what mmtune wrote"):
        check(data, READER, record=True)
