"""What `mmtune data` does: list, show, compare, verify and write versions of data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from mmtune.data.importing import Imported
from mmtune.data.rows import Split
from mmtune.data.version_log import Problem, Step, Version, VersionLog
from mmtune.data.version_rows import SHOWN_DIGITS, Difference, VersionRows, difference
from mmtune.data.versions import (
    NOW,
    described,
    find_version,
    record_version,
    require_log,
    rows_at,
    tampered,
)
from mmtune.errors import printable
from mmtune.modality import Modality
from mmtune.runs.modalities import find_modality, guess_modality
from mmtune.system.display import Displayed, Rows, numbered, plain_values


@dataclass(frozen=True)
class LoggedVersion:
    """A version in a list.

    Attributes:
        version: the line of the log.
        changed: what changed in it, in words.
        about: what it says of its step.
    """

    version: Version
    changed: str
    about: Mapping[str, Any]


@dataclass(frozen=True)
class DataLog(Displayed):
    """The versions of data, the first one first.

    Attributes:
        source: the manifest or folder.
        versions: its versions.
    """

    source: Path
    versions: tuple[LoggedVersion, ...]

    def shown(self) -> Iterable[str | Rows]:
        """Show a table with one line for each version."""
        head = ["version", "fingerprint", "step", "rows", "what changed", "when", "about"]
        rows = [
            [
                str(each.version.number),
                each.version.fingerprint[:SHOWN_DIGITS],
                each.version.step,
                f"{each.version.rows:,}",
                each.changed,
                each.version.when,
                ", ".join(f"{name} {value}" for name, value in each.about.items()),
            ]
            for each in self.versions
        ]
        return [[head, *rows]]


@dataclass(frozen=True)
class ShownVersion(Displayed):
    """What a version holds.

    Attributes:
        version: the line of the log.
        splits: rows by split; "none" for rows without one.
        speakers: how many different speakers its rows name; 0 if they name none.
        subjects: the same of subjects.
        minutes: length of the rows whose length is known; None: of none it is.
        unknown: rows of unknown length, if it is known of others.
    """

    version: Version
    splits: Mapping[str, int]
    speakers: int
    subjects: int
    minutes: float | None
    unknown: int

    def shown(self) -> Iterable[str | Rows]:
        """Show one line for each kind of figure."""
        splits = ", ".join(f"{name} {count:,}" for name, count in self.splits.items())
        lines = [
            f"{self.version.name}, {self.version.step}, {self.version.when}",
            f"rows      {self.version.rows:,}: {splits}",
        ]
        lines += [f"speakers  {self.speakers:,}"] if self.speakers else []
        lines += [f"subjects  {self.subjects:,}"] if self.subjects else []
        if self.minutes is not None:
            rest = f", without {numbered(self.unknown, 'row')} of unknown length"
            lines.append(f"minutes   {self.minutes:,.1f}{rest if self.unknown else ''}")
        return lines


@dataclass(frozen=True)
class DataDifference(Displayed):
    """What differs between two versions.

    Attributes:
        first, second: the versions, as they were asked for.
        found: what makes the second of the first.
    """

    first: str
    second: str
    found: Difference

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: whole rows that were added or removed, values that changed."""
        found = self.found
        return {
            "first": self.first,
            "second": self.second,
            "added": {name: row.to_dict() for name, row in found.added.items()},
            "removed": {name: row.to_dict() for name, row in found.removed.items()},
            "changed": plain_values(found.changed),
            "same": found.same,
        }

    def shown(self) -> Iterable[str | Rows]:
        """Show each row that differs, and the counts."""
        found = self.found
        lines = [f"removed  {name}" for name in found.removed]
        lines += [f"added    {name}" for name in found.added]
        lines += [f"changed  {name}  {described(each)}" for name, each in found.changed.items()]
        counts = f"{len(found.added):,} added, {len(found.removed):,} removed, "
        counts += f"{len(found.changed):,} changed, {found.same:,} as they were"
        return [*map(printable, lines), counts]


@dataclass(frozen=True)
class VerifiedData(Displayed):
    """Data compared with its last version, and its version log with its keys.

    Attributes:
        source: the manifest or folder.
        versions: the number of versions.
        rows: rows of the last version.
        differing: a sentence for each row or manifest that differs from the last version.
        problems: files and lines of the log that aren't as mmtune wrote them.
    """

    source: Path
    versions: int
    rows: int
    differing: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def intact(self) -> bool:
        """Whether nothing was changed."""
        return not self.differing and not self.problems

    def shown(self) -> Iterable[str | Rows]:
        """Show each difference and problem, or that there is none."""
        if self.intact:
            what = f"{numbered(self.versions, 'version')}, {numbered(self.rows, 'row')}"
            return [f"{self.source}: {what}: nothing was changed since the last version"]
        lines = [*self.differing, *map(str, self.problems)]
        cure = (
            [f"if you changed these rows yourself: mmtune data record {self.source}"]
            if self.differing and not self.problems
            else ["restore what you didn't change from a backup"]
        )
        return [*map(printable, lines), *cure]


