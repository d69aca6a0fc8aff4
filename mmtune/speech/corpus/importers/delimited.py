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
from mmtune.system.encodings import HEAD, SEPARATORS, encoding_of, marked_encoding
from mmtune.system.stored import opened, reason_of

MAX_JOINED = 200  # lines of one cell; more is an unclosed quotation mark

Line = tuple[str, Mapping[str, Any]]
"""A row: its place for messages, and its values; a line that is no row has the key "" alone."""


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
        begins_row: whether the cells of a line look like a row of their own. After the line
            `a.wav,"Yes` the line `b.wav,No"` is such a row, and not the rest of the cell "Yes.

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
    columns = _distinct([name.strip() for name in header or _plain(first, separator)])

    def stops(start: str, more: str) -> bool:
        # `a.wav,"Yes` ends before `b.wav,No"`, because both are rows. But `"Listen to` goes on in
        # `b.wav",a.wav`: the first line alone is no row, and the second closes its cell.
        if not begins_row(_plain(more, separator)):
            return False
        first = _plain(start, separator)
        whole = len(first) == len(columns) and begins_row(first)
        return whole or more.count('"') % 2 == 0

    waiting: list[str] = []  # lines read ahead for a cell that turned out not to go on

    def from_line(read: list[str]) -> Iterator[str]:
        # `read` begins with the first line, and gets the lines that the cell may go on in.
        yield read[0]
        while len(read) < MAX_JOINED:
            if len(waiting) < len(read):
                if (more := next(lines, None)) is None:
                    return
                waiting.append(more)
            if stops(read[0], more := waiting[len(read) - 1]):
                return
            read.append(more)
            yield more

    number = 1
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
        if cells is None and quoted and _goes_on(line, separator):
            read = [line]
            cells = _first_record(from_line(read), separator)
            if cells is not None and len(cells) == len(columns):
                record = "".join(read)
                del waiting[: len(read) - 1]
                number += len(read) - 1
            else:
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
    found, is_guess = encoding_of(_head(table))
    if encoding is None and is_guess:
        source = f"every second byte of {table.name} is zero, and it has no byte order mark"
        guesses.append(Guess("encoding", found, source, first=table.name))
    if separator is None and (first := next(_lines(table, encoding), None)) is not None:
        source = f"the most frequent one in the first line of {table.name}"
        guesses.append(Guess("separator", separator_of(first), source, first=table.name))
    return guesses


def separator_of(first: str) -> str:
    """The most frequent separator in the first line of a table."""
    return max(SEPARATORS, key=first.count)


def _head(table: Path) -> bytes:
    with opened(table) as file:
        return file.read(HEAD)


def _cells(record: str, separator: str) -> list[str] | None:
    """Split a whole record by RFC 4180; None if it isn't well formed or goes on."""
    lines = io.StringIO(record, newline="")  # str.splitlines knows more ends of lines
    try:
        rows = list(csv.reader(lines, delimiter=separator, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _goes_on(line: str, separator: str) -> bool:
    """Whether a cell of the line was opened and not closed.

    The number of marks doesn't tell: `a.wav,s0","Yes` has two, and its last cell goes on.
    """
    try:
        list(csv.reader(io.StringIO(line, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        return "unexpected end of data" in str(error)
    return False


def _first_record(lines: Iterator[str], separator: str) -> list[str] | None:
    """Read lines until a record is complete; None if it isn't well formed, or they end before."""
    try:
        return next(csv.reader(lines, delimiter=separator, strict=True), None)
    except csv.Error:
        return None


def _distinct(names: list[str]) -> list[str]:
    """Number the columns that have the name of an earlier one, as pandas does: text, text.1."""
    given, numbers = set(names), dict[str, int]()
    found: dict[str, None] = {}
    for name in names:
        number, new = numbers.get(name, 0), name
        while new in found or (number and new in given):
            number += 1
            new = f"{name}.{number}"
        found[new] = None
        numbers[name] = number
    return list(found)


def _plain(line: str, separator: str) -> list[str]:
    return line.rstrip("\r\n").split(separator)


def _lines(table: Path, encoding: str | None) -> Iterator[str]:
    csv.field_size_limit(MAX_LINE)
    try:
        head = _head(table)
        marked = marked_encoding(head)
        family = marked.removesuffix("-sig")
        if encoding and not codecs.lookup(encoding).name.startswith(family):
            raise DataError(
                f"{table} begins with the byte order mark of {family}, but its encoding is given "
                f"as {encoding}",
                "leave out --encoding",
            )
        encoding = encoding or encoding_of(head)[0]
        # Only these end a line: other separators of Unicode may stand in a cell.
        with io.TextIOWrapper(opened(table), encoding=encoding, newline="") as text:
            first = True
            while line := text.readline(MAX_LINE + 1):
                if len(line) > MAX_LINE:
                    raise ValueError(f"a line has more than {MAX_LINE} characters")
                # Excel's "CSV UTF-8" begins with a byte order mark, whatever the user calls it.
                yield line.lstrip("\ufeff") if first else line
                first = False
    except (OSError, UnicodeError, ValueError) as error:
        raise DataError(
            f"{table} can't be read: {reason_of(error)}",
            "save it as UTF-8 text, or name its encoding, such as --encoding cp1252",
        ) from None
