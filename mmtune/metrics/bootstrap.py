"""Bootstrap intervals of ratio and mean statistics, paired and clustered.

An interval reaches from the lower to the upper ends of two: the studentized bootstrap (Efron &
Tibshirani, An Introduction to the Bootstrap, 1993, section 12.5, with the jackknife's influence
values as the standard error of each resample), and the jackknife with Student's t (MacKinnon &
White, 1985). Percentile intervals, and each of these alone, hold the truth too seldom with 10 to 40
speakers (`benchmarks/coverage.py` has the figures). Paired resampling for speech recognition is
after Bisani & Ney, ICASSP 2004. If items are grouped in two ways that cross, resampling by only one
of them can give far too narrow an interval (Owen & Eckles, 2012). Callers then take the wider of
both intervals. It is right if one effect dominates, and still too narrow if both are large. With
few clusters a sign-flip test (Fisher, 1935, ch. 21) is reported beside the interval.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # type: ignore[import-untyped]

from mmtune.metrics.metric import Metric, Stat

ENOUGH_CLUSTERS = 20  # with fewer clusters, a sign-flip test is reported beside the interval
FEW_SPEAKERS = 10  # with fewer speakers, sentences are resampled instead of speakers
# Word errors are skewed: a few speakers have most of them. With fewer clusters, the ends are drawn
# farther out by this factor of their tails (`benchmarks/coverage.py`).
SKEWED_CLUSTERS, SKEWED_TAIL = 100, 0.6
EXACT_FLIPS = 12  # up to this many differences, all 2^12 patterns of signs are tried
FLIPS = 9_999  # random patterns of signs for more differences

Reduce = Callable[[NDArray[np.float64]], float | None]
Pin = Callable[[NDArray[np.float64]], Reduce]
"""Gives the function for resamples of a set of items; it keeps choices that the set makes."""


def pin_of(metric: Metric) -> Pin | None:
    """The metric's `pinned`, if it has one; most metrics make no choices by their items."""
    pin = getattr(metric, "pinned", None)
    return pin if callable(pin) else None


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % confidence interval; nan if it isn't defined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


UNDEFINED = Interval(float("nan"), float("nan"), float("nan"))


def _members(n: int, clusters: Sequence[Hashable] | None) -> list[NDArray[np.intp]]:
    # A cluster (a speaker, a prompt) is drawn as a whole, because its items are not independent.
    labels: list[Hashable] = list(range(n) if clusters is None else clusters)
    if len(labels) != n:
        raise ValueError(f"{n} items but {len(labels)} cluster labels")
    members: dict[Hashable, list[int]] = {}
    for i, label in enumerate(labels):
        members.setdefault(label, []).append(i)
    return [np.asarray(m, dtype=np.intp) for m in members.values()]


def _draws(groups: int, rounds: int, seed: int) -> NDArray[np.intp]:
    """The clusters of each resample, [rounds, groups]."""
    return np.random.default_rng(seed).integers(groups, size=(rounds, groups))


def _resamples(
    groups: Sequence[NDArray[np.intp]], draws: NDArray[np.intp]
) -> Iterator[NDArray[np.intp]]:
    """The items of each resample of clusters."""
    items = np.concatenate(groups)
    alone = len(items) == len(groups)  # each item is its own cluster
    for draw in draws:
        yield items[draw] if alone else np.concatenate([groups[g] for g in draw])


def _interval(value: float | None, samples: list[float], level: float) -> Interval:
    if value is None or not samples:
        return UNDEFINED
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    # A resample holds fewer different items than the set, which shifts some metrics (a spread, a
    # distance between sets). The interval then reaches to the value, so that it always holds it.
    return Interval(value, min(value, float(low)), max(value, float(high)))


