"""Read CSV and TSV as programs write them, so that a stray quotation mark costs no other row.

Well-formed tables are read as RFC 4180 says (Python's `csv`). A record that isn't well formed, such
as a sentence that begins with a quotation mark and doesn't end with one, is read without quoting,
from its own line alone.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtune.data.ledger import Guess
from mmtune.data.manifest import MAX_LINE
from mmtune.errors import DataError
from mmtune.system.stored import opened, reason_of

SEPARATORS = ",;\t|"
MAX_JOINED = 200  # lines of one cell; more is an unclosed quotation mark
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

Line = tuple[str, Mapping[str, Any]]
"""A row: its place for messages, and its cells by column."""


def read_delimited(
    table: Path,
    *,
    separator: str | None = None,
    quoted: bool = True,
    encoding: str | None = None,
    begins_row: Callable[[Sequence[str]], bool] = lambda cells: False,
) -> Iterator[Line]:
    """Yield the rows of a table, each with its place; a line that is no row has the key "" alone.

    Args:
        table: the file.
        separator: between cells; None takes the one that is most frequent in the first line.
        quoted: whether quotation marks enclose cells, as in CSV.
        encoding: of the text; None takes the one of `dialect_of`.
        begins_row: whether the cells of a line look like a row of their own. Such a line isn't
            taken for the rest of a cell that begins on an earlier line, if that is a row, too.

    Raises:
        DataError: the file can't be read as text.
    """
    lines = _lines(table, encoding)
    first = next(lines, None)
    if first is None:
        return
    if separator is None:
        separator = separator_of(first)
    header = _cells(first, separator) if quoted else None
    columns = [name.strip() for name in header or first.rstrip("\r\n").split(separator)]

    def stops(start: str, more: str) -> bool:
        # A line that is a row of its own doesn't go on an earlier one; but the last line of a cell
        # may name a recording, too, where its first line is no row and its quotation mark is open.
        if not begins_row(_plain(more, separator)):
            return False
        first = _plain(start, separator)
        whole = len(first) == len(columns) and begins_row(first)
        return whole or more.count('"') % 2 == 0

    number = 1
    waiting: list[str] = []  # lines read ahead for a cell that turned out not to go on
    held: Line | None = None  # a row that the next line may show to be cut off
    short = open_quote = False  # the line before had too few cells; an odd number of marks
    while True:
        line = waiting.pop(0) if waiting else next(lines, None)
        if line is None:
            if held is not None:
                yield held
            return
        number += 1
        where = f"{table.name} line {number}"
        if not line.strip():
            continue
        cells, record = _cells(line, separator) if quoted else None, line
        if cells is None and quoted and line.count('"') % 2:
            joined, count = line, 0
            for count in range(1, MAX_JOINED):
                if len(waiting) < count and (more := next(lines, None)) is not None:
                    waiting.append(more)
                if len(waiting) < count or stops(line, waiting[count - 1]):
                    break
                joined += waiting[count - 1]
                cells = _cells(joined, separator)
                if cells is not None and len(cells) == len(columns):
                    record = joined
                    del waiting[:count]
                    number += count
                    break
                cells = None
        if cells is None:
            cells = _plain(line, separator)
        # A cell that lost its first quotation mark goes on in a line that has only the last one;
        # one whose mark has no partner may go on in any line that is no row.
        odd = quoted and record.count('"') % 2 == 1
        at = record.find('"')
        rest = odd and at > 0 and record[at - 1] != separator
        cut = len(cells) < len(columns) and (rest or open_quote)
        if held is not None:
            yield (
                (held[0], {"": f"its text may go on in {where}, which is no row"}) if cut else held
            )
            held = None
        if len(cells) != len(columns):
            found = f"the line has {len(cells)} columns, the first line {len(columns)}"
            yield where, {"": found}
        elif short and (rest or (open_quote and at >= 0)):
            yield where, {"": "its text may begin in the line before, which is no row"}
        else:
            held = where, dict(zip(columns, cells, strict=True))
        short, open_quote = len(cells) < len(columns), odd


def dialect_of(
    table: Path, separator: str | None = None, encoding: str | None = None
) -> list[Guess]:
    """Tell what `read_delimited` takes for a table's separator and encoding, if nobody states them.

    UTF-8 isn't guessed: other encodings don't decode as UTF-8, or have a byte order mark.

    Raises:
        DataError: the file can't be read as text.
    """
    guesses = []
    if encoding is None and (found := _encoding_of(table)).startswith("utf-16-"):
        source = f"every second byte of {table.name} is zero, and it has no byte order mark"
        guesses.append(Guess("encoding", found, source, first=table.name))
    if separator is None and (first := next(_lines(table, encoding), None)) is not None:
        source = f"the most frequent one in the first line of {table.name}"
        guesses.append(Guess("separator", separator_of(first), source, first=table.name))
    return guesses


def separator_of(first: str) -> str:
    """The most frequent separator in the first line of a table."""
    return max(SEPARATORS, key=first.count)


def _encoding_of(table: Path) -> str:
    with opened(table) as file:
        head = file.read(200)
    for mark, name in BOMS:
        if head.startswith(mark):
            return name
    # The first line holds names of columns, and most of their letters are ASCII.
    for name, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
        if len(zeros) > 1 and zeros.count(0) > len(zeros) / 2:
            return name
    return "utf-8"


def _cells(record: str, separator: str) -> list[str] | None:
    """Split a whole record by RFC 4180; None if it isn't well formed or goes on."""
    try:
        rows = list(csv.reader(record.splitlines(True), delimiter=separator, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _plain(line: str, separator: str) -> list[str]:
    return line.rstrip("\r\n").split(separator)


def _lines(table: Path, encoding: str | None) -> Iterator[str]:
    csv.field_size_limit(MAX_LINE)
    try:
        encoding = encoding or _encoding_of(table)
        # Only these end a line: other separators of Unicode may stand in a cell.
        with io.TextIOWrapper(opened(table), encoding=encoding, newline="") as text:
            while line := text.readline(MAX_LINE + 1):
                if len(line) > MAX_LINE:
                    raise ValueError(f"a line has more than {MAX_LINE} characters")
                yield line
    except (OSError, UnicodeError, ValueError) as error:
        raise DataError(
            f"{table} can't be read: {reason_of(error)}",
            "save it as UTF-8 text, or name its encoding, such as --encoding cp1252",
        ) from None
