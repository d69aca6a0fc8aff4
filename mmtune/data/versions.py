"""Write a version of data when its rows have changed; find versions, and what was changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtune.data.manifest import manifests_of
from mmtune.data.reader import Reader
from mmtune.data.rows import Finding
from mmtune.data.version_keys import CURE, KEYS_FILE
from mmtune.data.version_log import Problem, Step, Version, VersionLog, read_log
from mmtune.data.version_rows import (
    SHOWN_DIGITS,
    SPLIT,
    Changed,
    Seen,
    VersionRow,
    VersionRows,
    current_rows,
    difference,
    fingerprint_of,
)
from mmtune.errors import ConfigError, DataError, MmtuneError
from mmtune.system.stored import opened, reason_of

MIN_PREFIX = 6  # hexadecimal digits of a fingerprint; a shorter number is that of a version
NOW = "now"
WRITABLE = "make the data's folder writable, or free disk space"
KIND = "versions"  # of the finding about a log that can't be written


def record_version(
    source: Path,
    reader: Reader,
    step: Step | None = None,
    *,
    parents: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
    seen: Seen | None = None,
) -> Version:
    """Write a version of the rows of a source, unless the last version is the same.

    Args:
        source: a manifest or folder.
        reader: of its modality.
        step: what made the rows; None: "import" for the first version, "split" if nothing but
            splits changed, else "fix".
        parents: fingerprints of versions of other data that the rows were made from.
        about: what to say of the step, such as {"note": "typos"}.
        seen: what is known of rows and files.

    Returns:
        The last version.

    Raises:
        DataError: the rows can't be read, or the log isn't as mmtune wrote it.
        Locked: another process held the log for too long.
        OSError: the log can't be written.
    """
    log = read_log(source)
    log.require_whole()
    rows, _ = current_rows(source, reader, seen)
    manifests = {path.name: _bytes_of(path) for path in manifests_of(source)}
    with log.locked():
        log = read_log(source)  # another command may just have written it
        log.require_whole()
        last = log.last
        if last is not None and _same(log, last, rows, manifests):
            return last
        own = (last.fingerprint,) if last is not None else ()
        return log.append(
            rows,
            modality=reader.name,
            step=step or _step(log, rows),
            parents=tuple(dict.fromkeys((*own, *parents))),
            about=about or {},
            manifests=manifests,
        )


def kept_version(
    source: Path,
    reader: Reader,
    step: Step | None = None,
    *,
    parents: Sequence[str] = (),
    seen: Seen | None = None,
) -> tuple[str, list[Finding]]:
    """Write a version as `record_version` does, for commands that have other work to do.

    Returns:
        The fingerprint of the last version, and nothing; or "", and a finding why it isn't written.
    """
    try:
        made = record_version(source, reader, step, parents=parents, seen=seen)
    except OSError as error:
        found, cure = f"{error.filename} can't be written ({reason_of(error)})", WRITABLE
    except MmtuneError as error:
        found, cure = error.found, error.cure
    else:
        return made.fingerprint, []
    found = f"{found}: no version of these rows is kept"
    return "", [Finding(KIND, source.name, found, cure, "warning")]


def _bytes_of(path: Path) -> bytes:
    with opened(path) as file:
        return file.read()


def _same(
    log: VersionLog, last: Version, rows: VersionRows, manifests: Mapping[str, bytes]
) -> bool:
    return last.fingerprint == fingerprint_of(rows.values()) and not _odd_manifests(
        log, last, manifests
    )


def _odd_manifests(log: VersionLog, last: Version, now: Mapping[str, bytes]) -> list[str]:
    """Names of manifests whose bytes differ from those of a version."""
    if log.keys is None:
        return []
    found = {name: log.keys.of_bytes(data) for name, data in now.items()}
    names = sorted(found.keys() | last.manifests.keys())
    return [name for name in names if found.get(name) != last.manifests.get(name)]


def _step(log: VersionLog, rows: VersionRows) -> Step:
    if log.last is None:
        return "import"
    found = difference(log.rows(log.last.number), rows)
    return "split" if found and found.only(SPLIT) else "fix"


def find_version(log: VersionLog, wanted: str = "") -> Version:
    """Find a version by its number or by the beginning of its fingerprint.

    Args:
        log: of the data.
        wanted: empty: the last version.

    Raises:
        ConfigError: there is no such version.
    """
    versions = list(log.versions.values())
    if not versions:
        raise ConfigError(
            f"{log.folder} holds no versions",
            "write the first one: mmtune data record DATA; check and train write one, too",
        )
    if not wanted:
        return versions[-1]
    if len(wanted) < MIN_PREFIX:
        found = [each for each in versions if str(each.number) == wanted]
    else:
        found = [each for each in versions if each.fingerprint.startswith(wanted.lower())]
    if not found:
        raise ConfigError(
            f"{log.folder} holds no version {wanted!r}",
            f"give its number (1 to {versions[-1].number}), at least {MIN_PREFIX} digits of its "
            f"fingerprint, or {NOW}; list them with mmtune data log",
        )
    return found[-1]


def tampered(source: Path, reader: Reader, log: VersionLog) -> tuple[list[str], list[Problem]]:
    """Compare a source with the last version of its log, and the log with its keys.

    Args:
        source: a manifest or folder.
        reader: of its modality.
        log: the source's; it has a version.

    Returns:
        A sentence for each row or manifest that differs from the last version, and the log's files
        and lines that aren't as mmtune wrote them.
    """
    kept: Mapping[str, VersionRow] = {}
    for _, rows, _ in log.states():
        kept = rows
    then = {row.id: row for row in kept.values()}
    if log.keys is None:
        log.add_problem(log.folder / KEYS_FILE, 0, f"the keys are missing: {CURE}")
    try:
        now, findings = current_rows(source, reader)
    except DataError as error:
        return [error.found], log.problems
    found = difference(then, now)
    name = f"version {log.lines}"
    lines = [f"row {row}: it was in {name}, and is gone" for row in found.removed]
    lines += [f"row {row}: it wasn't in {name}" for row in found.added]
    lines += [
        f"row {row}: {each.name} was {shown(each.then)} in {name}, and is {shown(each.now)}"
        for row, changes in found.changed.items()
        for each in changes
    ]
    if found.removed:  # a changed line may be no row any more
        lines += [each.message for each in findings if each.severity == "error"]
    if not lines and log.last is not None:
        manifests = {path.name: _bytes_of(path) for path in manifests_of(source)}
        lines += [
            f"{each}: its bytes aren't those of {name}, but its rows are: order or spacing differs"
            for each in _odd_manifests(log, log.last, manifests)
        ]
    return lines, log.problems


def shown(value: Any) -> str:
    """A value of a row for people: a hash is cut, and None is "nothing"."""
    if value is None or value == "":
        return "nothing"
    if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value[:SHOWN_DIGITS]
    if isinstance(value, str):
        return f'"{value}"'
    return str(value)


def described(changes: Sequence[Changed]) -> str:
    """What changed in a row: 'text: "a" → "b"; split: nothing → train'."""
    return "; ".join(f"{each.name}: {shown(each.then)} → {shown(each.now)}" for each in changes)


def rows_at(source: Path, reader: Reader, log: VersionLog, wanted: str) -> VersionRows:
    """The rows of a version, or of the source as it is now.

    Args:
        source: a manifest or folder.
        reader: of its modality.
        log: the source's.
        wanted: as for `find_version`; "now": the rows on the disk.

    Raises:
        ConfigError: there is no such version.
        DataError: the rows can't be read.
    """
    if wanted == NOW:
        return current_rows(source, reader)[0]
    return log.rows(find_version(log, wanted).number)


def require_log(source: Path) -> VersionLog:
    """Read the log of a source that has one.

    Raises:
        ConfigError: it has none.
        DataError: it can't be read.
    """
    if not source.exists():
        raise ConfigError(f"no such file or folder: {source}", "give a manifest.jsonl or a folder")
    log = read_log(source)
    if not log.lines and log.keys is None:
        raise ConfigError(
            f"{source} has no version log ({log.folder})",
            f"write its first version: mmtune data record {source}",
        )
    return log
