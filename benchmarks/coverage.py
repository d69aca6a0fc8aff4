"""How often intervals and verdicts are right: resampled from the utterance errors of real runs.

    python benchmarks/coverage.py

`benchmarks/data/utterance_errors.json` holds, for each utterance that base and adapter transcribed
in a real run, its speaker's number, both models' word errors, the words spoken, and whether either
model repeated itself. No words and no sound are in it. The method of the intervals was chosen on
the first family alone; the others judge it. All seeds are fixed, so the tables stay the same.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from mmtune.metrics.bootstrap import SKEWED_CLUSTERS, SKEWED_TAIL, paired_bootstrap
from mmtune.metrics.rare import rare_difference
from mmtune.metrics.text.wer import reduce_errors

DATA = Path(__file__).parent / "data" / "utterance_errors.json"
DESIGNS = ((12, 10), (20, 10), (30, 10), (67, 10), (40, 1))
RESAMPLES = 1000  # as in mmtune
HARM, WORSE = 0.05, 0.02  # thresholds of the gates: word errors, and repeating rows
ROWS = (40, 100, 300, 1000)
Values = NDArray[np.float64]
Ends = tuple[float, float]


def percentile(d: Values, w: Values, drawn: NDArray[np.intp]) -> Ends:
    """The percentile bootstrap, which mmtune used before."""
    found = d[drawn].sum(1) / w[drawn].sum(1)
    low, high = np.quantile(found, [0.025, 0.975])
    value = d.sum() / w.sum()
    return min(value, float(low)), max(value, float(high))


def ours(d: Values, w: Values, drawn: NDArray[np.intp]) -> Ends:
    """`mmtune.metrics.bootstrap` for a ratio of sums over clusters, computed all at once."""
    n, value = len(d), d.sum() / w.sum()
    samples = d[drawn].sum(1) / w[drawn].sum(1)
    low, high = percentile(d, w, drawn)
    influence = n * value - (n - 1) * (d.sum() - d) / (w.sum() - w)
    error = float(influence.std(ddof=1) / np.sqrt(n))
    if error <= 0:
        return low, high
    tail = 0.025 * (SKEWED_TAIL if n < SKEWED_CLUSTERS else 1.0)
    reach = float(stdtrit(n - 1, 1 - tail)) * error
    errors = influence[drawn].std(1) / np.sqrt(n - 1)
    steps = (samples[errors > 0] - value) / errors[errors > 0]
    first, last = np.quantile(steps, [tail, 1 - tail])
    least = min(value - reach, value - last * error)
    most = max(value + reach, value - first * error)
    least, most = max(least, min(low, samples.min())), min(most, max(high, samples.max()))
    return float(min(value, least)), float(max(value, most))


METHODS: dict[str, Callable[[Values, Values, NDArray[np.intp]], Ends]] = {
    "percentile (before)": percentile,
    "studentized and jackknife": ours,
}


def speakers_of(rows: Sequence[Sequence[int]], repeats: bool) -> list[Values]:
    """Each speaker's utterances, [utterances, 4]: errors of base and adapter, words, repeats."""
    found: dict[int, list[tuple[float, float, float, float]]] = {}
    for speaker, base, adapter, words, first, second in rows:
        if repeats or not (first or second):
            found.setdefault(speaker, []).append((base, adapter, words, second - first))
    return [np.array(each, dtype=np.float64) for each in found.values()]


def corpus(speakers: Sequence[Values], rng: np.random.Generator, n: int, size: int) -> Values:
    """`n` speakers with `size` utterances each, [n, size, 4], both drawn with replacement."""
    chosen = rng.integers(len(speakers), size=n)
    return np.stack([speakers[i][rng.integers(len(speakers[i]), size=size)] for i in chosen])


def truth_of(speakers: Sequence[Values]) -> float:
    """The difference of WER that corpora of ever more speakers come to."""
    means = np.stack([each.mean(axis=0) for each in speakers])
    return float((means[:, 1] - means[:, 0]).sum() / means[:, 2].sum())


def check_twin(speakers: Sequence[Values]) -> None:
    """The fast computation above gives what mmtune gives."""
    rng = np.random.default_rng(5)
    for n, size in ((12, 10), (40, 1)):
        rows = corpus(speakers, rng, n, size)
        flat, labels = rows.reshape(-1, 4), list(np.repeat(np.arange(n), size))
        zero = np.zeros(len(flat))
        first, second = (np.stack([flat[:, k], zero, zero, flat[:, 2]], 1) for k in (0, 1))
        _, _, found = paired_bootstrap(list(first), list(second), reduce_errors, clusters=labels)
        drawn = np.random.default_rng(0)
        draws = np.stack([drawn.integers(n, size=n) for _ in range(RESAMPLES)])
        sums = rows.sum(axis=1)
        fast = ours(sums[:, 1] - sums[:, 0], sums[:, 2], draws)
        assert np.allclose(fast, (found.low, found.high)), (fast, found)


