"""The version log of data: a chain of lines in plain files beside the manifest.

`log.jsonl` has one line a version, with an HMAC over the line and over the HMAC of the line before.
`rows-0003.jsonl` has what version 3 adds to the one before, and takes away. The chain knows rows by
HMACs under the keys of their subjects alone, so a row's line can lose its values later.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from mmtune.data.manifest import WHOLE, root_of
from mmtune.data.version_keys import CURE, KEYS_FILE, VersionKeys, canonical, read_keys
from mmtune.data.version_rows import SHOWN_DIGITS, VersionRow, fingerprint_of
from mmtune.errors import DataError, MmtuneError
from mmtune.system.contents import VERSIONS
from mmtune.system.files import stream_aside, write_bytes
from mmtune.system.formats import FORMAT, without_format
from mmtune.system.hashing import hash_text
from mmtune.system.locks import hold_when_free
from mmtune.system.resources import cache_root
from mmtune.system.stored import DAMAGE, opened, reason_of
from mmtune.system.version import VERSION

LOG = "log.jsonl"
WAIT = 60.0  # s to wait for another command that writes the log
Step = Literal["import", "split", "fix", "caption", "synthesize", "audit", "redact", "feedback"]
STEPS: tuple[str, ...] = get_args(Step)
NOT_WRITTEN = "it isn't what mmtune wrote"


def versions_folder(source: Path) -> Path:
    """The folder of a source's version log; it needn't exist.

    It lies beside the manifest, or in the cache's folder if the data's folder can't be written.
    """
    place = source if source.is_dir() else source.parent
    whole = source.is_dir() or source.name == WHOLE
    beside = place / (VERSIONS if whole else f"{source.stem}.{VERSIONS}")
    if beside.exists() or os.access(place, os.W_OK):
        return beside
    root = root_of(source)
    return cache_root() / "versions" / f"{root.name}-{hash_text(str(root / beside.name))[:16]}"


@dataclass(frozen=True)
class Version:
    """One line of the log.

    Attributes:
        number: of the version, from 1.
        fingerprint: of its rows (`fingerprint_of`).
        modality: the modality of the rows.
        step: what made it.
        parents: fingerprints of what it was made from; that of the line before comes first.
        rows: how many it has.
        created: when, in UTC.
        by: the version of mmtune.
        root: HMAC over the HMACs of all its rows.
        about: HMAC of what `rows-NNNN.jsonl` says about the step.
        manifests: HMAC of each manifest's bytes, by its name.
        previous: HMAC of the line before; empty in the first.
        mac: HMAC of this line.
        format: of the line.
    """

    number: int
    fingerprint: str
    modality: str
    step: str
    parents: tuple[str, ...]
    rows: int
    created: str
    by: str
    root: str
    about: str
    manifests: Mapping[str, str]
    previous: str
    mac: str = ""
    format: int = FORMAT

    @property
    def name(self) -> str:
        """The version for people: "version 3 (91cc0f2e4a67)"."""
        return f"version {self.number} ({self.fingerprint[:SHOWN_DIGITS]})"

    @property
    def when(self) -> str:
        """When it was made, to the minute."""
        return f"{self.created[:16].replace('T', ' ')} UTC"

    @property
    def signed(self) -> bytes:
        """What `mac` is made of."""
        return canonical(asdict(replace(self, mac="")))

    @property
    def line(self) -> bytes:
        """The line as it is written, without its end."""
        return canonical(asdict(self))


def rows_file(number: int) -> str:
    """The name of the file with the changes of a version."""
    return f"rows-{number:04}.jsonl"


@dataclass(frozen=True)
class Problem:
    """Something in the files of a log that isn't what mmtune wrote.

    Attributes:
        path: the file.
        line: the line, from 1; 0: the file as a whole.
        found: what is wrong.
    """

    path: Path
    line: int
    found: str

    def __str__(self) -> str:
        return f"{self.path}{f', line {self.line}' if self.line else ''}: {self.found}"


@dataclass
class VersionLog:
    """The log of one source.

    Attributes:
        folder: its folder; it needn't exist.
        keys: None: they are missing, and no HMAC can be checked.
        lines: how many lines the log has, also those that can't be read.
        versions: the lines that can be read, by number.
        problems: what isn't as mmtune wrote it.
        changed: numbers of the lines among `versions` that were changed.
    """

    folder: Path
    keys: VersionKeys | None = None
    lines: int = 0
    versions: dict[int, Version] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    changed: set[int] = field(default_factory=set)

    @property
    def last(self) -> Version | None:
        """The last version; None: there is none."""
        return self.versions.get(self.lines)

    def add_problem(self, path: Path, line: int, found: str) -> None:
        """Note what isn't as mmtune wrote it, once."""
        problem = Problem(path, line, found)
        if problem not in self.problems:
            self.problems.append(problem)

    def require_whole(self) -> None:
        """Refuse a log that isn't as mmtune wrote it.

        Raises:
            DataError: names the first line that isn't.
        """
        if self.problems:
            raise DataError(
                str(self.problems[0]),
                "list all that was changed with mmtune data verify, and restore these files from "
                f"a backup; or delete {self.folder} to begin a new log",
            )

    def states(self) -> Iterator[tuple[int, dict[str, VersionRow], dict[str, Any]]]:
        """Yield each version's number, its rows by HMAC, and what it says about its step.

        The rows are changed by the next version. What is wrong is added to `problems`.
        """
        rows: dict[str, VersionRow] = {}
        for number in range(1, self.lines + 1):
            yield number, rows, self._read_changes(number, rows)

    def rows(self, number: int) -> dict[str, VersionRow]:
        """The rows of a version by id.

        Raises:
            DataError: the log's files aren't as mmtune wrote them.
        """
        found: dict[str, VersionRow] = {}
        for each, rows, _ in self.states():
            if each == number:
                found = {row.id: row for row in rows.values()}
                break
        self.require_whole()
        return found

    def _read_changes(self, number: int, rows: dict[str, VersionRow]) -> dict[str, Any]:
        """Apply the file of a version to the rows of the one before."""
        path, keys, about = self.folder / rows_file(number), self.keys, dict[str, Any]()
        version = self.versions.get(number) if number not in self.changed else None
        for line, values in _objects(path, self):
            if line == 1:
                about = values
                written = keys.of_bytes(canonical(about)) if keys is not None else None
                if written is not None and version is not None and written != version.about:
                    self.add_problem(path, 1, NOT_WRITTEN)
                continue
            try:
                if "gone" in values:
                    del rows[values["gone"]]
                    continue
                mac, row = str(values["mac"]), VersionRow.from_dict(values)
            except DAMAGE:
                self.add_problem(path, line, NOT_WRITTEN)
                continue
            if keys is not None and mac != keys.of_row(row):
                self.add_problem(path, line, f"row {row.id}: {NOT_WRITTEN}")
            rows[mac] = row
        if version is not None and not self._fits(version, rows):
            self.add_problem(path, 0, f"its rows aren't those of {version.name}")
        return about

    def _fits(self, version: Version, rows: Mapping[str, VersionRow]) -> bool:
        if self.keys is None:
            return fingerprint_of(rows.values()) == version.fingerprint
        return self.keys.of_bytes(_root(rows)) == version.root

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the log's lock.

        Raises:
            Locked: another process held it for too long.
            OSError: the folder can't be made.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = self.folder.with_name(f".{self.folder.name}.lock")
        with hold_when_free(lock, self.folder, WAIT):
            yield

    def append(
        self,
        rows: dict[str, VersionRow],
        *,
        modality: str,
        step: str,
        parents: Sequence[str],
        about: Mapping[str, Any],
        manifests: Mapping[str, bytes],
    ) -> Version:
        """Write a version; the caller holds the lock.

        A kill at any moment leaves the log as it was, or with the new line.

        Args:
            rows: all rows of the version, by id.
            modality, step, parents: of the version.
            about: what to say of the step; names and texts of the data may be in it.
            manifests: the bytes of each manifest, by its name.

        Raises:
            DataError: the log isn't as mmtune wrote it, or its keys are missing.
            OSError: a file can't be written.
        """
        known: dict[str, VersionRow] = {}
        for _, found, _ in self.states():
            known = found
        self.require_whole()
        if self.keys is None and self.lines:
            raise DataError(f"{self.folder / KEYS_FILE} is missing", CURE)
        keys = self.keys = self.keys or VersionKeys()
        earlier = {row.id: row for row in known.values()}
        # A row that is as it was keeps its line, with the length that is known of it.
        same = {n: e for n, row in rows.items() if (e := earlier.get(n)) and e.is_as(row)}
        now = {keys.of_new_row(row): row for row in (rows | same).values()}
        version = Version(
            number=self.lines + 1,
            fingerprint=fingerprint_of(rows.values()),
            modality=modality,
            step=step,
            parents=tuple(parents),
            rows=len(rows),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            by=VERSION,
            root=keys.of_bytes(_root(now)),
            about=keys.of_bytes(canonical(about)),
            manifests={name: keys.of_bytes(data) for name, data in manifests.items()},
            previous=self.last.mac if self.last else "",
        )
        version = replace(version, mac=keys.of_bytes(version.signed))
        with stream_aside(self.folder / rows_file(version.number), private=True) as file:
            file.write(canonical(about) + b"\n")
            for mac in known:
                if mac not in now:
                    file.write(canonical({"gone": mac}) + b"\n")
            for mac, row in now.items():
                if mac not in known:
                    file.write(canonical({"mac": mac, **row.to_dict()}) + b"\n")
        keys.following = version.mac
        keys.write(self.folder)
        self.versions[version.number] = version
        lines = b"".join(each.line + b"\n" for each in self.versions.values())
        write_bytes(self.folder / LOG, lines, private=True, durable=True)
        keys.head, keys.following = version.mac, ""
        keys.write(self.folder)
        self.lines = version.number
        return version


