"""Encodings of the texts that people bring, by their first bytes; and separators of tables."""

from __future__ import annotations

import codecs

# UTF-32 before UTF-16, whose mark it begins with.
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
HEAD = 200  # bytes by which an encoding is known
SEPARATORS = (",", ";", "\t", "|")  # of the cells of a table


def marked_encoding(head: bytes) -> str:
    """The encoding that a byte order mark states; empty if there is none."""
    return next((name for mark, name in BOMS if head.startswith(mark)), "")


def encoding_of(head: bytes) -> tuple[str, bool]:
    """The encoding of a text by its first bytes, and whether that is a guess.

    Without a byte order mark it is UTF-8, or UTF-16 if most of every other bytes are zero: most
    letters of a table's first line, or of a caption, are ASCII.

    Args:
        head: at least the first `HEAD` bytes, or all.
    """
    if marked := marked_encoding(head):
        return marked, False
    for name, zeros in (("utf-16-le", head[1:HEAD:2]), ("utf-16-be", head[:HEAD:2])):
        if len(zeros) > 1 and zeros.count(0) > len(zeros) / 2:
            return name, True
    return "utf-8-sig", False