def _clustered(
    value: float | None,
    samples: Sequence[float | None],
    without: Sequence[float | None],
    draws: NDArray[np.intp],
    level: float,
) -> Interval:
    """An interval from a value, its resamples, and the values without each cluster.

    Where a value without a cluster isn't defined, the interval is that of the percentiles.
    """
    defined = [each for each in samples if each is not None]
    plain = _interval(value, defined, level)
    n = len(without)
    if value is None or not defined or n < 2 or any(each is None for each in without):
        return plain
    influence = n * value - (n - 1) * np.asarray(without, dtype=np.float64)
    if not np.isfinite(influence).all():
        return plain
    error = float(influence.std(ddof=1) / np.sqrt(n))
    if error <= 0:
        return plain
    tail = (1 - level) / 2 * (SKEWED_TAIL if n < SKEWED_CLUSTERS else 1.0)
    reach = float(stdtrit(n - 1, 1 - tail)) * error
    lows, highs = [value - reach], [value + reach]
    # Of each resample, how many of its own standard errors it lies from the value.
    drawn = influence[draws]
    errors = drawn.std(axis=1) / np.sqrt(n - 1)
    known = np.array([each is not None for each in samples]) & (errors > 0)
    if known.any():
        found = np.array([each if each is not None else np.nan for each in samples])
        steps = (found[known] - value) / errors[known]
        first, last = np.quantile(steps, [tail, 1 - tail])
        lows.append(value - float(last) * error)
        highs.append(value - float(first) * error)
    # No end lies beyond all resamples: so a share stays between 0 and 1.
    low = max(min(lows), min(plain.low, *defined))
    high = min(max(highs), max(plain.high, *defined))
    return Interval(value, min(value, low), max(value, high))


def resample_counts(
    n: int, clusters: Sequence[Hashable] | None = None, rounds: int = 1000, seed: int = 0
) -> NDArray[np.float64]:
    """Count how often each resample of `bootstrap` holds each item, [rounds, n].

    Metrics of a whole set use the counts to compute all resamples as one matrix product.
    """
    groups = _members(n, clusters)
    drawn = _resamples(groups, _draws(len(groups), rounds, seed))
    return np.stack([np.bincount(i, minlength=n) for i in drawn]).astype(np.float64)


