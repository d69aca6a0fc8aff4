"""Redact a comparison, verdict, review and settings: keep figures, remove what names the data."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from mmtune.evaluation.comparison import Comparison
from mmtune.evaluation.shown_guide import without_contents
from mmtune.evaluation.suite import without_patterns
from mmtune.evaluation.verdict import Verdict
from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.measure import Measure
from mmtune.metrics.text.language_code import LANGUAGES
from mmtune.pages.preference import Result
from mmtune.system.base_name import is_checkpoint

HIDDEN_TEXT = "(left out)"


class OwnNames(Protocol):
    """Names that a modality gives itself; all others may be users' labels and folders.

    `mmtune.modality.Modality` describes each.
    """

    @property
    def slice_names(self) -> Collection[str]: ...
    @property
    def slice_endings(self) -> Collection[str]: ...
    @property
    def slice_labels(self) -> Collection[str]: ...
    @property
    def reference_names(self) -> Collection[str]: ...


Naming = Callable[[str], OwnNames]
"""A function that gives the names of a modality."""


@dataclass(frozen=True)
class NoNames:
    """The names of a modality of which nothing is known."""

    slice_names: Collection[str] = ()
    slice_endings: Collection[str] = ()
    slice_labels: Collection[str] = ()
    reference_names: Collection[str] = ()


def redact_comparison(comparison: Comparison, own: OwnNames) -> Comparison:
    """Remove headline, files, tables, notes, values of labels and names of folders.

    Of a user's rules the outcomes and counts stay. Examples stay, because `content.show` applies
    the policy to them.
    """
    slices = _new_slices(comparison.measures, own)
    measures = []
    for m in comparison.measures:
        new = slices.get(m.slice, m.slice)
        group = None
        if m.group is not None:
            label = m.group[0]
            group = (label, new.rpartition(f"{label} ")[2].split(" ")[0])
        measures.append(
            replace(
                m,
                note="",
                slice=new,
                group=group,
                references={
                    name if name in own.reference_names else f"other {place + 1}": interval
                    for place, (name, interval) in enumerate(m.references.items())
                },
            )
        )
    # Tables are removed because they hold terms.
    guide = without_contents(comparison.guide) if comparison.guide is not None else None
    found = replace(comparison, measures=measures, headline="", files={}, tables=[], notes=[])
    return replace(found, guide=guide)


def redact_card_measures(
    measures: Iterable[Mapping[str, Any]], own: OwnNames
) -> list[dict[str, Any]]:
    """Remove notes, values of labels and names of folders from the measures of a card."""
    unknown = Interval(math.nan, math.nan, math.nan)
    stored = [dict(measure) for measure in measures]
    named = [
        Measure(
            metric=m["metric"], slice=m["slice"], items=m["items"], base=unknown, adapter=unknown,
            difference=unknown, higher_is_better=True,
            group=(m["group"][0], m["group"][1]) if m.get("group") else None,
        )
        for m in stored
    ]  # fmt: skip
    slices = _new_slices(named, own)
    for m in stored:
        new = slices.get(m["slice"], m["slice"])
        if m.get("group"):
            label = m["group"][0]
            m["group"] = [label, new.rpartition(f"{label} ")[2].split(" ")[0]]
        m |= {"slice": new} | ({"note": ""} if "note" in m else {})
        for kept in {"references", "gained", "beyond"} & m.keys():
            m[kept] = {n: value for n, value in m[kept].items() if n in own.reference_names}
    return stored


def redact_verdict(verdict: Verdict, comparison: Comparison, own: OwnNames) -> Verdict:
    """Replace names in a verdict in the same way as `redact_comparison`.

    The slice of a gate that wasn't measured may hold a label's value, too, as may the gate's own
    name and question.
    """
    gates = (verdict.main, *verdict.gates)
    slices = _new_slices([*comparison.measures, *gates], own)
    swaps = dict(slices)
    # Findings say a gate's pattern in words.
    swaps |= {without_patterns(old): new for old, new in slices.items() if "*" in old}
    swaps |= {
        gate.where: slices[gate.slice] for gate in gates if gate.where and gate.slice in slices
    }
    for m in comparison.measures:
        if m.note:
            swaps[f" ({m.note.rstrip('.')})"] = ""
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

    texts: dict[str, str] = {}
    for gate in gates:
        if gate.slice in slices:
            tail = _tail(gate.slice)
            said = {tail, without_patterns(tail)}
            values = sorted({*said, *(v for t in said for v in t.split(" ", 1)[1:])}, key=len)
            values = [value for value in reversed(values) if value]
            hidden = re.compile("|".join(map(re.escape, values)), re.IGNORECASE)
            for text in (gate.name, gate.asks):
                texts[text] = hidden.sub(_tail(slices[gate.slice]), cleared(text))
    ordered = [*sorted(texts.items(), key=lambda swap: -len(swap[0])), *ordered]
    found = Verdict.from_json(cleared(verdict.to_json()))
    return replace(found, use="")  # it names the term list


def redact_review(review: Result) -> Result:
    """Replace people's names by numbers."""
    people = {f"person {i + 1}": c for i, c in enumerate(review.raters.values())}
    return review.model_copy(update={"raters": people})