def data_log(source: Path) -> DataLog:
    """List the versions of data.

    Raises:
        ConfigError: it has no version log.
        DataError: the log isn't as mmtune wrote it.
    """
    log = require_log(source)
    before: VersionRows = {}
    found = []
    for number, rows, about in log.states():
        now = {row.id: row for row in rows.values()}
        if (version := log.versions.get(number)) is not None:
            counts = difference(before, now).counts()
            found.append(LoggedVersion(version, counts, about))
        before = now
    log.require_whole()
    return DataLog(source, tuple(found))


def show_version(given: str) -> ShownVersion:
    """Count what a version holds.

    Args:
        given: a manifest or folder, or one of its versions: "corpus@2".

    Raises:
        ConfigError: there is no such version.
        DataError: the log isn't as mmtune wrote it.
    """
    source, wanted = parse_version(given)
    log = require_log(source)
    version = find_version(log, wanted)
    rows = log.rows(version.number).values()
    counted = Counter(str(row.values.get("split") or "none") for row in rows)
    order = (*get_args(Split), "none")
    lengths = [row.seconds for row in rows if row.seconds is not None]
    return ShownVersion(
        version,
        splits={name: counted[name] for name in order if counted[name]},
        speakers=len({row.values.get("speaker") for row in rows} - {None}),
        subjects=len({row.values.get("subject") for row in rows} - {None}),
        minutes=sum(lengths) / 60 if lengths else None,
        unknown=len(rows) - len(lengths) if lengths else 0,
    )


def diff_versions(first: str, second: str = "") -> DataDifference:
    """Compare two versions, also of different data.

    Args:
        first: as for `show_version`; "corpus@now" for the rows on the disk.
        second: the same, but of data without a version the rows on the disk; empty: those of the
            first's data.

    Raises:
        ConfigError: there is no such version.
        DataError: rows can't be read, or a log isn't as mmtune wrote it.
    """
    source, wanted = parse_version(first)
    other, other_wanted = parse_version(second) if second else (source, NOW)
    other_wanted = other_wanted or NOW
    found = difference(_rows(source, wanted), _rows(other, other_wanted))
    return DataDifference(first, f"{other}@{other_wanted}", found)


def _rows(source: Path, wanted: str) -> VersionRows:
    log = require_log(source)
    return rows_at(source, _modality(source, log), log, wanted)


def verify_data(source: Path, modality: str | None = None) -> VerifiedData:
    """Find rows, files and lines of the version log that aren't what they were.

    Args:
        source: a manifest or folder with a version log.
        modality: the modality's name; None: that of the last version.

    Raises:
        ConfigError: it has no version log.
    """
    log = require_log(source)
    differing, problems = tampered(source, _modality(source, log, modality), log)
    rows = log.last.rows if log.last is not None else 0
    return VerifiedData(source, log.lines, rows, tuple(differing), tuple(problems))


def record_data_version(
    source: Path, step: Step | None = None, note: str = "", modality: str | None = None
) -> Version:
    """Write a version of the rows as they are, unless the last one is the same.

    Args:
        source: a manifest or folder.
        step: what made the rows; None: see `record_version`.
        note: what to say of it.
        modality: the modality's name; None: recognised from the content.

    Raises:
        DataError: the rows can't be read, or the log isn't as mmtune wrote it.
    """
    known = find_modality(modality) if modality is not None else guess_modality(source)
    return record_version(source, known, step, about={"note": note} if note else {})


def with_version(found: Imported, source: Path, modality: Modality) -> Imported:
    """Write a version of the rows that an import has written, if it has written any.

    Args:
        found: the result of the import.
        source: what was imported.
        modality: of the rows.

    Raises:
        DataError: the folder's version log isn't as mmtune wrote it.
    """
    if found.dry or found.empty or not found.rows:
        return found
    about = {"format": found.layout, "from": str(source)}
    version = record_version(found.folder, modality, "import", about=about)
    return replace(found, version=version.fingerprint)


def _modality(source: Path, log: VersionLog, name: str | None = None) -> Modality:
    if name is None:
        written = [each.modality for n, each in log.versions.items() if n not in log.changed]
        name = written[-1] if written else None
    return find_modality(name) if name is not None else guess_modality(source)


def parse_version(given: str) -> tuple[Path, str]:
    """Divide "corpus@2" into the data and the version; a path that exists is no version."""
    path, at, wanted = given.rpartition("@")
    if not at or not path or Path(given).exists():
        return Path(given), ""
    return Path(path), wanted
