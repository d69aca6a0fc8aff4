"""Compute the measures of a comparison: metrics on slices, each with confidence intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from functools import reduce

from mmtune.metrics.bootstrap import (
    ENOUGH_CLUSTERS,
    FEW_SPEAKERS,
    Interval,
    by_cluster,
    crossed,
    paired_bootstrap,
    pin_of,
    sign_flip,
    wider,
)
from mmtune.metrics.gap import GroupGap, WorstGroup
from mmtune.metrics.measure import Bin, Measure
from mmtune.metrics.metric import Metric, Stat, counts_of
from mmtune.metrics.rare import rare_difference
from mmtune.metrics.registry import added_metrics
from mmtune.metrics.remembered import Remembered
from mmtune.metrics.text.calibration import BrierScore, CalibrationError, ErrorRanking
from mmtune.metrics.text.critical_errors import KINDS, CriticalErrors
from mmtune.metrics.text.drift import start_figures
from mmtune.metrics.text.formatted import FormattedWordErrors, is_formatted
from mmtune.metrics.text.hallucination import HallucinatedWords
from mmtune.metrics.text.language import LanguageAccuracy
from mmtune.metrics.text.repeats import Repeats, repeats
from mmtune.metrics.text.term_finder import term_key
from mmtune.metrics.text.term_recall import FalseInsertions, HurtfulWords, TermPrecision, TermRecall
from mmtune.metrics.text.variants import STRICT, Variants
from mmtune.metrics.text.wer import CharacterErrors, WordErrors
from mmtune.speech.corpus.hurtful_words import hurtful_words
from mmtune.speech.evaluation.examples import SYNTHESIZER
from mmtune.speech.evaluation.extra_conditions import (
    NONSPEECH,
    TIMED,
    by_label,
    other_windows,
    tells_speakers,
)
from mmtune.speech.evaluation.items import GENERAL, Item
from mmtune.speech.evaluation.long_form import LONG, PARTS
from mmtune.speech.evaluation.robustness import DEGRADED
from mmtune.speech.evaluation.whole_calls import call_metrics
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import plain_words
from mmtune.speech.whisper.stages import seconds_of

EVERY_ROW = "all recordings"  # the name of a slice: of speech, silence and noise
REAL = "real recordings"  # in the name of a slice: its rows aren't synthetic
WITHOUT_REPEATS = "without repeats"  # in the name of a slice: no model repeats itself in its rows
FEW_OF_GROUP = 10  # a smaller group is too noisy to be part of a gap between groups


def measures(
    items: Sequence[Item],
    seen: set[str],
    unseen: set[str],
    options: SpeechOptions,
    variants: Variants = STRICT,
) -> Iterable[Measure]:
    """Compute every measure that the items allow, in the order of the report.

    Args:
        items: items of all slices.
        seen: terms that training transcripts contain.
        unseen: the other terms.
        options: settings of the comparison.
        variants: other spellings that count as right; strict measures are then added.
    """
    language = options.language
    test = [item for item in items if item.kind == "test"]
    general = [item for item in items if item.kind == GENERAL]
    synthesizers = sorted({item.row.group.get(SYNTHESIZER, "") for item in test} - {""})
    slices = {"": test} if test else {}
    if len(synthesizers) > 1:
        for name in synthesizers:
            slices[f", {name}"] = [i for i in test if i.row.group.get(SYNTHESIZER) == name]
    for suffix, some in slices.items():
        for name, terms in (("seen terms", seen), ("unseen terms", unseen)):
            yield from _recall(f"{name}{suffix}", some, terms, language, variants)
        yield measure(WordErrors(language, variants), f"test{suffix}", some)
        if variants:
            yield _strictly(WordErrors(language), f"test{suffix}", some)
    real = [item for item in test if SYNTHESIZER not in item.row.group]
    if real:
        yield from _recall(f"seen terms, {REAL}", real, seen, language, variants)
    if test:
        yield from _repeats("test", test, WordErrors(language, variants))
        yield measure(CharacterErrors(language), "test", test)
    for name, some in (("test", test), (GENERAL, general)):
        yield from _as_read(name, some, language)
        yield from _confidence(name, some, language)
    insertions = FalseInsertions(seen | unseen, language, variants)
    if test and (seen or unseen):
        yield measure(insertions, "test", test)
        yield from _precision(test, seen | unseen, language, variants)
    if general:
        yield measure(WordErrors(language), GENERAL, general)
        yield from _repeats(GENERAL, general, WordErrors(language))
        if seen or unseen:
            yield measure(insertions, GENERAL, general)
    for kind in sorted({item.kind for item in items if item.kind.startswith(f"{GENERAL}, ")}):
        others = [item for item in items if item.kind == kind]
        yield measure(WordErrors(language), kind, others)
        yield from _repeats(kind, others, WordErrors(language))
    for kind in dict.fromkeys(item.kind for item in items):
        some = [item for item in items if item.kind == kind]
        if (kind == "test" or kind.split(",")[0] == GENERAL) and _tell(some, "heard"):
            yield measure(LanguageAccuracy(language), kind, some)
    words = Remembered(WordErrors(language))  # the same rows are in groups of several labels
    for label, groups in by_label(test).items():
        for value, some in groups.items():
            of_group = measure(words, f"test, {label} {value}", some)
            yield replace(of_group, group=(label, value))
        large = {name: some for name, some in groups.items() if len(some) >= FEW_OF_GROUP}
        if len(large) > 1 and tells_speakers(label, test):
            yield from _groups(f"test, by {label}", large, words)
    for kind in f"test {TIMED}", f"{GENERAL} {TIMED}", other_windows(options):
        if some := [item for item in items if item.kind == kind]:
            yield measure(WordErrors(language), kind, some)
    damaged = [item for item in items if item.kind.startswith(f"{DEGRADED}: ")]
    if damaged:
        yield measure(WordErrors(language), DEGRADED, damaged)
    for kind in dict.fromkeys(item.kind for item in damaged):
        some = [item for item in damaged if item.kind == kind]
        yield measure(WordErrors(language), kind, some)
    for kind in LONG, PARTS:
        if some := [item for item in items if item.kind == kind]:
            yield measure(WordErrors(language), kind, some)
            for metric in start_figures() if kind == LONG else ():
                yield measure(metric, kind, some)
    for of_calls, name, some in call_metrics(items, seen | unseen, options, variants):
        yield measure(of_calls, name, some)
    # Each recording once: some are also heard with times, in noise, or joined to long ones.
    once = [i for i in items if i.kind in ("test", NONSPEECH) or i.kind.split(",")[0] == GENERAL]
    yield from _hurtful(once, options)
    if some := [item for item in items if item.kind == NONSPEECH]:
        yield measure(HallucinatedWords(language), NONSPEECH, some)
    for added in added_metrics("speech") if test else ():
        yield measure(added, "test", test)


def _groups(name: str, groups: dict[str, list[Item]], words: Metric) -> Iterable[Measure]:
    """Measure the worst group before and after, and its distance from the best one."""
    numbers = {item.row.id: n for n, some in enumerate(groups.values()) for item in some}
    members = [item for some in groups.values() for item in some]
    worst = WorstGroup(words, numbers)
    found, names = measure(worst, name, members), list(groups)
    at = {
        model: worst.worst([worst.observe(item.row, item.heard[model]) for item in members])
        for model in ("base", "adapter")
    }
    said = [f"{names[n]} with the {model}" for model, n in at.items() if n is not None]
    yield replace(found, note="; ".join(filter(None, (f"worst: {', '.join(said)}", found.note))))
    yield measure(GroupGap(words, numbers), name, members)


def _repeats(name: str, items: Sequence[Item], words: WordErrors) -> Iterable[Measure]:
    """Measure how often a model repeats itself, and the word errors of the other rows.

    One row that repeats itself can have more errors than a hundred others, so an interval of WER
    over few such rows says little.
    """
    yield measure(Repeats(), name, items)
    left = [
        item
        for item in items
        if not any(repeats(str(each.value), item.row.reference) for each in item.heard.values())
    ]
    if left:
        found = measure(words, f"{name} {WITHOUT_REPEATS}", left)
        out = len(items) - len(left)
        note = f"{out} rows are left out, in which a model repeats itself" if out else ""
        yield replace(found, note="; ".join(filter(None, (note, found.note))))


def _hurtful(items: Sequence[Item], options: SpeechOptions) -> Iterable[Measure]:
    """Measure words that hurt and that nobody said, in speech, silence and noise together."""
    words = hurtful_words(options)
    own = [item for item in items if (item.row.language or options.language) == options.language]
    if words and own:
        yield measure(HurtfulWords(words, options.language), EVERY_ROW, own)


def _recall(
    name: str, items: Sequence[Item], terms: set[str], language: str, variants: Variants
) -> Iterable[Measure]:
    keys = {term_key(term, language) for term in terms}
    if spoken := [item for item in items if item.terms & keys]:
        yield measure(TermRecall(terms, language, variants), name, spoken)
        if variants:
            yield _strictly(TermRecall(terms, language), name, spoken)


def _precision(
    items: Sequence[Item], terms: set[str], language: str, variants: Variants
) -> Iterable[Measure]:
    found = [measure(TermPrecision(terms, language, variants), "test", items)]
    if variants:
        found.append(_strictly(TermPrecision(terms, language), "test", items))
    for each in found:
        if any(math.isfinite(i.value) for i in (each.adapter, *each.references.values())):
            yield each


def _strictly(metric: Metric, name: str, items: Sequence[Item]) -> Measure:
    """Compute a measure for which only the list's own spelling counts."""
    found = measure(metric, name, items)
    return replace(found, metric=f"{found.metric}, strict")


