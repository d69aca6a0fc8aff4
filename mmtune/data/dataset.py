"""A checked dataset: the usable rows and the findings of the check."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from mmtune.data.ledger import Guess, guessed_lines
from mmtune.data.policy import Policy, refusal_counts
from mmtune.data.rows import Finding, Row, Severity, Split
from mmtune.data.rule_result import RuleResult, rule_lines
from mmtune.errors import printable
from mmtune.system.display import Displayed, Rows, plain_values

_BY_CHECK = object()


@dataclass(frozen=True)
class Dataset(Displayed):
    """The rows that passed the check. Only `mmtune.data.check.check` can make one.

    Attributes:
        source: the manifest or folder.
        modality: the modality's name.
        rows: the usable rows, with absolute paths and with `content` and `split` set.
        findings: all errors and warnings.
        quarantined: labels of the rows that have errors and were left out.
        facts: measured properties of each row's file, by row id (duration_s; width, height).
        fingerprint: hash of all rows' contents and fields; it doesn't depend on their order or on
            where the files lie.
        guesses: values that the source doesn't state, each with what it was taken from.
        files: how many files the source's folder holds ("found"), "used" and "left_out"; empty if
            the source is one manifest.
        lines: for each manifest or metadata file, how many lines it holds, and how many of them
            are rows; the others have findings.
        withheld: ids of usable rows that were left out: they would leak between splits, are named
            as test and were trained on, are copies of others, or the policy refuses them.
        refused: how many rows the policy refuses, by reason.
        policy: by which consents and licences were judged.
        rules: rules that the user has written down, and whether the rows keep them.
        version: fingerprint of the version in the data's version log; empty if none was written.
        made_by: a private marker that `check` sets.
    """

    source: Path
    modality: str
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    quarantined: tuple[str, ...]
    facts: Mapping[str, Mapping[str, float]]
    fingerprint: str
    guesses: tuple[Guess, ...] = ()
    files: Mapping[str, int] = field(default_factory=dict)
    lines: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    withheld: tuple[str, ...] = ()
    rules: tuple[RuleResult, ...] = ()
    version: str = ""
    refused: Mapping[str, int] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    made_by: object = None

    def __post_init__(self) -> None:
        if self.made_by is not _BY_CHECK:
            raise TypeError("a Dataset is made by mmtune.data.check.check(source, modality)")

    def split(self, name: Split) -> tuple[Row, ...]:
        """Return the rows of one split."""
        return tuple(row for row in self.rows if row.split == name)

    def to_dict(self) -> dict[str, Any]:
        """What `mmtune check --json` prints: plain JSON values."""
        return {
            "modality": self.modality,
            "source": str(self.source),
            "fingerprint": self.fingerprint,
            "version": self.version,
            "rows": self.found,
            "usable": {name: len(self.split(name)) for name in get_args(Split)},
            "hours": self.hours,
            "quarantined": list(self.quarantined),
            "withheld": list(self.withheld),
            "refused": dict(self.refused),
            "files": dict(self.files),
            "lines": {
                name: {"found": found, "rows": used, "left_out": found - used}
                for name, (found, used) in self.lines.items()
            },
            "guesses": plain_values(self.guesses),
            "findings": plain_values(self.findings),
            "rules": plain_values(self.rules),
        }

    def shown(self) -> Iterable[str | Rows]:
        """Show the lines that `mmtune check` prints."""
        return describe(self)

    @property
    def hours(self) -> float | None:
        """Duration of the usable rows in hours; None if the rows have none."""
        seconds = [facts["duration_s"] for facts in self.facts.values() if "duration_s" in facts]
        return sum(seconds) / 3600 if seconds else None

    @property
    def found(self) -> int:
        """The number of all rows, also of those that were left out."""
        return len(self.rows) + len(self.quarantined) + len(self.withheld)

    @property
    def bad(self) -> float:
        """The share of rows that have errors."""
        return len(self.quarantined) / self.found if self.found else 1.0


def describe(dataset: Dataset, examples: int = 5) -> list[str]:
    """Format a dataset's summary and findings as the lines that `mmtune check` prints.

    Args:
        dataset: from `check(..., strict=False)`.
        examples: number of findings of each kind to show in full.
    """
    splits = ", ".join(f"{name} {len(dataset.split(name))}" for name in get_args(Split))
    lines = [
        f"{printable(str(dataset.source))} ({dataset.modality})",
        f"rows         {dataset.found}: {len(dataset.rows)} usable ({splits}), "
        f"{len(dataset.quarantined)} left out ({dataset.bad:.1%})",
    ]
    lines += [f"             {line}" for line in _withheld(dataset)]
    for name in dict.fromkeys(name for facts in dataset.facts.values() for name in facts):
        values = [facts[name] for facts in dataset.facts.values() if name in facts]
        total_s = f", total {sum(values):,.1f}" if name.endswith("_s") else ""
        lines.append(
            f"{name:<12} {min(values):g} to {max(values):g}, "
            f"median {statistics.median(values):g}{total_s}"
        )
    if dataset.files:
        unused = dataset.files["left_out"]
        lines.append(f"files        {dataset.files['found']}: {unused} not used")
    lines.append(f"fingerprint  {dataset.fingerprint}")
    lines += guessed_lines(dataset.guesses, examples)
    for (severity, kind), group in _by_kind(dataset):
        lines.append(f"{severity} {kind}: {len(group)}")
        lines += (f"  {line}" for line in _in_full(group[:examples]))
        if len(group) > examples:
            lines.append(f"  … and {len(group) - examples} more")
    return lines + rule_lines(dataset.rules, examples)


def remarks(dataset: Dataset) -> list[str]:
    """Format the findings for a user who trains on the dataset: one line for each kind."""
    lines = [
        f"{severity} {kind}{f', {len(group)} times' if len(group) > 1 else ''}: "
        f"{next(iter(_in_full(group)))}"
        for (severity, kind), group in _by_kind(dataset)
        if severity != "note"
    ]
    if dataset.quarantined:
        lines.append(
            f"{len(dataset.quarantined)} rows are left out; list them with mmtune check "
            f"{printable(str(dataset.source))}"
        )
    for line in _withheld(dataset):
        count, _, what = line.partition(" ")
        lines.append(f"{count} {'row is' if count == '1' else 'rows are'} {what}")
    lines += rule_lines([each for each in dataset.rules if each.is_broken], 1)
    return lines


def _withheld(dataset: Dataset) -> Iterable[str]:
    """Lines about usable rows that were left out."""
    found = [each for each in dataset.findings if each.kind == "duplicate-content"]
    copies = len({each.row for each in found}.intersection(dataset.withheld))
    refused = sum(dataset.refused.values())
    if leaks := len(dataset.withheld) - copies - refused:
        yield f"{leaks} in no split: leaks, or trained on before"
    if copies:
        yield f"{copies} left out: copies of others"
    if refused:
        by = f" by {printable(dataset.policy.place)}" if dataset.policy.place else ""
        yield f"{refused} quarantined{by}: {refusal_counts(dataset.refused)}"


def _by_kind(dataset: Dataset) -> list[tuple[tuple[str, str], list[Finding]]]:
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in dataset.findings:
        groups[finding.severity, finding.kind].append(finding)
    order = get_args(Severity)
    return sorted(groups.items(), key=lambda pair: (order.index(pair[0][0]), pair[0][1]))


def _in_full(findings: Iterable[Finding]) -> Iterable[str]:
    for finding in findings:
        prefix = "" if finding.row in finding.message else f"{finding.row}: "
        yield printable(f"{prefix}{finding.message}. Cure: {finding.cure}")
