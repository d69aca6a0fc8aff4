"""Examples that are pictures become tables, spread over the captions."""

from __future__ import annotations

from mmtune.pages.content import Cell, Examples
from mmtune.pages.picture_table import picture_tables


def example(caption: str | None, *pictures: str, gone: str = "") -> list[Cell]:
    cells = [Cell("prompt", "text", [(caption, "same")])] if caption is not None else []
    cells += [Cell(name, "picture", data=f"data:{caption} {name}") for name in pictures]
    return cells + ([Cell(gone, "gone", [("not here", "same")])] if gone else [])


def test_twelve_captions_from_all_over_the_list_come_first() -> None:
    rows = [example(str(i), "base", "adapter") for i in range(40)]
    found = picture_tables(Examples("captions", rows[:3], False, rows[3:]))
    assert found is not None
    assert found.first.captions == [
        "0", "3", "6", "10", "13", "16", "20", "23", "26", "30", "33", "36",
    ]  # fmt: skip
    assert [name for name, _ in found.first.rows] == ["base", "adapter"]
    base = found.first.rows[0][1]
    assert [cell.data for cell in base if cell] == [f"data:{c} base" for c in found.first.captions]
    assert found.others == 28
    assert [len(table.captions) for table in found.more] == [12, 12, 4]
    every = [*found.first.captions, *(c for table in found.more for c in table.captions)]
    assert sorted(every, key=int) == [str(i) for i in range(40)]


def test_a_caption_that_may_not_be_shown_is_a_number_and_a_picture_may_be_missing() -> None:
    rows = [example(None, "adapter"), example("dog", "adapter", "brand"), example("cat", "adapter",
            gone="brand")]  # fmt: skip
    found = picture_tables(Examples("captions", rows, False))
    assert found is not None
    assert found.first.captions == ["1", "dog", "cat"]
    brand = dict(found.first.rows)["brand"]
    assert [cell and cell.kind for cell in brand] == [None, "picture", "gone"]
    assert found.others == 0


def test_what_has_sounds_or_more_texts_stays_an_example() -> None:
    sound = [*example("a", "base"), Cell("recording", "sound", data="data:audio")]
    texts = [*example("a", "base"), Cell("note", "text", [("b", "same")])]
    for row in (sound, texts, example("a"), example("a", gone="base")):
        assert picture_tables(Examples("k", [example("a", "base"), row], False)) is None
