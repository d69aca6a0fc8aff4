"""Marks of copies in file names, and which of two equal files stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mmtune.data.check import check
from mmtune.data.copy_marks import without_copy_mark
from tests.data.pieces import IMAGE, write_image

# As Windows, macOS, GNOME and browsers name copies: no other names look so.
MARKED = (
    *("apple - Kopie", "apple - Copy (2)", "apple - Copie", "apple - copia", "apple_-_copy"),
    *("apple copy 2", "apple Kopie (3)", "apple_copy_2", "apple (1)", "apple(2)", "apple (99)"),
    *("apple (copy)", "apple (another copy)", "apple (3rd copy)", "apple - Copy - Copy"),
)
# As macOS, Google Drive and older Windows name them; names of things look so, too.
PERHAPS = (
    *("apple copy", "apple Kopie", "apple_copy", "apple-copy", "Copy of apple"),
    *("Kopie von apple", "copia de apple", "Copie de apple", "Copy of Copy of apple"),
    *("Copy (2) of apple", "Copy of apple (1)", "Copy of apple copy 2"),
)
NO_COPIES = (
    *("apple", "photocopy", "copyright", "apple 2", "copy", "Kopie", "carbon-copy machine"),
    *("photo (2024)", "photo (100)", "photo (0)", "hard copy", "carbon-copy", "fair_copy"),
    *("copia di seta", "copy of a masterpiece", "certified copy 2024", "book (hard copy)"),
)


def test_marks_of_copies() -> None:
    assert {name: without_copy_mark(name, set().__contains__) for name in MARKED} == dict.fromkeys(
        MARKED, "apple"
    )


@pytest.mark.parametrize("name", PERHAPS)
def test_what_may_be_a_name_is_a_mark_beside_the_other_file(name: str) -> None:
    assert without_copy_mark(name, {"apple"}.__contains__) == "apple"
    assert without_copy_mark(name, {"pear"}.__contains__) != "apple"


@pytest.mark.parametrize("name", NO_COPIES)
def test_names_without_a_mark_stay(name: str) -> None:
    assert without_copy_mark(name, {"apple", "Kopie"}.__contains__) == name


@pytest.mark.parametrize(
    ("first", "second", "beside", "kept"),
    [
        ("apple - Kopie", "apple", "", "apple"),
        ("Copy of apple", "apple", "", "apple"),
        ("apple (1)", "apple", "apple (1)", "apple"),
        ("apple copy", "apple", "apple copy", "apple"),
        ("apple", "hard copy", "hard copy", "hard copy"),
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