def _confidence(name: str, items: Sequence[Item], language: str) -> Iterable[Measure]:
    """Measure the words' confidence; nothing if a model makes no error."""
    for metric in (ErrorRanking(language), CalibrationError(language), BrierScore(language)):
        if items and _tell(items, "words"):
            found = measure(metric, name, items)
            if math.isfinite(found.difference.value):
                yield found


def _tell(items: Sequence[Item], what: str) -> bool:
    """Whether all predictions have this detail."""
    return all(what in each.details for item in items for each in item.heard.values())


def reliability(items: Sequence[Item], language: str) -> dict[str, list[Bin]]:
    """Compute bins of word confidence of the test items by model, for a reliability diagram."""
    test = [item for item in items if item.kind == "test"]
    if not test or not _tell(test, "words"):
        return {}
    metric = CalibrationError(language)
    return {
        model: metric.bins([metric.observe(item.row, item.heard[model]) for item in test])
        for model in test[0].heard
    }


def measured_on(items: Sequence[Item]) -> str:
    """Say on what the main measures rest: how many recordings, of whom."""
    test = [item for item in items if item.kind == "test"]
    if not test:
        return ""
    made = sum(SYNTHESIZER in item.row.group for item in test)
    if made == len(test):
        return "Measured on synthetic voices only."
    if made:
        return f"Measured on {len(test)} recordings, {made} of them of synthetic voices."
    speakers = len({item.row.speaker for item in test} - {None})
    whose = (
        "" if not speakers else " of one speaker" if speakers == 1 else f" of {speakers} speakers"
    )
    one = "one real recording" if len(test) == 1 else f"{len(test):,} real recordings"
    return f"Measured on {one}{whose}."


