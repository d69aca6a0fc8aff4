"""Redact a comparison, verdict, review and settings: keep figures, remove what names the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmtune.evaluation.comparison import Comparison
from mmtune.evaluation.verdict import Verdict
from mmtune.metrics.measure import Measure
from mmtune.pages.preference import Result

# Names of references that mmtune itself gives; all other names are those of users' folders.
OURS = {"real", "real, others' captions", "own less others' captions", "base, other seed"}
HIDDEN_TEXT = "(left out)"


def redact_comparison(comparison: Comparison) -> Comparison:
    """Remove headline, files, tables, notes, values of labels and names of folders.

    Examples stay, because `content.show` applies the policy to them.
    """
    names = _group_names(comparison)
    measures = []
    for m in comparison.measures:
        new = names.get(m.slice)
        group = (m.group[0], new.removeprefix(f"{m.group[0]} ")) if m.group and new else None
        measures.append(
            replace(
                m,
                note="",
                slice=_slice(m, new),
                group=group,
                references={
                    name if name in OURS else f"other {place + 1}": interval
                    for place, (name, interval) in enumerate(m.references.items())
                },
            )
        )
    # Tables are removed because they hold terms.
    return replace(comparison, measures=measures, headline="", files={}, tables=[], notes=[])


def redact_verdict(verdict: Verdict, comparison: Comparison) -> Verdict:
    """Replace names in a verdict in the same way as `redact_comparison`."""
    swaps: dict[str, str] = {}
    names = _group_names(comparison)
    for m in comparison.measures:
        if m.note:
            swaps[f" ({m.note.rstrip('.')})"] = ""
        if m.group and m.slice in names:
            swaps[m.slice] = _slice(m, names[m.slice])
    # Longest first, because one name may begin with another.
    ordered = sorted(swaps.items(), key=lambda swap: -len(swap[0]))

    def cleared(value: Any) -> Any:
        if isinstance(value, str):
            for old, new in ordered:
                value = value.replace(old, new)
            return value
        if isinstance(value, list):
            return [cleared(each) for each in value]
        if isinstance(value, dict):
            return {key: cleared(each) for key, each in value.items()}
        return value

    found = Verdict.from_json(cleared(verdict.to_json()))
    return replace(found, use="")  # it names the term list


def redact_review(review: Result) -> Result:
    """Replace people's names by numbers."""
    people = {f"person {i + 1}": c for i, c in enumerate(review.raters.values())}
    return review.model_copy(update={"raters": people})


def redact_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keep numbers and switches of settings; replace texts, which may be paths or captions."""

    def cleared(value: Any) -> Any:
        if isinstance(value, Mapping):
            return redact_settings(value)
        if isinstance(value, list) and not any(isinstance(each, str | dict) for each in value):
            return value
        return value if value is None or isinstance(value, bool | int | float) else HIDDEN_TEXT

    return {key: cleared(value) for key, value in values.items()}


def redact_base(base: str) -> str:
    """Return the base's name, or "a local folder" if it is a path on somebody's disk."""
    path = Path(base).expanduser()
    local = path.is_absolute() or base.startswith((".", "~")) or base.count("/") > 1
    return "a local folder" if local or path.exists() else base


def _group_names(comparison: Comparison) -> dict[str, str]:
    """Give each slice that is one group a numbered name, such as "accent 1"."""
    counts: dict[str, int] = {}
    names: dict[str, str] = {}
    for m in comparison.measures:
        if m.group and m.slice not in names:
            label = m.group[0]
            counts[label] = counts.get(label, 0) + 1
            names[m.slice] = f"{label} {counts[label]}"
    return names


def _slice(measure: Measure, new: str | None) -> str:
    if measure.group is None or new is None:
        return measure.slice
    label, value = measure.group
    return measure.slice.removesuffix(f"{label} {value}") + new
