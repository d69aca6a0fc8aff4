"""Ids of imported rows, which stay the same when the source is imported again."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmtune.speech.corpus.importers.piece import Piece
from mmtune.speech.speech_row import SOURCE
from mmtune.system.hashing import hash_json


class RowIds:
    """Gives each piece an id of its own: the one of an earlier import, or else a new one.

    Args:
        earlier: rows of the earlier import by id.
    """

    def __init__(self, earlier: dict[str, dict[str, Any]]) -> None:
        self.taken: set[str] = set()
        # Ids by where their piece was cut from, and by what they are without a number.
        self.earlier: dict[tuple[str, str], deque[str]] = {}
        self.recordings: dict[str, str] = {}  # by id
        self.numbers: dict[tuple[str, str], int] = {}  # the least number that may be free
        for name, row in earlier.items():
            group = row.get("group")
            if isinstance(group, dict):
                for wanted in {name, re.sub(r"-\d+$", "", name)}:
                    self.earlier.setdefault((self._key(group), wanted), deque()).append(name)
                self.recordings[name] = str(group.get(SOURCE))

    def new(self, piece: Piece, group: Mapping[str, str]) -> str:
        """Return the id of a piece, without taking it.

        Args:
            piece: the piece.
            group: where it is cut from, as in the row's `group`.
        """
        wanted = _wanted_id(piece)
        own = self.earlier.get((self._key(group), wanted), deque())
        while own and own[0] in self.taken:
            own.popleft()
        if own:
            return own[0]
        # A new recording doesn't take the id that another one had, unless the source says so.
        recording = "" if piece.id else piece.recording
        number = self.numbers.get((wanted, recording), 1)
        while (name := wanted if number == 1 else f"{wanted}-{number}") in self.taken or (
            not piece.id and self.recordings.get(name, piece.recording) != piece.recording
        ):
            number += 1
        self.numbers[wanted, recording] = number
        return name

    @staticmethod
    def _key(group: Mapping[str, str]) -> str:
        names = (SOURCE, f"{SOURCE}_start", f"{SOURCE}_end", f"{SOURCE}_channel")
        return hash_json([str(group.get(name, "")) for name in names])


def _wanted_id(piece: Piece) -> str:
    name = piece.id
    if not name:
        name = Path(piece.recording).with_suffix("").as_posix().lstrip("/")
        if piece.start or piece.end is not None:
            name += f"-{round(piece.start * 1000):08d}"
    return name
