"""Tables of pictures: one column a caption, one row for each model or source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmtune.pages.content import Cell, Examples

MAX_COLUMNS = 12  # captions of a table


@dataclass(frozen=True)
class PictureTable:
    """Pictures under captions.

    Attributes:
        captions: of the columns, in order; a number where the caption isn't shown.
        rows: name of each row, with one picture a column; None: there is none. A picture whose
            file isn't here has a text in its place.
    """

    captions: list[str]
    rows: list[tuple[str, list[Cell | None]]]


@dataclass(frozen=True)
class PictureTables:
    """The pictures of one kind of examples.

    Attributes:
        kind: the examples' kind.
        first: captions from all over the list.
        more: the other captions.
        others: number of captions in `more`.
    """

    kind: str
    first: PictureTable
    more: list[PictureTable]
    others: int


def picture_tables(some: Examples) -> PictureTables | None:
    """Arrange examples as tables; None if they aren't pictures with one caption at most."""
    cells = [*some.rows, *some.more]
    if not all(_fits(each) for each in cells):
        return None
    numbered = [(str(place + 1), each) for place, each in enumerate(cells)]
    columns = min(MAX_COLUMNS, len(numbered))
    # From all over the list: it may be sorted, and its first captions alike.
    chosen = [i * len(numbered) // columns for i in range(columns)]
    others = [each for i, each in enumerate(numbered) if i not in set(chosen)]
    return PictureTables(
        some.kind,
        _table([numbered[i] for i in chosen]),
        [_table(others[i : i + MAX_COLUMNS]) for i in range(0, len(others), MAX_COLUMNS)],
        len(others),
    )


def _fits(cells: Sequence[Cell]) -> bool:
    texts = [cell for cell in cells if cell.kind == "text"]
    pictures = [cell for cell in cells if cell.kind in ("picture", "gone")]
    return any(cell.kind == "picture" for cell in pictures) and (
        len(texts) <= 1 and len(texts) + len(pictures) == len(cells)
    )


def _table(columns: Sequence[tuple[str, Sequence[Cell]]]) -> PictureTable:
    captions, found = [], []
    for number, cells in columns:
        captions.append(next((_text(cell) for cell in cells if cell.kind == "text"), number))
        found.append({cell.name: cell for cell in cells if cell.kind != "text"})
    names = dict.fromkeys(name for each in found for name in each)
    return PictureTable(captions, [(name, [each.get(name) for each in found]) for name in names])


def _text(cell: Cell) -> str:
    return " ".join(words for words, _ in cell.words)
