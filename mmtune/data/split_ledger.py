"""The split ledger: a file beside the data that keeps each row in the split that it once had."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from mmtune.config import DataOptions
from mmtune.data.manifest import BY_SPLIT, WHOLE, root_of
from mmtune.data.row_keys import Entry, KnownKeys, entry_of
from mmtune.data.rows import Finding, Row
from mmtune.data.split import Assigned, Links, assign
from mmtune.errors import DataError, MmtuneError
from mmtune.system.contents import SPLITS_FILE
from mmtune.system.files import write_bytes
from mmtune.system.formats import FORMAT, without_format
from mmtune.system.hashing import hash_text
from mmtune.system.locks import Locked, hold_when_free
from mmtune.system.resources import cache_root
from mmtune.system.stored import numbered_json_lines, opened, reason_of

R = TypeVar("R", bound=Row)
KIND = "mmtune split ledger"  # "kind" in the first line
WAIT = 60.0  # s to wait for another command that writes the ledger


def ledger_path(source: Path) -> Path:
    """The ledger of a folder or manifest, beside the data; it needn't exist."""
    root = root_of(source)
    if source.is_dir() or source.name in (WHOLE, *BY_SPLIT):
        return root / SPLITS_FILE
    return root / f"{source.stem}.{SPLITS_FILE}"  # a folder may hold several manifests


def ledger_elsewhere(source: Path) -> Path:
    """The ledger of data whose folder can't be written, in the folder of the cache."""
    beside = ledger_path(source)
    name = f"{beside.parent.name}-{hash_text(str(beside))[:16]}.jsonl"
    return cache_root() / "splits" / name


@dataclass
class SplitLedger:
    """The entries of a data set's ledger.

    Attributes:
        path: the file that new entries are written to.
        known: the keys of all entries.
        shares: of the splits, when the file was begun; empty: unknown.
        findings: damaged lines, and a ledger that isn't beside the data.
        scattered: another file holds entries, too.
        anew: its entries are forgotten, and the next ones replace them.
    """

    path: Path
    known: KnownKeys = field(default_factory=KnownKeys)
    shares: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    scattered: bool = False
    anew: bool = False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the ledger's lock.

        Raises:
            Locked: another process held it for too long.
            OSError: it can't be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = self.path.with_name(f".{self.path.name}.lock")
        with ExitStack() as stack:
            try:
                stack.enter_context(hold_when_free(lock, self.path, WAIT))
            except Locked:
                raise
            except MmtuneError as error:
                raise OSError(errno.EACCES, error.found, str(self.path)) from None
            yield

    def append(self, entries: Iterable[Entry], shares: Mapping[str, float] | None = None) -> None:
        """Write entries at the end, and know them from now on; the caller holds the lock.

        If the ledger is `anew`, they replace what the file holds. The file is replaced as a whole:
        a line that a killed process has begun would be a damaged one for ever.

        Args:
            entries: of new rows, or of rows with new keys.
            shares: of the splits; noted where the ledger is new.
        """
        new = list(entries)
        if not new:
            return
        lines = [json.dumps(each.to_dict(), ensure_ascii=False) for each in new]
        kept = b"" if self.anew else _content(self.path)
        if not kept:
            lines.insert(0, json.dumps({"format": FORMAT, "kind": KIND} | dict(shares or {})))
        text = "\n".join(lines) + "\n"
        write_bytes(self.path, kept + text.encode("utf-8", "backslashreplace"))
        self.anew = False
        self.known.add(new)