def speed_of(items: Sequence[Item]) -> dict[str, float]:
    """Compute seconds of audio per second of computing on the test items, by model.

    Models share the encoding of a clip, and each counts all of it. Models also share batches, and
    each counts its share. Adapters in the encoder's top layers cost more, and so do long texts.
    """
    test = [item for item in items if item.kind == "test"]
    found: dict[str, float] = {}
    for model in test[0].heard if test else ():
        timed = [item for item in test if item.heard[model].seconds]
        if timed:
            sound = sum(seconds_of(item.row) for item in timed)
            found[model] = sound / sum(item.heard[model].seconds for item in timed)
    return found


def seconds_of_item(items: Sequence[Item]) -> float | None:
    """Mean computing time of a row with base and adapter; None if no row was timed."""
    timed = [
        sum(item.heard[model].seconds or 0.0 for model in ("base", "adapter"))
        for item in items
        if item.kind in ("test", GENERAL)
    ]
    timed = [seconds for seconds in timed if seconds]
    return sum(timed) / len(timed) if timed else None


def _as_read(name: str, items: Sequence[Item], language: str) -> Iterable[Measure]:
    """Measure what normalized WER ignores: case, punctuation, and critical words."""
    if items and is_formatted([item.row.reference for item in items]):
        yield measure(FormattedWordErrors(language), name, items)
    for kind in (None, *KINDS):
        metric = CriticalErrors(language, kind)
        if any(metric.occurs(item.row, each) for item in items for each in item.heard.values()):
            yield measure(metric, name, items)


