"""The rows of a version of data: their values, the hashes of their files, and what changed.

`Dataset.fingerprint` doesn't fit here: it stands for the rows that a run can use, so it depends on
the run's settings, and every file must be decoded for it. A version stands for all rows as they
are written, and for the bytes of their files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mmtune.data.manifest import read_rows, root_of
from mmtune.data.reader import Reader
from mmtune.data.row_keys import KnownKeys
from mmtune.data.rows import Finding, Row, Split
from mmtune.data.split_ledger import read_ledger
from mmtune.system.hashing import hash_file, hash_json
from mmtune.system.inside import inside

SPLIT = "split"
SHOWN_DIGITS = 12  # of a hash, in what people read


@runtime_checkable
class Timed(Protocol):
    """A reader whose rows last some time."""

    def seconds_of(self, row: Row) -> float | None:
        """The row's length in seconds without decoding its file; None: it can't be read."""
        ...


@dataclass(frozen=True)
class VersionRow:
    """One row of a version.

    Attributes:
        values: the row's fields as in a manifest, with the split that it has.
        files: SHA-256 of the file that each field names; "" if there is no such file.
        seconds: length of the row; None: unknown. It isn't part of the row's identity.
    """

    values: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def id(self) -> str:
        """The row's id."""
        return str(self.values["id"])

    @property
    def subject(self) -> str:
        """The person or thing that the row is about; empty if the row doesn't say."""
        return str(self.values.get("subject") or self.values.get("speaker") or "")

    @property
    def identity(self) -> dict[str, Any]:
        """What counts for the fingerprint."""
        return {"row": dict(self.values), "files": dict(self.files)}

    def is_as(self, later: VersionRow) -> bool:
        """Whether a later form of the row is the same, and no length is known of it alone."""
        known = self.seconds is not None or later.seconds is None
        return known and self.identity == later.identity

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self.identity | ({} if self.seconds is None else {"seconds": self.seconds})

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> VersionRow:
        """Read the values of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: they are others.
        """
        row, files, seconds = values["row"], values["files"], values.get("seconds")
        if not isinstance(row, dict) or not isinstance(row["id"], str):
            raise TypeError("a row has no id")
        digests = {str(name): str(digest) for name, digest in files.items()}
        return VersionRow(row, digests, None if seconds is None else float(seconds))


VersionRows = Mapping[str, VersionRow]  # by id


@dataclass(frozen=True)
class Seen:
    """What `check` has just seen of rows and files, so that it isn't read again.

    Attributes:
        seconds: lengths of rows, by id.
        hashes: SHA-256 of files, by their path without links.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    hashes: Mapping[Path, str] = field(default_factory=dict)


def fingerprint_of(rows: Iterable[VersionRow]) -> str:
    """Hash rows and the content of their files; their order doesn't count."""
    return hash_json(sorted(hash_json(row.identity) for row in rows))


def current_rows(
    source: Path, reader: Reader, seen: Seen | None = None
) -> tuple[dict[str, VersionRow], list[Finding]]:
    """Read the rows of a source as they are now, and hash their files.

    A row that names no split has the one that the split ledger keeps for it.

    Args:
        source: a manifest or folder.
        reader: of its modality.
        seen: what is known of rows and files.

    Returns:
        The rows by id, and a finding for each line that is no row.

    Raises:
        DataError: the source or its split ledger can't be read.
    """
    root = root_of(source)
    rows, findings = read_rows(source, reader)
    known = read_ledger(source).known
    # Data that names train and test alone has its validation drawn from train (`assign`).
    drawn = {row.split for row in rows} == {"train", "test"}
    seen = seen or Seen()
    places = {root / place for row in rows for place in row.files.values()}
    digests = _digests(places, root, seen.hashes)
    timed = reader if isinstance(reader, Timed) else None

    def made(row: Row) -> VersionRow:
        values = row.model_dump(mode="json", exclude_defaults=True, exclude={"content", SPLIT})
        if split := _split_of(row, known, root, drawn):
            values[SPLIT] = split
        length = seen.seconds.get(row.id)
        if length is None and timed is not None:
            places = {name: str(root / place) for name, place in row.files.items()}
            length = timed.seconds_of(row.model_copy(update=places))
        files = {name: digests[root / place] for name, place in row.files.items()}
        return VersionRow(values, files, None if length is None else round(length, 3))

    return {row.id: made(row) for row in rows}, findings


def _split_of(row: Row, known: KnownKeys, root: Path, drawn: bool) -> Split | None:
    kept = known.own_side(row, root)
    if row.split is None or (drawn and (row.split, kept) == ("train", "validation")):
        return kept
    return row.split


def _digests(places: Iterable[Path], root: Path, known: Mapping[Path, str]) -> dict[Path, str]:
    def digest(place: Path) -> tuple[Path, str]:
        found = inside(root, place)
        try:
            return place, "" if found is None else known.get(found) or hash_file(found)
        except OSError:
            return place, ""

    # Hash functions release the interpreter's lock, so threads run in parallel.
    with ThreadPoolExecutor(min(16, (os.cpu_count() or 1) + 2)) as pool:
        return dict(pool.map(digest, places))


@dataclass(frozen=True)
class Changed:
    """One value of a row that changed.

    Attributes:
        name: of the field, or "content of" it for the file that it names.
        then: the value before; None: there was none.
        now: the value after.
    """

    name: str
    then: Any
    now: Any


@dataclass(frozen=True)
class Difference:
    """What makes one version of another.

    Attributes:
        added: rows that only the second has, by id.
        removed: rows that only the first has.
        changed: the values that changed, by the row's id.
        same: the number of rows that are as they were.
    """

    added: VersionRows
    removed: VersionRows
    changed: Mapping[str, tuple[Changed, ...]]
    same: int

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def only(self, name: str) -> bool:
        """Whether nothing but one field of rows changed."""
        values = (each for changes in self.changed.values() for each in changes)
        return not self.added and not self.removed and all(each.name == name for each in values)

    def counts(self) -> str:
        """What changed, in words: "2 added, 1 changed"."""
        counted = {"added": self.added, "removed": self.removed, "changed": self.changed}
        parts = [f"{len(rows):,} {name}" for name, rows in counted.items() if rows]
        return ", ".join(parts) or "order or spacing"


def difference(before: VersionRows, after: VersionRows) -> Difference:
    """Compare the rows of two versions; rows belong together by their id."""
    shared = [name for name in after if name in before]
    compared = {name: changes(before[name], after[name]) for name in shared}
    changed = {name: found for name, found in compared.items() if found}
    return Difference(
        added={name: row for name, row in after.items() if name not in before},
        removed={name: row for name, row in before.items() if name not in after},
        changed=changed,
        same=len(shared) - len(changed),
    )


def changes(before: VersionRow, after: VersionRow) -> tuple[Changed, ...]:
    """The values that differ between two forms of a row."""
    found = [
        Changed(name, before.values.get(name), after.values.get(name))
        for name in dict.fromkeys((*before.values, *after.values))
        if before.values.get(name) != after.values.get(name)
    ]
    found += [
        Changed(f"content of {name}", before.files.get(name), after.files.get(name))
        for name in dict.fromkeys((*before.files, *after.files))
        if before.files.get(name) != after.files.get(name)
    ]
    return tuple(found)
