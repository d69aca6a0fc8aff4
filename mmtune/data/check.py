"""Checking a dataset: the one way from a manifest to rows that may be trained on."""

from __future__ import annotations

import os
import statistics
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from mmtune.config import DataOptions, Section
from mmtune.data.manifest import read_rows, root_of
from mmtune.data.rows import Finding, Inspection, Row, Split
from mmtune.data.split import assign, held_out, leaks
from mmtune.errors import DataError
from mmtune.system.hashing import hash_json

if TYPE_CHECKING:
    from mmtune.modality import Modality

_BY_CHECK = object()


@dataclass(frozen=True)
class Dataset:
    """Rows that passed the check. `check` makes it, nothing else can.

    Attributes:
        source: the manifest or folder.
        modality: its name.
        rows: what may be used: absolute paths, `content` and `split` set.
        findings: everything found, errors and warnings.
        quarantined: labels of the rows that were left out.
        facts: by row id, what its file turned out to be (duration_s; width, height).
        fingerprint: hash of all rows' contents and fields; independent of where they lie and of
            their order.
    """

    source: Path
    modality: str
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    quarantined: tuple[str, ...]
    facts: Mapping[str, Mapping[str, float]]
    fingerprint: str
    made_by: object = None

    def __post_init__(self) -> None:
        if self.made_by is not _BY_CHECK:
            raise TypeError("a Dataset is made by mmtune.data.check.check(source, modality)")

    def split(self, name: Split) -> tuple[Row, ...]:
        """The rows of one split."""
        return tuple(row for row in self.rows if row.split == name)

    @property
    def bad(self) -> float:
        """The share of rows that were left out."""
        total = len(self.rows) + len(self.quarantined)
        return len(self.quarantined) / total if total else 1.0