def coverage(name: str, speakers: Sequence[Values], corpora: int) -> None:
    """Print how often the intervals hold the truth, and miss it at each end."""
    truth = truth_of(speakers)
    total = sum(map(len, speakers))
    print(f"\n{name}: {len(speakers)} speakers, {total} utterances, true difference {truth:+.4f}")
    print(f"{'speakers x utterances':<24}{'method':<28}held   upper end missed   lower   width")
    for n, size in DESIGNS:
        rng = np.random.default_rng(1)
        ends: dict[str, list[Ends]] = {method: [] for method in METHODS}
        for _ in range(corpora):
            sums = corpus(speakers, rng, n, size).sum(axis=1)
            d, w = sums[:, 1] - sums[:, 0], sums[:, 2]
            drawn = rng.integers(n, size=(RESAMPLES, n))
            for method, interval in METHODS.items():
                ends[method].append(interval(d, w, drawn))
        for method, found in ends.items():
            low, high = np.array(found).T
            held = ((low <= truth) & (truth <= high)).mean()
            row = f"{f'{n} x {size}':<24}{method:<28}{held:.3f}  {(high < truth).mean():.3f}"
            print(f"{row}{'':14}{(low > truth).mean():.3f}   {np.median(high - low):.3f}")


def repeats(corpora: int) -> None:
    """Print how often the gate of repeats passes adapters that repeat more often."""
    print("\nRepeats: share of adapters that pass 'at most 2 points more repeating rows'")
    print(f"{'adapter - base':<18}" + "".join(f"{n:>8} rows" for n in ROWS))
    for more in (0.0, 0.005, 0.01, 0.02, 0.03, 0.05):
        cells = []
        for n in ROWS:
            rng, passed = np.random.default_rng(2), 0
            for _ in range(corpora):
                first, second = np.ones((n, 2)), np.ones((n, 2))
                first[:, 0] = rng.random(n) < 0.01
                second[:, 0] = (rng.random(n) < 0.01 + more) if more else first[:, 0]
                found = rare_difference(list(first), list(second))
                passed += (found.high if found is not None else 3 / n) <= WORSE
            cells.append(f"{passed / corpora:>13.3f}")
        print(f"{more:<+18.3f}" + "".join(cells))


def verdicts(general: Sequence[Values], test: Sequence[Values], corpora: int) -> None:
    """Print what the verdict is, by rows of general speech and true harm.

    The adapter helps on its test as in the stored run. On general speech its errors are the base's
    or its own by the toss of a coin for each speaker, so that the true difference is 0 and the
    errors of one speaker, and their repeats, stay together. Harm is added word by word.
    """
    print("\nVerdicts of main measure, general speech and repeats together (other gates passed)")
    print(f"{'true harm':<12}{'rows':>6}  not forbidden   not known yet   keep the base")
    for harm in (0.0, 0.02, 0.06):
        for n in ROWS:
            rng = np.random.default_rng(3)
            outcomes = {"fine": 0, "unknown": 0, "keep": 0}
            for _ in range(corpora):
                outcomes[_outcome(general, test, rng, n, harm)] += 1
            shares = [each / corpora for each in outcomes.values()]
            print(f"{harm:<+12.2f}{n:>6}" + "".join(f"{share:>16.3f}" for share in shares))


def _outcome(
    general: Sequence[Values], test: Sequence[Values], rng: np.random.Generator, n: int, harm: float
) -> str:
    chosen: list[Values] = []
    labels: list[int] = []
    while len(labels) < n:
        rows = general[rng.integers(len(general))].copy()
        if rng.random() < 0.5:
            rows[:, [0, 1]], rows[:, 3] = rows[:, [1, 0]], -rows[:, 3]
        rows[:, 1] += rng.binomial(rows[:, 2].astype(int), harm)
        labels += [len(chosen)] * len(rows)
        chosen.append(rows)
    whole, speaker = np.concatenate(chosen)[:n], np.array(labels[:n])
    first, second = np.ones((n, 2)), np.ones((n, 2))
    first[:, 0], second[:, 0] = whole[:, 3] < 0, whole[:, 3] > 0
    rare = rare_difference(list(first), list(second), list(speaker))
    left = whole[:, 3] == 0
    sums = np.stack([whole[left & (speaker == i)].sum(axis=0) for i in np.unique(speaker[left])])
    found = [
        (*_ends(sums, rng), HARM),
        (rare.value, rare.high, WORSE) if rare is not None else (0.0, 3 / n, WORSE),
        (*_ends(corpus(test, rng, 20, 10).sum(axis=1), rng), -1e-12),
    ]
    if any(value > bound for value, _, bound in found):
        return "keep"
    return "fine" if all(end <= bound for _, end, bound in found) else "unknown"


def _ends(sums: Values, rng: np.random.Generator) -> Ends:
    d, w = sums[:, 1] - sums[:, 0], sums[:, 2]
    high = ours(d, w, rng.integers(len(d), size=(200, len(d))))[1]
    return float(d.sum() / w.sum()), high


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--corpora", type=int, default=2000, help="simulated corpora of each kind")
    options = parser.parse_args()
    families: Mapping[str, list[list[int]]] = json.loads(DATA.read_text(encoding="utf-8"))
    without = {name: speakers_of(rows, repeats=False) for name, rows in families.items()}
    check_twin(next(iter(without.values())))
    for name, speakers in without.items():
        coverage(name, speakers, options.corpora)
    repeats(options.corpora)
    general = next(name for name in families if "general" in name)
    test = next(iter(without.values()))
    verdicts(speakers_of(families[general], repeats=True), test, max(200, options.corpora // 5))


if __name__ == "__main__":
    main()