def read_log(source: Path) -> VersionLog:
    """Read the version log of a source; without one it has no versions.

    Raises:
        DataError: the folder is a link, or its keys are damaged.
        ConfigError: a newer mmtune wrote its keys.
    """
    folder = versions_folder(source)
    if folder.is_symlink():  # it would be written through the link
        raise DataError(f"{folder} is a link", "put the folder itself in its place")
    log = VersionLog(folder, read_keys(folder))
    path = folder / LOG
    before: Version | None = None  # the line before, if it is as it was written
    for number, values in _objects(path, log, missing=log.keys is None):
        try:
            without_format(values, path)
            version = Version(**(values | {"parents": tuple(values["parents"])}))
            whole = log.keys is None or version.mac == log.keys.of_bytes(version.signed)
        except MmtuneError as error:
            log.add_problem(path, number, error.found)
            before = None
            continue
        except DAMAGE:
            log.add_problem(path, number, NOT_WRITTEN)
            before = None
            continue
        if not whole:
            log.changed.add(number)
            log.add_problem(path, number, NOT_WRITTEN)
        elif version.number != number or (before is not None and version.previous != before.mac):
            log.changed.add(number)
            log.add_problem(path, number, f"{version.name} isn't what follows the line before")
        log.versions[number] = before = version
        before = None if number in log.changed else version
    if log.keys is not None and not log.problems:
        last = log.last.mac if log.last is not None else ""
        if last != log.keys.head and (not last or last != log.keys.following):
            log.add_problem(path, 0, "lines are missing at its end")
    return log


def _root(rows: Mapping[str, VersionRow]) -> bytes:
    return "\n".join(sorted(rows)).encode()


def _objects(
    path: Path, log: VersionLog, missing: bool = False
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a file of the log with their lines' numbers, as they are written.

    Args:
        path: the file.
        log: gets a problem for each line that isn't so written, and the number of lines of `LOG`.
        missing: whether the file may be missing.
    """
    try:
        with opened(path) as file:
            content = file.read()
    except OSError as error:
        if not (missing and isinstance(error, FileNotFoundError)):
            log.add_problem(path, 0, reason_of(error))
        return
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    else:
        log.add_problem(path, len(lines), NOT_WRITTEN)  # its end is missing
    if path.name == LOG:
        log.lines = len(lines)
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            written = isinstance(values, dict) and canonical(values) == line
        except (ValueError, RecursionError):
            written = False
        if written:
            yield number, values
        else:
            log.add_problem(path, number, NOT_WRITTEN)
