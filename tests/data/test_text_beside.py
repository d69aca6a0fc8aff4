"""Which text file belongs to a media file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.data.text_beside import read_words, text_beside

# The first that exists counts.
ORDER = ("a.wav.txt", "a.wav.TXT", "a.wav.Txt", "a.txt", "a.TXT", "a.Txt")


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_the_text_of_the_whole_name_comes_first(tmp_path: Path, first: int) -> None:
    for name in ORDER[first:]:
        (tmp_path / name).touch()
    if len(list(tmp_path.iterdir())) < len(ORDER) - first:
        pytest.skip("this file system doesn't tell capitals from small letters")
    assert text_beside(tmp_path / "a.wav").name == ORDER[first]


def test_a_missing_text_has_the_usual_name(tmp_path: Path) -> None:
    assert text_beside(tmp_path / "a.wav") == tmp_path / "a.txt"


@pytest.mark.parametrize(("over", "kind"), [(0, str), (1, bytes)])
def test_a_text_of_the_largest_size_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, over: int, kind: type
) -> None:
    """A longer one is returned as bytes that no text has, so that the check refuses the row."""
    monkeypatch.setattr("mmtune.data.text_beside.MAX_TEXT", 10)
    (tmp_path / "a.txt").write_text("a" * (10 + over))
    found = read_words(tmp_path / "a.txt", tmp_path, "a")
    assert isinstance(found, kind)
    assert isinstance(found, str) or found.endswith(b"\xff")
