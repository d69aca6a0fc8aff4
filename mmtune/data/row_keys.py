"""The keys by which a row is known again, and the split that each key was in."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from mmtune.data.rows import Row, Split
from mmtune.system.hashing import hash_text

KEY_DIGITS = 16  # hexadecimal digits of a stored key: two of 10 million are equal once in 400,000


def own_keys(row: Row, root: Path | None = None) -> tuple[str, ...]:
    """Keys of the row itself, the surest first: its content, its id, its file's place.

    The file counts without its suffix, so that a file in another format is known by its place.

    Args:
        row: with `content` set.
        root: the folder of the data; places in it count from there, so that it may be moved.
    """
    keys = [f"content {row.content}"] if row.content else []
    keys.append(f"id {row.id}")
    if row.media:
        path = row.path
        if root is not None and path.is_relative_to(root):
            path = path.relative_to(root)
        keys.append(f"file {unicodedata.normalize('NFC', path.with_suffix('').as_posix())}")
    return tuple(keys)


def binding_keys(row: Row, shared: Collection[str] = ()) -> tuple[str, ...]:
    """The row's leakage keys without those of the kinds `shared` ("speaker", "sentence" …)."""
    return tuple(key for key in row.leakage_keys if kind_of(key) not in shared)


def kind_of(key: str) -> str:
    """The kind of a leakage key, which is its first word."""
    return key.partition(" ")[0]


def short_hash(key: str) -> str:
    """The hash of a key as it is stored, so that a stored key shows no name and no text."""
    return hash_text(key)[:KEY_DIGITS]


@dataclass(frozen=True)
class Entry:
    """A row's split, as one line of a file.

    Attributes:
        id: of the row.
        split: the split that it is in.
        keys: `short_hash` of its own keys and its leakage keys.
        trained: a run has trained on it.
    """

    id: str
    split: Split
    keys: tuple[str, ...]
    trained: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `trained` only if it is true."""
        values: dict[str, Any] = {"id": self.id, "split": self.split, "keys": list(self.keys)}
        return values | {"trained": True} if self.trained else values

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Entry | None:
        """Make an entry from the values of `to_dict`; None if they aren't those of an entry."""
        keys = values.get("keys")
        split: Split | None = next((s for s in get_args(Split) if s == values.get("split")), None)
        if split is None or not isinstance(keys, list):
            return None
        trained = values.get("trained") is True
        return Entry(str(values.get("id")), split, tuple(map(str, keys)), trained)


def entry_of(row: Row, root: Path | None, shared: Collection[str], trained: bool = False) -> Entry:
    """The entry of a row that has a split."""
    assert row.split is not None
    keys = (*own_keys(row, root), *binding_keys(row, shared))
    return Entry(row.id, row.split, tuple(map(short_hash, keys)), trained)


@dataclass
class KnownKeys:
    """The split of each key that rows had before.

    A key that was in train once stays in train, whatever is said later.
    """

    sides: dict[str, Split] = field(default_factory=dict)
    trained: set[str] = field(default_factory=set)  # keys of rows that a run has trained on

    def add(self, entries: Iterable[Entry]) -> None:
        """Take the entries' keys over, in order."""
        for entry in entries:
            for key in entry.keys:
                if self.sides.get(key) != "train":
                    self.sides[key] = entry.split
            if entry.trained:
                self.trained.update(entry.keys)

    def side_of(self, key: str) -> Split | None:
        """The split that a key was in; None: it is new."""
        return self.sides.get(short_hash(key))

    def own_side(self, row: Row, root: Path | None = None) -> Split | None:
        """The split that the row itself was in, by the surest of its own keys that is known.

        An equal content is the same row under another id. A known id with a new content is a row
        that was corrected or recorded anew.
        """
        return next((s for key in own_keys(row, root) if (s := self.side_of(key))), None)

    def was_trained(self, row: Row, root: Path | None = None) -> bool:
        """Whether a run has trained on the row itself, also on an earlier form of it."""
        for key in map(short_hash, own_keys(row, root)):
            if key in self.sides:
                return key in self.trained
        return False

    def news(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The entries that say something new and contradict nothing."""
        for entry in entries:
            known = {self.sides[key] for key in entry.keys if key in self.sides}
            new = any(key not in self.sides for key in entry.keys)
            if new and known <= {entry.split}:
                yield entry