def read_ledger(source: Path) -> SplitLedger:
    """Read the ledger of a folder or manifest; without one it has no entries.

    Raises:
        DataError: the file is a link, is no ledger, or can't be read.
        ConfigError: a newer mmtune wrote it.
    """
    beside, elsewhere = ledger_path(source), ledger_elsewhere(source)
    ledger = SplitLedger(beside if _writable(beside) else elsewhere)
    for path in (beside, elsewhere):
        shares, entries, damaged = _read(path)
        ledger.known.add(entries)
        ledger.shares = ledger.shares or shares
        ledger.scattered |= bool(entries) and path != ledger.path
        if damaged:
            lines = ", ".join(map(str, damaged[:5])) + (" …" if len(damaged) > 5 else "")
            ledger.findings.append(
                Finding(
                    "split-ledger",
                    path.name,
                    f"{path}: {len(damaged)} damaged lines (line {lines}): their rows may get "
                    "another split",
                    "restore the file from a backup, or delete these lines",
                    "warning",
                )
            )
    return ledger


def assign_and_keep(
    rows: Sequence[R],
    source: Path,
    options: DataOptions,
    links: Links,
    *,
    record: bool,
    accepts: Callable[[Assigned[R]], bool] = lambda found: True,
) -> Assigned[R]:
    """Assign the rows' splits as the ledger has them, and keep what is new.

    If other shares are asked for than those of the ledger, and no run has trained on a row of it,
    all rows are divided anew, and the ledger is written anew.

    Args:
        rows: the usable rows of `source`.
        source: the manifest or folder.
        options: shares of the splits, and what they may share.
        links: pairs of rows to keep together.
        record: write new rows into the ledger; otherwise it is only read.
        accepts: whether the data can be used when divided so; otherwise nothing is written.

    Raises:
        DataError, ConfigError: the ledger can't be used, see `read_ledger`.
        Locked: another process held the ledger for too long.
    """
    root, shared, shares = root_of(source), options.shared, _shares(options)

    def assigned(ledger: SplitLedger) -> Assigned[R]:
        both = (options.validation, options.test)
        return assign(rows, *both, links=links, known=ledger.known, root=root, shared=shared)

    def current() -> SplitLedger:
        ledger = read_ledger(source)
        asked = _asked(ledger, shares)
        # A damaged line may be that of a trained row.
        fixed = ledger.known.trained or ledger.scattered or ledger.findings
        if not record or not asked or fixed or not ledger.known.sides:
            return ledger
        split, before = next(iter(asked.items()))
        note = _divided_anew(ledger.path, split, before, shares[split])
        return replace(ledger, known=KnownKeys(), shares={}, findings=[note], anew=True)

    ledger = current()
    found = assigned(ledger)
    if record and accepts(found) and _new(found, ledger, root, shared):
        try:
            with ledger.locked():
                ledger = current()  # another command may just have written it
                found = assigned(ledger)
                if accepts(found):
                    ledger.append(_new(found, ledger, root, shared), shares)
        except OSError as error:
            ledger.findings.append(_unkept(ledger.path, reason_of(error)))
    found.findings.extend(ledger.findings)
    if ledger.known.sides and ledger.path != (beside := ledger_path(source)):
        found.findings.append(_elsewhere(ledger.path, beside))
    for name, before in _asked(ledger, shares).items():
        found.findings.append(_other_share(ledger.path, name, before, shares[name]))
    return found


def mark_trained(
    source: Path,
    rows: Iterable[Row],
    options: DataOptions = DataOptions(),  # noqa: B008  (frozen)
) -> None:
    """Note in the ledger that a run trains on rows; they are never tested from then on.

    Args:
        source: the manifest or folder that holds the rows.
        rows: the rows of the split train.
        options: the run's: shares of the splits, and what they may share.

    Raises:
        DataError, ConfigError: the ledger can't be used, see `read_ledger`.
        Locked: another process held the ledger for too long.
    """
    root = root_of(source)
    entries = [entry_of(row, root, options.shared, trained=True) for row in rows]

    def new(ledger: SplitLedger) -> list[Entry]:
        return [each for each in entries if not ledger.known.trained.issuperset(each.keys)]

    ledger = read_ledger(source)
    if new(ledger):
        with contextlib.suppress(OSError), ledger.locked():  # `check` has said that it can't
            ledger = read_ledger(source)
            ledger.append(new(ledger), _shares(options))