def measure(metric: Metric, name: str, items: Sequence[Item]) -> Measure:
    """Compute one metric on one slice: base, adapter, their paired difference, other systems."""
    stats = {
        model: [metric.observe(item.row, item.heard[model]) for item in items]
        for model in items[0].heard
        if all(model in item.heard for item in items)  # other ways answer the test rows alone
    }
    ways = _clusterings(items)
    base, adapter, gap = _paired(stats["base"], stats["adapter"], metric, ways)
    control, notes = None, []
    if "control" in stats:
        control, _, beyond = _paired(stats["control"], stats["adapter"], metric, ways)
        notes.append(f"beyond the control: {signed(beyond)}")
    beside: dict[str, Interval] = {}
    gained: dict[str, Interval] = {}
    beyond_it: dict[str, Interval] = {}
    for model in sorted(stats.keys() - {"base", "adapter", "control"}):
        _, beside[model], gained[model] = _paired(stats["base"], stats[model], metric, ways)
        _, _, beyond_it[model] = _paired(stats[model], stats["adapter"], metric, ways)
    if len(ways) > 1:
        kinds = sorted({label[0] for way in ways for label in way if isinstance(label, tuple)})
        crossing = " and ".join(f"{kind}s" for kind in kinds)
        notes.append(f"{crossing} cross: the interval is the wider one of both resamplings")
    few, p = "", None
    units = [_unit(item) for item in items]
    [(kind, _)] = Counter(unit[0] for unit in units).most_common(1)
    own = [place for place, unit in enumerate(units) if unit[0] == kind]
    if (count := len({units[place] for place in own})) < ENOUGH_CLUSTERS:
        first, second = ([stats[m][place] for place in own] for m in ("base", "adapter"))
        p = sign_flip(by_cluster(first, second, metric.reduce, [units[place] for place in own]))
        few = f"not enough {kind}s ({count} of {ENOUGH_CLUSTERS})"
        if count == 1:
            notes.append(f"{few}: the interval covers this {kind}'s items, and no other {kind}")
        else:
            notes.append(few if p is None else f"{few}; a sign-flip test of them gives p = {p:.2g}")
    return Measure(
        metric.name,
        name,
        len(items),
        base,
        adapter,
        gap,
        metric.higher_is_better,
        "; ".join(notes),
        control,
        references=beside,
        few=few,
        p=p,
        units=count,
        enough=ENOUGH_CLUSTERS if kind == "speaker" else 0,
        counts={m: found for m, own in stats.items() if (found := counts_of(metric, own))},
        gained=gained,
        beyond=beyond_it,
    )


def _paired(
    first: Sequence[Stat],
    second: Sequence[Stat],
    metric: Metric,
    ways: Sequence[Sequence[Hashable]],
) -> tuple[Interval, ...]:
    """Bootstrap two models and their difference; the widest interval of all resamplings counts."""
    pin = pin_of(metric)
    found = [
        paired_bootstrap(first, second, metric.reduce, clusters=labels, pin=pin) for labels in ways
    ]
    widest = [reduce(wider, each) for each in zip(*found, strict=True)]
    if getattr(metric, "rare", False):
        rare = [rare_difference(first, second, labels) for labels in ways]
        widest[2] = reduce(wider, filter(None, rare), widest[2])
    return tuple(widest)


def _clusterings(items: Sequence[Item]) -> list[list[Hashable]]:
    """Return the items' clusters, and a second clustering if speakers and sentences cross.

    The second clustering needs enough clusters: a bootstrap over four voices is meaningless. If all
    items are of one cluster, each is its own: resampling one cluster always gives the same value.
    """
    own: list[Hashable] = [item.cluster for item in items]
    if len(set(own)) < 2:
        return [list(range(len(items)))]
    others = [_other(item) for item in items]
    enough = len(set(others)) >= FEW_SPEAKERS
    return [own, others] if enough and crossed(own, others) else [own]


def _other(item: Item) -> Hashable:
    kind = item.cluster[0] if isinstance(item.cluster, tuple) else ""
    speaker = item.row.speaker
    if kind == "speaker":
        return "sentence", plain_words(item.row.reference)
    return ("speaker", speaker) if speaker and kind in ("sentence", "term") else item.cluster


def _unit(item: Item) -> tuple[str, Hashable]:
    """Return the independent unit of an item: the speaker, even if there are few speakers."""
    kind = item.cluster[0] if isinstance(item.cluster, tuple) else "recording"
    if kind == "sentence" and (speaker := item.row.speaker):
        return "speaker", speaker
    return str(kind), item.cluster


def signed(interval: Interval) -> str:
    """Format a difference with its confidence interval, with signs."""
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
