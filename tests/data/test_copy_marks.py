"""Marks of copies in file names, and which of two equal files stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mmtune.data.check import check
from mmtune.data.copy_marks import without_copy_mark
from tests.data.pieces import IMAGE, write_image

# As Windows, macOS, GNOME and browsers name copies.
MARKED = (
    *("apple - Kopie", "apple - Copy (2)", "apple - Copie", "apple - copia", "apple copy"),
    *("apple copy 2", "apple Kopie", "apple_copy", "apple (1)", "apple(2)", "apple (copy)"),
    *("apple (another copy)", "apple (3rd copy)", "Copy of apple", "Kopie von apple"),
    *("copia de apple", "Copie de apple", "Copy of Copy of apple", "apple - Copy - Copy"),
)


@pytest.mark.parametrize("name", MARKED)
def test_marks_of_copies(name: str) -> None:
    assert without_copy_mark(name) == "apple"


@pytest.mark.parametrize(
    "name", ["apple", "photocopy", "copyright", "apple 2", "copy", "Kopie", "carbon-copy machine"]
)
def test_names_without_a_mark_stay(name: str) -> None:
    assert without_copy_mark(name) == name


@pytest.mark.parametrize(
    ("first", "second", "beside", "kept"),
    [
        ("apple - Kopie", "apple", "", "apple"),
        ("Copy of apple", "apple", "", "apple"),
        ("apple (1)", "apple", "apple (1)", "apple"),
        ("a red fruit", "apple", "apple", "apple"),
        ("a red fruit", "apple", "", "a red fruit"),
    ],
)
def test_which_of_two_equal_files_stays(
    tmp_path: Path, first: str, second: str, beside: str, kept: str
) -> None:
    write_image(tmp_path / f"{first}.png", 1)
    shutil.copy(tmp_path / f"{first}.png", tmp_path / f"{second}.png")
    if beside:
        (tmp_path / f"{beside}.txt").write_text("an apple")
    data = check(tmp_path, IMAGE, strict=False)
    assert [row.id for row in data.rows] == [kept]
