"""The first sentence of a report: what the adapter does, in words and counts."""

from __future__ import annotations

import math

from mmtune.evaluation.comparison import Comparison
from mmtune.metrics.explained import sentence_of
from mmtune.metrics.measure import Measure


def first_sentence(comparison: Comparison, main: Measure | None) -> str:
    """Say the main result in words, and on what it was measured.

    Args:
        comparison: of base and adapter.
        main: the suite's main measure; None: it wasn't measured.

    Examples:
        "Terms right: 31 of 120, before 5. Measured on synthetic voices only."
    """
    parts = [_result(main) if main else "Nothing was measured that shows whether it helps."]
    if comparison.measured_on:
        parts.append(comparison.measured_on)
    return " ".join(parts)


def with_alternative(main: Measure, name: str) -> str:
    """Say the main result of base, adapter and a way without an adapter."""
    base, adapter, other = (main.counts.get(each) for each in ("base", "adapter", name))
    label = sentence_of(main.metric).partition(":")[0]
    if not (base and adapter and other and label):
        value = main.references[name].value
        return (
            f"{main.metric}: {value:.3g} with {name}, {main.adapter.value:.3g} with the adapter, "
            f"{main.base.value:.3g} before."
        )
    return (
        f"{label}: {_number(other[0])} of {_number(other[1])} with {name}, {_number(adapter[0])} "
        f"with the adapter, {_number(base[0])} before."
    )


def _result(main: Measure) -> str:
    name = f"{main.metric[0].upper()}{main.metric[1:]}"
    if not math.isfinite(main.adapter.value):
        return f"{name} can't be measured: {main.note.rstrip('.')}."
    says = sentence_of(main.metric)
    if main.counts and says:
        (base, total), (adapter, _) = main.counts["base"], main.counts["adapter"]
        if base == adapter:
            says = says.replace("before {base}", "as before")
        return says.format(adapter=_number(adapter), base=_number(base), total=_number(total))
    if says and "{total}" not in says:
        return says.format(adapter=f"{100 * main.adapter.value:.0f} %")
    return f"{name} on {main.slice}: {main.adapter.value:.3g}, before {main.base.value:.3g}."


def _number(count: float) -> str:
    return f"{count:,.0f}"
