"""The comparison of a modality that has none of its own: its metrics on the test rows, paired."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtune.data.rows import Row
from mmtune.evaluation.answers import StoredPredictor
from mmtune.evaluation.comparison import Comparison
from mmtune.metrics.bootstrap import Interval, paired_bootstrap, pin_of
from mmtune.metrics.measure import Measure
from mmtune.metrics.metric import Metric
from mmtune.metrics.registry import added_metrics, make_metric
from mmtune.predict import BatchedPredictor, Prediction, Predictor, Request
from mmtune.system.hashing import hash_text

TEST = "test"
EXAMPLES = 12  # rows that the report shows, as they come
MODELS: Mapping[str, Mapping[str, float]] = {"base": {}, "adapter": {"adapter": 1.0}}


class _OneBatch:
    """A predictor that doesn't say which requests it computes together: all of them."""

    def __init__(self, inner: Predictor) -> None:
        self.inner, self.fingerprint = inner, inner.fingerprint

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        return self.inner.predict(requests)

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        return [list(range(len(requests)))]


def compare_pairs(
    modality: str,
    name: str,
    rows: Sequence[Row],
    metrics: Sequence[str],
    folder: Path,
    opened: Callable[[], Predictor],
    fingerprint: str,
    models: Mapping[str, Mapping[str, float]] = MODELS,
) -> Comparison | None:
    """Ask base and adapter for the same rows, and measure both with paired intervals.

    Args:
        modality: its name.
        name: of the run.
        rows: of the test split.
        metrics: registered names, in the order of the report; those that third parties add to
            the modality follow.
        folder: of the run; answers in its answers.jsonl aren't asked for again.
        opened: loads the base with the run's adapter under the name "adapter".
        fingerprint: of all that an answer depends on, known without the model.
        models: the adapters of "base" and of "adapter", with their weights.

    Returns:
        None in the processes that only answer, see `mmtune.evaluation.parallel`.

    Raises:
        ConfigError: a metric isn't known.
        AdapterError: the adapter can't be loaded, or changes nothing.
    """
    if not rows:
        return Comparison(modality, [], f"{modality}   {name}   not measured: no test rows")
    chosen = [make_metric(each) for each in metrics]
    chosen += added_metrics(modality)

    def batched() -> BatchedPredictor:
        predictor = opened()
        return predictor if isinstance(predictor, BatchedPredictor) else _OneBatch(predictor)

    predictor = StoredPredictor(folder, fingerprint, batched)
    with predictor.asking() as main:
        if not main:
            return None
        answers = {
            model: predictor.predict([Request(row, weights) for row in rows])
            for model, weights in models.items()
        }
    measures = [_measure(metric, rows, answers["base"], answers["adapter"]) for metric in chosen]
    return Comparison(
        modality=modality,
        measures=measures,
        headline="   ".join([modality, name, *map(_in_words, measures)]),
        examples=list(_examples(rows, answers["base"], answers["adapter"])),
    )


def _measure(
    metric: Metric,
    rows: Sequence[Row],
    base: Sequence[Prediction],
    adapter: Sequence[Prediction],
) -> Measure:
    """One metric; rows that share a leakage key are resampled together."""
    found = paired_bootstrap(
        [metric.observe(row, each) for row, each in zip(rows, base, strict=True)],
        [metric.observe(row, each) for row, each in zip(rows, adapter, strict=True)],
        metric.reduce,
        clusters=[next(iter(row.leakage_keys), f"row {row.id}") for row in rows],
        pin=pin_of(metric),
    )
    return Measure(metric.name, TEST, len(rows), *found, metric.higher_is_better)


def _in_words(measure: Measure) -> str:
    gap: Interval = measure.difference
    return (
        f"{measure.metric} {measure.base.value:.3f} → {measure.adapter.value:.3f}, "
        f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
    )


def _examples(
    rows: Sequence[Row], base: Iterable[Prediction], adapter: Iterable[Prediction]
) -> Iterator[dict[str, Any]]:
    """Some rows by hash, and not by result: failures show as often as they are."""
    texts = [
        (row, first.value, second.value)
        for row, first, second in zip(rows, base, adapter, strict=True)
        if isinstance(first.value, str) and isinstance(second.value, str)
    ]
    texts.sort(key=lambda one: hash_text(f"example {one[0].id}"))
    for row, first, second in texts[:EXAMPLES]:
        asked = {
            name: value
            for name, value in row.own_fields().items()
            if isinstance(value, str) and value != row.reference and name not in row.files
        }
        yield {"kind": "as they come", "id": row.id, **asked} | {
            "reference": row.reference,
            "base": first,
            "adapter": second,
        }