def _shares(options: DataOptions) -> dict[str, float]:
    return {"validation": options.validation, "test": options.test}


def _asked(ledger: SplitLedger, shares: Mapping[str, float]) -> dict[str, float]:
    """The splits of which another share is asked for than the ledger's, and the ledger's share.

    Nobody asks for the usual shares. Without a split its rows join train, and nothing is divided.
    """
    usual = _shares(DataOptions())
    return {
        name: before
        for name, share in shares.items()
        if share not in (before := ledger.shares.get(name, share), usual[name]) and share > 0
    }


def _new(
    found: Assigned[R], ledger: SplitLedger, root: Path, shared: Collection[str]
) -> list[Entry]:
    entries = (entry_of(row, root, shared) for row in found.rows if row.id not in found.declared)
    return list(ledger.known.news(entries))


def _content(path: Path) -> bytes:
    """The file's bytes, of which the last ends a line; empty if there is no file."""
    try:
        with opened(path) as file:
            found = file.read()
    except FileNotFoundError:
        return b""
    return found if not found or found.endswith(b"\n") else found + b"\n"


def _read(path: Path) -> tuple[dict[str, float], list[Entry], list[int]]:
    """Read one file: the shares in its first line, its entries, the numbers of damaged lines."""
    if path.is_symlink():  # it would be written through the link
        raise DataError(f"{path} is a link", "put the file itself in its place, or remove the link")
    try:
        lines = list(numbered_json_lines(path))
    except FileNotFoundError:
        return {}, [], []
    except OSError as error:
        raise DataError(
            f"{path}: {reason_of(error)}",
            "make it readable: it holds the split of each row; without it, trained rows may get "
            "into the test",
        ) from None
    if not lines:
        return {}, [], []
    header = lines[0][1]
    if header is None or header.get("kind") != KIND:
        raise DataError(
            f"{path} isn't the split ledger that mmtune keeps under this name",
            "rename it, or restore its first line: " + json.dumps({"format": FORMAT, "kind": KIND}),
        )
    rest = without_format(header, path)
    shares = {
        n: float(v) for n in ("validation", "test") if isinstance(v := rest.get(n), int | float)
    }
    entries, damaged = [], []
    for number, values in lines[1:]:
        entry = Entry.from_dict(values) if values is not None else None
        if entry is None:
            damaged.append(number)
        else:
            entries.append(entry)
    return shares, entries, damaged


def _writable(path: Path) -> bool:
    return os.access(path if path.exists() else path.parent, os.W_OK) and os.access(
        path.parent, os.W_OK
    )


def _elsewhere(path: Path, beside: Path) -> Finding:
    return Finding(
        "split-ledger",
        beside.name,
        f"{beside.parent} can't be written: the splits of its rows are kept in {path}",
        "keep that file, or copy the data into a folder that can be written",
        "note",
    )


def _other_share(path: Path, split: str, before: float, now: float) -> Finding:
    return Finding(
        "split-ledger",
        path.name,
        f"data.{split} is {now:g} now and was {before:g} when the split ledger was begun: the new "
        "value holds for new rows only",
        f"to divide all rows anew, delete {path}; evaluate no earlier adapter on the new test",
        "warning",
    )


def _divided_anew(path: Path, split: str, before: float, now: float) -> Finding:
    return Finding(
        "split-ledger",
        path.name,
        f"data.{split} is {now:g} now and was {before:g} when the split ledger was begun: all rows "
        "are divided anew, because no run has trained on them",
        "no action is needed",
        "note",
    )


def _unkept(path: Path, reason: str) -> Finding:
    return Finding(
        "split-ledger",
        path.name,
        f"{path} can't be written ({reason}): rows may get another split when rows are added",
        "make the data's folder writable, or name a split in each row",
        "warning",
    )
