"""A dataset: rows that passed the check, and what the check found."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from mmtune.data.rows import Finding, Row, Split
from mmtune.errors import printable
from mmtune.system.display import Displayed, Rows, plain_values

_BY_CHECK = object()


@dataclass(frozen=True)
class Dataset(Displayed):
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

    def to_dict(self) -> dict[str, Any]:
        """What `mmtune check --json` prints: plain JSON values."""
        return {
            "modality": self.modality,
            "source": str(self.source),
            "fingerprint": self.fingerprint,
            "usable": {name: len(self.split(name)) for name in get_args(Split)},
            "quarantined": list(self.quarantined),
            "findings": plain_values(self.findings),
        }

    def shown(self) -> Iterable[str | Rows]:
        """What `mmtune check` prints."""
        return describe(self)

    @property
    def bad(self) -> float:
        """The share of rows that were left out."""
        total = len(self.rows) + len(self.quarantined)
        return len(self.quarantined) / total if total else 1.0


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


def _by_kind(dataset: Dataset) -> list[tuple[tuple[str, str], list[Finding]]]:
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in dataset.findings:
        groups[finding.severity, finding.kind].append(finding)
    return sorted(groups.items())


def _in_full(findings: Iterable[Finding]) -> Iterable[str]:
    for finding in findings:
        prefix = "" if finding.row in finding.message else f"{finding.row}: "
        yield printable(f"{prefix}{finding.message}. Cure: {finding.cure}")