def check(
    source: Path,
    modality: Modality,
    options: DataOptions = DataOptions(),  # noqa: B008  (frozen)
    *,
    strict: bool = True,
    terms: Path | None = None,
    base: str | None = None,
    settings: Section | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Read, open and judge every row of a manifest or folder.

    Args:
        source: a .jsonl manifest or a folder (see `read_rows`).
        modality: whose rows they are.
        options: shares of the splits, and how many rows may be bad.
        strict: raise where training must not begin; otherwise give what there is, to be shown.
        terms: a list of words whose spelling the modality compares with the rows'.
        base: the model that the rows are for: what it can't read of them is found too.
        settings: the modality's own, of the run that the rows are for.
        progress: called with (files opened, files in all).

    Raises:
        DataError: the source can't be used at all; or, if `strict`, more than `options.max_bad`
            of the rows have errors or none is left.
    """
    rows, findings = read_rows(source, modality)
    lost = list(dict.fromkeys(f.row for f in findings if f.severity == "error"))
    inspected = _inspect_all(rows, root_of(source), modality, progress)
    findings += [f for _, inspection in inspected for f in inspection.findings]
    bad = {finding.row for finding in findings if finding.severity == "error"}
    good = [
        (row.model_copy(update={"content": inspection.content}), inspection)
        for row, inspection in inspected
        if row.id not in bad
    ]
    findings += _duplicates([row for row, _ in good])
    findings += modality.check_rows(
        [row for row, _ in good],
        terms,
        seen=[inspection for _, inspection in good],
        base=base,
        settings=settings,
    )
    bad = {finding.row for finding in findings if finding.severity == "error"}
    links = [(finding.row, finding.other) for finding in findings if finding.other]
    free = [row for row, _ in good if row.id not in bad]
    kept = assign(free, options.validation, options.test, links=links)
    if kept:
        findings += leaks(kept, links)
        findings += held_out(kept, [("validation", options.validation), ("test", options.test)])
    dataset = Dataset(
        source=source,
        modality=modality.name,
        rows=tuple(kept),
        findings=tuple(findings),
        quarantined=(*lost, *(row.id for row in rows if row.id in bad)),
        facts={row.id: inspection.facts for row, inspection in good if row.id not in bad},
        fingerprint=hash_json(
            sorted((_identity(row) for row in kept), key=lambda values: str(values["id"]))
        ),
        made_by=_BY_CHECK,
    )
    if strict and (dataset.bad > options.max_bad or not dataset.rows):
        raise _refusal(dataset, options.max_bad)
    return dataset


def describe(dataset: Dataset, examples: int = 5) -> list[str]:
    """What `mmtune check` prints, as plain lines.

    Args:
        dataset: from `check(..., strict=False)`.
        examples: how many findings of each kind to show in full.
    """
    total = len(dataset.rows) + len(dataset.quarantined)
    splits = ", ".join(f"{name} {len(dataset.split(name))}" for name in get_args(Split))
    lines = [
        f"{printable(str(dataset.source))} ({dataset.modality})",
        f"rows         {total}: {len(dataset.rows)} usable ({splits}), "
        f"{len(dataset.quarantined)} left out ({dataset.bad:.1%})",
    ]
    for name in dict.fromkeys(name for facts in dataset.facts.values() for name in facts):
        values = [facts[name] for facts in dataset.facts.values() if name in facts]
        total_s = f", total {sum(values):,.1f}" if name.endswith("_s") else ""
        lines.append(
            f"{name:<12} {min(values):g} to {max(values):g}, "
            f"median {statistics.median(values):g}{total_s}"
        )
    lines.append(f"fingerprint  {dataset.fingerprint}")
    for (severity, kind), group in _by_kind(dataset):
        lines.append(f"{severity} {kind}: {len(group)}")
        lines += (f"  {line}" for line in _in_full(group[:examples]))
        if len(group) > examples:
            lines.append(f"  … and {len(group) - examples} more")
    return lines


def remarks(dataset: Dataset) -> list[str]:
    """What somebody who trains on it should know: a line for each kind of finding."""
    lines = [
        f"{severity} {kind}{f', {len(group)} times' if len(group) > 1 else ''}: "
        f"{next(iter(_in_full(group)))}"
        for (severity, kind), group in _by_kind(dataset)
    ]
    if dataset.quarantined:
        lines.append(
            f"{len(dataset.quarantined)} rows are left out; mmtune check "
            f"{printable(str(dataset.source))} lists them"
        )
    return lines


def printable(text: str) -> str:
    """`text` without control characters: a file's name must not steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _by_kind(dataset: Dataset) -> list[tuple[tuple[str, str], list[Finding]]]:
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in dataset.findings:
        groups[finding.severity, finding.kind].append(finding)
    return sorted(groups.items())


def _in_full(findings: Iterable[Finding]) -> Iterable[str]:
    for finding in findings:
        prefix = "" if finding.row in finding.message else f"{finding.row}: "
        yield printable(f"{prefix}{finding.message}. Cure: {finding.cure}")


def _refusal(dataset: Dataset, max_bad: float) -> DataError:
    total = len(dataset.rows) + len(dataset.quarantined)
    errors = [finding for finding in dataset.findings if finding.severity == "error"]
    kinds = Counter(finding.kind for finding in errors)
    counted = ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
    first = "".join(f"\n  {line}" for line in _in_full(errors[:3]))
    share = f"; at most {max_bad:.0%} may be" if dataset.rows else ""
    cure = f"mmtune check {dataset.source} lists all of them"
    if dataset.rows:
        cure += f"; mend them, or accept their loss with --max_bad {dataset.bad + 0.005:.2f}"
    return DataError(
        f"{printable(str(dataset.source))}: {len(dataset.quarantined)} of {total} rows can't be "
        f"used{share} ({counted}){first}",
        cure,
    )


def _inspect_all(
    rows: Sequence[Row],
    root: Path,
    modality: Modality,
    progress: Callable[[int, int], None] | None,
) -> list[tuple[Row, Inspection]]:
    def inspect(row: Row) -> tuple[Row, Inspection]:
        placed = place(row, root)
        if isinstance(placed, Finding):
            return row, Inspection("", [placed])
        try:
            return placed, modality.inspect(placed)
        except Exception as error:  # a decoder's surprise must not end the check of the others
            found = f"{placed.path} can't be read: {type(error).__name__}: {error}"
            return placed, Inspection("", [Finding("unreadable", row.id, found, "remove the row")])

    # Decoders and hashes release the interpreter's lock, so that threads are enough.
    workers = min(16, (os.cpu_count() or 1) + 2)
    done: list[tuple[Row, Inspection]] = []
    # Pillow warns of what becomes a finding here; the filter is global, so it is set outside.
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")
        for pair in pool.map(inspect, rows):
            done.append(pair)
            if progress is not None:
                progress(len(done), len(rows))
    return done


def place(row: Row, root: Path) -> Row | Finding:
    """The row with absolute paths; or why they are none, or lead out of the manifest's folder."""
    placed = {}
    for name in (row.media, *row.beside):
        written = getattr(row, name)
        if written is None:
            continue
        try:
            path = (root / written).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            found = f"{written!r} is no path: {error}"
            return Finding("missing", row.id, found, "correct the path")
        if not path.is_relative_to(root):
            return Finding(
                "outside",
                row.id,
                f"{written!r} leads out of the manifest's folder, to {path}",
                "move or copy the file into the folder; a manifest may not reach elsewhere",
            )
        placed[name] = str(path)
    return row.model_copy(update=placed)


def _duplicates(rows: Sequence[Row]) -> list[Finding]:
    first: dict[str, Row] = {}
    findings = []
    for row in rows:
        other = first.setdefault(row.content, row)
        if other is not row:
            agree = other.reference == row.reference
            findings.append(
                Finding(
                    "duplicate-content",
                    row.id,
                    f"{row.path} is byte for byte {other.path} (row {other.id!r})"
                    + ("" if agree else f", but its words are {row.reference[:60]!r}"),
                    "remove one of the rows" if agree else "keep the row whose words are right",
                )
            )
    return findings


def _identity(row: Row) -> dict[str, object]:
    absent = {name for name in row.beside if getattr(row, name) is None}
    values = row.model_dump(mode="json", exclude={row.media} | absent)
    # That there is one is a fact of the row; where it lies isn't, and its bytes are in `content`.
    return values | {name: True for name in row.beside if name in values}