def interval_of(value: float, samples: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Make an interval from a value and its resamples, [rounds]; nan resamples are ignored."""
    finite = samples[np.isfinite(samples)]
    return _interval(value if np.isfinite(value) else None, list(finite), level)


def bootstrap(
    stats: Sequence[Stat],
    reduce: Reduce,
    *,
    clusters: Sequence[Hashable] | None = None,
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    pin: Pin | None = None,
) -> Interval:
    """Compute a metric with its bootstrap interval, which always holds the value.

    Args:
        stats: statistics of each item, [items, k].
        reduce: computes the metric of a set of items from [items, k]; None if it isn't defined.
        clusters: label of each item; items of one label are resampled together.
        rounds: number of resamples.
        level: confidence level of the interval.
        seed: random seed of the resamples.
        pin: makes the function for resamples from all items (`GroupGap.pinned`); None: `reduce`.
    """
    return paired_bootstrap(
        stats, stats, reduce, clusters=clusters, rounds=rounds, level=level, seed=seed, pin=pin
    )[0]


def paired_bootstrap(
    base: Sequence[Stat],
    adapter: Sequence[Stat],
    reduce: Reduce,
    *,
    clusters: Sequence[Hashable] | None = None,
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    pin: Pin | None = None,
) -> tuple[Interval, Interval, Interval]:
    """Compute the intervals of base, adapter and adapter - base from the same resamples.

    Args:
        base: the base's statistics of each item, [items, k].
        adapter: the adapter's statistics of the same items, in the same order.
        reduce, clusters, rounds, level, seed, pin: as for `bootstrap`; base and adapter each have
            their own choices.

    Raises:
        ValueError: `base` and `adapter` differ in length.
    """
    a, b = np.asarray(base, dtype=np.float64), np.asarray(adapter, dtype=np.float64)
    if len(a) != len(b):
        raise ValueError(f"paired items differ: {len(a)} and {len(b)}")
    if not len(a):
        return UNDEFINED, UNDEFINED, UNDEFINED
    first, second = (pin(a), pin(b)) if pin is not None else (reduce, reduce)
    same = a is b or np.array_equal(a, b)

    def of(indices: NDArray[np.intp]) -> tuple[float | None, float | None]:
        x = first(a[indices])
        return x, x if same else second(b[indices])

    groups = _members(len(a), clusters)
    draws = _draws(len(groups), rounds, seed)
    samples = [of(items) for items in _resamples(groups, draws)]
    everything = np.arange(len(a))
    without = [of(np.delete(everything, group)) for group in groups] if len(groups) > 1 else []
    whole = (reduce(a), reduce(b))

    def interval(part: Callable[[tuple[float | None, float | None]], float | None]) -> Interval:
        return _clustered(part(whole), [*map(part, samples)], [*map(part, without)], draws, level)

    return interval(lambda pair: pair[0]), interval(lambda pair: pair[1]), interval(_gap)


def _gap(pair: tuple[float | None, float | None]) -> float | None:
    first, second = pair
    return None if first is None or second is None else second - first


def sign_flip(differences: Sequence[float], seed: int = 0) -> float | None:
    """Test whether the mean of differences is zero, by flipping signs; two-sided p value.

    Under the null hypothesis each difference could have had the opposite sign. Up to `EXACT_FLIPS`
    differences, all patterns of signs are tried. For more, `FLIPS` random patterns and the observed
    one are used (Phipson & Smyth, 2010). With n differences, p can't be below 2 / 2^n; so five
    differences can't reach 5 %.

    Args:
        differences: adapter - base of each cluster (a speaker, a term); all have equal weight.
        seed: random seed of the patterns.

    Returns:
        The p value; None without differences.
    """
    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    if not n:
        return None
    seen = abs(values.sum())
    limit = seen - 1e-9 * max(float(np.abs(values).sum()), 1e-300)  # tolerance for rounding
    if n <= EXACT_FLIPS:
        patterns = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return float((np.abs((1 - 2 * patterns) @ values) >= limit).mean())
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (FLIPS, n))
    return float(((np.abs(signs @ values) >= limit).sum() + 1) / (FLIPS + 1))


def crossed(first: Sequence[Hashable], second: Sequence[Hashable]) -> bool:
    """Whether two groupings of the same items cross, such as speakers and sentences.

    If they cross, resampling by one grouping misses the dependence through the other. They cross
    if some group of each is spread over several groups of the other. If every sentence has its own
    speaker, or every speaker reads one sentence, one grouping lies within the other.

    Args:
        first: label of each item in the first grouping.
        second: label of each item in the second grouping.
    """

    def spread(labels: Sequence[Hashable], others: Sequence[Hashable]) -> bool:
        met: dict[Hashable, set[Hashable]] = {}
        for label, other in zip(labels, others, strict=True):
            met.setdefault(label, set()).add(other)
        return len(met) > 1 and any(len(each) > 1 for each in met.values())

    return spread(first, second) and spread(second, first)


def wider(first: Interval, second: Interval) -> Interval:
    """Return the wider of two intervals; an undefined interval is ignored."""
    own, other = first.high - first.low, second.high - second.low
    return second if other > own or own != own else first


def by_cluster(
    base: Sequence[Stat], adapter: Sequence[Stat], reduce: Reduce, clusters: Sequence[Hashable]
) -> list[float]:
    """Compute adapter - base of each cluster for which the metric is defined, for `sign_flip`."""
    members: dict[Hashable, list[int]] = {}
    for i, label in enumerate(clusters):
        members.setdefault(label, []).append(i)
    a, b = np.asarray(base, dtype=np.float64), np.asarray(adapter, dtype=np.float64)
    found = ((reduce(a[some]), reduce(b[some])) for some in members.values())
    return [y - x for x, y in found if x is not None and y is not None]
