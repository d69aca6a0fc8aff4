"""Recognise a path with spaces that the shell has divided into several words."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from mmtune.system.stored import exists

MAX_WORDS = 12  # of one name


def quoted(arguments: Sequence[str]) -> str:
    """The command line with its divided paths in quotation marks; empty if there is none.

    Words are a divided path if they are a file's or folder's name together, and the first of them
    alone isn't.

    Args:
        arguments: of the command line, without the program's name.
    """
    words: list[str] = []
    rest = list(arguments)
    divided = False
    while rest:
        count = _words_of_path(rest) if words else 1  # the first word is the command
        words.append(" ".join(rest[:count]))
        divided |= count > 1
        rest = rest[count:]
    return shlex.join(["mmtune", *words]) if divided else ""


def _words_of_path(rest: Sequence[str]) -> int:
    """How many of the first words are one path: 1 if the first is a word of its own."""
    option, equals, value = rest[0].partition("=")
    begun = value if equals and option.startswith("--") else rest[0]
    if (rest[0].startswith("-") and not equals) or exists(Path(begun)):
        return 1
    for count in range(min(len(rest), MAX_WORDS), 1, -1):
        if exists(Path(" ".join([begun, *rest[1:count]]))):
            return count
    return 1