def redact_settings(
    values: Mapping[str, Any],
    *,
    keep: Collection[str] = (),
    hidden: str | None = HIDDEN_TEXT,
    section: str = "",
) -> dict[str, Any]:
    """Keep numbers and switches of settings; replace texts, which may be paths or captions.

    Args:
        values: settings by name, or sections of them.
        keep: full names of settings whose texts stay.
        hidden: what stands in place of a text; None: the setting is left out.
        section: where the values stand, with a dot at its end.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{section}{key}"
        plain = isinstance(value, bool | int | float) or (
            isinstance(value, list) and not any(isinstance(each, str | dict) for each in value)
        )
        if isinstance(value, Mapping):
            found[key] = redact_settings(value, keep=keep, hidden=hidden, section=f"{name}.")
        elif value is None or plain or name in keep:
            found[key] = value
        elif hidden is not None:
            found[key] = hidden
    return found


def redact_base(base: str) -> str:
    """Return the base's name, or what it is if it is a path on somebody's disk."""
    path = Path(base).expanduser()
    local = path.is_absolute() or base.startswith((".", "~")) or base.count("/") > 1
    if is_checkpoint(base):
        return "a local file"
    return "a local folder" if local or path.exists() else base


class _OnSlice(Protocol):
    """A measure, or the result of a gate."""

    @property
    def slice(self) -> str: ...


def _new_slices(found: Iterable[_OnSlice], own: OwnNames) -> dict[str, str]:
    """Give each slice whose name holds a label's value a numbered name: "test, accent 1".

    Measures of earlier versions, and parts of the data such as a call's sides, don't say that they
    are groups. So of every other name only what the modality itself writes is kept.
    """
    each_once: dict[str, _OnSlice] = {}
    for each in found:
        each_once.setdefault(each.slice, each)  # in order, so that all pages number alike
    labels = {m.group[0] for m in each_once.values() if isinstance(m, Measure) and m.group}
    counts: dict[str, int] = {}
    names: dict[str, str] = {}
    for name, each in each_once.items():
        head, tail = name.partition(", ")[0], _tail(name)
        label = each.group[0] if isinstance(each, Measure) and each.group else ""
        ending = next((each for each in own.slice_endings if tail.endswith(each)), "")
        if not label:
            plain = tail.removesuffix(ending)
            if not plain or plain in own.slice_names or plain in LANGUAGES:
                continue
            if "*" in plain and _is_own_pattern(plain, own, labels):
                continue
            if tail in {f"by {one}" for one in (*labels, *own.slice_labels)}:
                continue
            label = next((one for one in sorted(labels) if tail.startswith(f"{one} ")), "part")
        counts[label] = counts.get(label, 0) + 1
        names[name] = f"{head}, {label} {counts[label]}{ending}"
    return names


def _is_own_pattern(pattern: str, own: OwnNames, labels: Collection[str]) -> bool:
    """Whether a gate's pattern of slices names nothing but what the modality and labels name."""
    names = (f"{label} *" for label in (*labels, *own.slice_labels))
    if pattern in {"*", "by *", *names}:
        return True
    return any(fnmatch.fnmatchcase(name, pattern) for name in own.slice_names)


def _tail(name: str) -> str:
    """What follows the kind of a slice: "accent indian" of "test, accent indian"."""
    return name.partition(", ")[2]
