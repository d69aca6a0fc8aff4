"""Reading: pipes are refused at once, a long line doesn't fill the memory, damage is one error."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtune.errors import ConfigError, DataError
from mmtune.system.files import append_text, write_json, write_text
from mmtune.system.stored import (
    damaged,
    intact_json_lines,
    lines_up_to,
    opened,
    read_json,
    read_json_lines,
    read_json_object,
    read_text,
    stored_key,
)


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a pipe or a device"):
        opened(tmp_path / "pipe")


def test_a_device_is_refused() -> None:
    with pytest.raises(OSError, match="a pipe or a device"):
        read_text(Path("/dev/zero"))


def test_a_text_has_a_stated_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abcdef")
    assert read_text(tmp_path / "a", most=6) == "abcdef"
    with pytest.raises(DataError, match="more than 5 bytes"):
        read_text(tmp_path / "a", most=5)


@given(st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"")), max_size=6))
def test_short_lines_are_whole_and_long_ones_cut(lines: list[bytes]) -> None:
    found = list(lines_up_to(io.BytesIO(b"".join(line + b"\n" for line in lines)), 8))
    assert [line.rstrip(b"\n")[:8] for line in found] == [line[:8] for line in lines]
    assert [len(line.rstrip(b"\n")) > 8 for line in found] == [len(line) > 8 for line in lines]


def test_a_line_of_900_megabytes_needs_little_memory(tmp_path: Path) -> None:
    """In a process of its own, whose memory is limited; the file has a hole, and no blocks."""
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"id": "a", "audio": "')
        file.truncate(900_000_000)
        file.seek(0, 2)
        file.write(b'\n{"id": "b", "audio": "b.wav", "text": "b"}\n')
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from mmtune.data.manifest import read_rows\n"
        "from mmtune.speech.corpus.speech_reader import READER\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "rows, findings = read_rows(Path(sys.argv[1]), READER)\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(len(rows), findings[0].message, (after - before) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120
    )
    said = done.stdout
    assert "this line is not a row: it has more than 1,000,000 bytes" in said, done.stderr
    assert said.startswith("1 ")
    assert int(said.split()[-1]) < 50  # MiB


DAMAGE = {
    "no UTF-8": (b"\xff{}", "it is not UTF-8 text"),
    "cut off": (b'{"a": 1', "Expecting"),
    "deep": (b"[" * 200_000, "nested too deeply"),
    "a list": (b"[]", "not an object"),
    "null": (b"null", "not an object"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_error_that_names_file_and_cure(kind: str, tmp_path: Path) -> None:
    content, reason = DAMAGE[kind]
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_json_object(path, "make it again", DataError)
    assert str(path) in caught.value.found
    assert caught.value.cure == "make it again"
    with pytest.raises(ConfigError, match=r"a\.json, line 1"):
        list(read_json_lines(path, "make it again"))
    assert list(intact_json_lines(path)) == []
    assert stored_key(path) == ""


def test_a_missing_file_is_not_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "a.json", "make it again")
    assert stored_key(tmp_path / "a.json") == ""


def test_only_damage_becomes_an_error() -> None:
    with pytest.raises(ZeroDivisionError), damaged("a.json", "make it again"):
        raise ZeroDivisionError


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(VALUES)
def test_json_is_read_back_equal(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_json(path, value)
    assert read_json(path, "") == value


def test_half_surrogates_are_read_back_equal(tmp_path: Path) -> None:
    """They stand for the bytes of a file's name that isn't UTF-8."""
    write_json(tmp_path / "a.json", {"a\udcff": "\ud800"})
    assert read_json(tmp_path / "a.json", "") == {"a\udcff": "\ud800"}
    append_text(tmp_path / "a.jsonl", json.dumps({"a": "\udcff"}, ensure_ascii=False) + "\n")
    assert list(read_json_lines(tmp_path / "a.jsonl", "")) == [{"a": "\udcff"}]


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_line_ends_of_a_text_become_one_kind(end: str, tmp_path: Path) -> None:
    write_text(tmp_path / "a", f"\ufeffone{end}two")
    assert read_text(tmp_path / "a") == "one\ntwo"
