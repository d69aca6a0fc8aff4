"""Base against adapter, and a control if there is one: terms, word errors, other speech."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mmtune.adapters.card import adapter_folder, weights_hash
from mmtune.config import RunConfig
from mmtune.data.check import Dataset, check
from mmtune.data.rows import Row
from mmtune.evaluate.compare import Comparison, Measure
from mmtune.evaluate.stored import StoredPredictor
from mmtune.hashing import hash_json, hash_text
from mmtune.metrics.bootstrap import (
    ENOUGH_CLUSTERS,
    Interval,
    bootstrap,
    by_cluster,
    paired_bootstrap,
    sign_flip,
)
from mmtune.metrics.critical import KINDS, CriticalErrors
from mmtune.metrics.formatted import FormattedWordErrors, is_formatted
from mmtune.metrics.gap import GroupGap
from mmtune.metrics.hallucination import HallucinatedWords
from mmtune.metrics.terms import FalseInsertions, TermCounter, TermRecall
from mmtune.metrics.wer import CharacterErrors, WordErrors
from mmtune.modality import find_modality
from mmtune.predict import Metric
from mmtune.speech.decode import SPOKEN, DecodeOptions
from mmtune.speech.heard import GENERAL, Active, Item, hear
from mmtune.speech.kept import examples, write_predictions
from mmtune.speech.lora import MARKER
from mmtune.speech.normalize import normalize
from mmtune.speech.options import SpeechOptions
from mmtune.speech.predictor import SpeechPredictor
from mmtune.speech.probes import NONSPEECH, TIMED, by_label, other_windows, probes
from mmtune.speech.terms import find_terms, read_terms

FEW_SPEAKERS = 10  # fewer give no interval of speakers: sentences are resampled instead
FEW_OF_GROUP = 10  # a smaller group's figure is noise: no gap is taken to it
AT_ONCE = 64  # rows that are decoded before their transcripts are written down
PREDICTIONS = "predictions.jsonl"


def compare(config: RunConfig, dataset: Dataset, folder: Path) -> Comparison:
    """Decode the test rows and the retention rows freely with base, adapter and control.

    Args:
        config: of the run; `task.control` and `task.retention` are optional.
        dataset: its test rows are scored; its training rows say which terms are seen.
        folder: of the run; holds adapter/ and gets predictions.jsonl. Transcripts in its
            answers.jsonl aren't decoded again.

    Raises:
        MmtuneError: an adapter, the term list or the retention manifest can't be used.
    """
    options = config.task
    assert isinstance(options, SpeechOptions)
    test = dataset.split("test")
    if not test:
        return Comparison("speech", [], f"speech   {config.name}   not measured: no test rows")
    seen, unseen = divide_terms(options, dataset)
    general = retention_rows(options)
    predictor, active = _asked(config, options, folder)
    heard = hear(predictor, active, [*test, *general])
    everything = TermCounter(seen | unseen, options.language)
    clusters = [
        *_clusters(test, everything, options), *_clusters(general, everything, options)
    ]  # fmt: skip
    items = [
        Item(
            row=row,
            heard=heard[place],
            cluster=clusters[place],
            terms=frozenset(_spoken(everything, row, options)),
            kind="test" if place < len(test) else _general_kind(row, options),
        )
        for place, row in enumerate([*test, *general])
    ]
    items += probes(predictor, active, items, options, folder)
    path = folder / PREDICTIONS
    write_predictions(path, items)
    measures = list(_measures(items, seen, unseen, options))
    return Comparison(
        modality="speech",
        measures=measures,
        headline=headline(config.name, measures),
        examples=examples(items, seen, options),
        files={"predictions": path},
    )


def divide_terms(options: SpeechOptions, dataset: Dataset) -> tuple[set[str], set[str]]:
    """Terms that a training transcript holds, and the others: by what was trained, not by a list.

    They are those of the term list and those that rows name.
    """
    named = {str(term) for row in dataset.rows for term in getattr(row, "terms", ())}
    if options.terms is not None:
        path = find_terms(options.terms)
        named |= {term.text for term in read_terms(path, options.language)}
    by_key = {normalize(term, options.language): term for term in sorted(named)}
    counter = TermCounter(named, options.language)
    trained = {
        by_key[key] for row in dataset.split("train") for key in _spoken(counter, row, options)
    }
    return trained, set(by_key.values()) - trained


def retention_rows(
    options: SpeechOptions, part: Literal["test", "validation"] = "test"
) -> list[Row]:
    """`task.retention_rows` or fewer of each language in the retention manifest, always the same.

    Args:
        part: "test" is what `compare` scores; "validation" are others.

    Raises:
        DataError: it can't be used.
    """
    if options.retention is None:
        return []
    found = check(options.retention, find_modality("speech")).rows
    languages: dict[str, list[Row]] = {}
    for row in sorted(found, key=lambda row: hash_text(row.id)):
        languages.setdefault(getattr(row, "language", None) or options.language, []).append(row)
    most = options.retention_rows
    start = 0 if part == "test" else most
    return [row for rows in languages.values() for row in rows[start : start + most]]


def _general_kind(row: Row, options: SpeechOptions) -> str:
    language = getattr(row, "language", None) or options.language
    return GENERAL if language == options.language else f"{GENERAL}, {language}"


def headline(name: str, measures: Sequence[Measure]) -> str:
    """One line: base → adapter, and the difference with its interval."""
    found = {(m.metric, m.slice): m for m in measures}
    parts = ["speech", name]
    for key, label in (
        (("term recall", "seen terms"), "term recall"),
        (("WER", "test"), "WER"),
        (("term recall", "unseen terms"), "unseen terms"),
        (("WER", GENERAL), f"{GENERAL} WER"),
    ):
        measure = found.get(key)
        if measure is not None:
            control = measure.control
            beside = f" (control {control.value:.3f})" if control and key[0] != "WER" else ""
            gap = measure.difference
            parts.append(
                f"{label} {measure.base.value:.3f} → {measure.adapter.value:.3f}{beside}, "
                f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
            )
        elif key[1] == GENERAL:
            parts.append(f"{GENERAL} not measured")
    return "   ".join(parts)


def _asked(
    config: RunConfig, options: SpeechOptions, folder: Path
) -> tuple[StoredPredictor[SpeechPredictor], Active]:
    """The models, which are loaded only if an answer is missing in `folder`."""
    adapters = {"adapter": folder / "adapter"}
    if options.control is not None:
        adapters["control"] = options.control
    active: Active = {"base": {}} | {name: {name: 1.0} for name in adapters}
    search = DecodeOptions(beams=options.beams, max_new_tokens=SPOKEN)

    def opened() -> SpeechPredictor:
        return SpeechPredictor(
            config.base,
            adapters,
            windows=options.score_windows,
            options=search,
            language=options.language,
        )

    fingerprint = hash_json(
        {
            "base": config.base,  # its weights are those that the adapter was trained on
            "adapters": {
                name: weights_hash(adapter_folder(path, MARKER)) for name, path in adapters.items()
            },
            "windows": options.score_windows,
            "options": vars(search),
            "language": options.language,
        }
    )
    chunk = AT_ONCE * len(active)
    return StoredPredictor(folder, fingerprint, opened, chunk=chunk), active


def _spoken(counter: TermCounter, row: Row, options: SpeechOptions) -> Iterable[str]:
    language = getattr(row, "language", None) or options.language
    return counter.count(normalize(row.reference, language))


def _clusters(rows: Sequence[Row], counter: TermCounter, options: SpeechOptions) -> list[Hashable]:
    """What is resampled as a whole: a term's rows, a speaker's, or a sentence's."""
    speakers = {getattr(row, "speaker", None) for row in rows} - {None}
    by_speaker = len(speakers) >= FEW_SPEAKERS

    def cluster(row: Row) -> Hashable:
        terms = sorted(_spoken(counter, row, options))
        if terms:
            return "term", terms[0]
        speaker = getattr(row, "speaker", None) if by_speaker else None
        return ("speaker", speaker) if speaker else ("sentence", row.reference)

    return [cluster(row) for row in rows]


def _measures(
    items: Sequence[Item], seen: set[str], unseen: set[str], options: SpeechOptions
) -> Iterable[Measure]:
    language = options.language
    test = [item for item in items if item.kind == "test"]
    general = [item for item in items if item.kind == GENERAL]
    synthesizers = sorted({item.row.group.get("synthesizer", "") for item in test} - {""})
    slices = {"": test}
    if len(synthesizers) > 1:
        for name in synthesizers:
            slices[f", {name}"] = [i for i in test if i.row.group.get("synthesizer") == name]
    for suffix, some in slices.items():
        for name, terms in (("seen terms", seen), ("unseen terms", unseen)):
            keys = {normalize(term, language) for term in terms}
            spoken = [item for item in some if item.terms & keys]
            if spoken:
                yield _measure(TermRecall(terms, language), f"{name}{suffix}", spoken)
        yield _measure(WordErrors(language), f"test{suffix}", some)
    yield _measure(CharacterErrors(language), "test", test)
    for name, some in (("test", test), (GENERAL, general)):
        yield from _as_read(name, some, language)
    insertions = FalseInsertions(seen | unseen, language)
    if seen or unseen:
        yield _measure(insertions, "test", test)
    if general:
        yield _measure(WordErrors(language), GENERAL, general)
        if seen or unseen:
            yield _measure(insertions, GENERAL, general)
    for kind in sorted({item.kind for item in items if item.kind.startswith(f"{GENERAL}, ")}):
        others = [item for item in items if item.kind == kind]
        yield _measure(WordErrors(language), kind, others)
    for label, groups in by_label(test).items():
        for value, some in groups.items():
            of_group = _measure(WordErrors(language), f"test, {label} {value}", some)
            yield replace(of_group, group=(label, value))
        large = [some for some in groups.values() if len(some) >= FEW_OF_GROUP]
        if len(large) > 1:
            numbers = {item.row.id: n for n, some in enumerate(large) for item in some}
            gap = GroupGap(WordErrors(language), numbers)
            members = [item for some in large for item in some]
            yield _measure(gap, f"test, by {label}", members)
    for kind in TIMED, f"{GENERAL} {TIMED}", other_windows(options):
        if some := [item for item in items if item.kind == kind]:
            yield _measure(WordErrors(language), kind, some)
    if some := [item for item in items if item.kind == NONSPEECH]:
        yield _measure(HallucinatedWords(language), NONSPEECH, some)


def _as_read(name: str, items: Sequence[Item], language: str) -> Iterable[Measure]:
    """What normalized WER hides: case and punctuation, and the words that a reader acts upon."""
    if items and is_formatted([item.row.reference for item in items]):
        yield _measure(FormattedWordErrors(language), name, items)
    for kind in (None, *KINDS):
        metric = CriticalErrors(language, kind)
        if any(metric.occurs(item.row, each) for item in items for each in item.heard.values()):
            yield _measure(metric, name, items)


def _measure(metric: Metric, name: str, items: Sequence[Item]) -> Measure:
    clusters = [item.cluster for item in items]
    stats = {
        model: [metric.observe(item.row, item.heard[model]) for item in items]
        for model in items[0].heard
    }
    base, adapter, gap = paired_bootstrap(
        stats["base"], stats["adapter"], metric.reduce, clusters=clusters
    )
    control, note = None, ""
    if "control" in stats:
        control = bootstrap(stats["control"], metric.reduce, clusters=clusters)
        beyond = paired_bootstrap(
            stats["control"], stats["adapter"], metric.reduce, clusters=clusters
        )[2]
        note = f"beyond the control: {_signed(beyond)}"
    few, p = "", None
    units = [_unit(item) for item in items]
    if 1 < (count := len(set(units))) < ENOUGH_CLUSTERS:
        p = sign_flip(by_cluster(stats["base"], stats["adapter"], metric.reduce, units))
        [(kind, _)] = Counter(unit[0] for unit in units).most_common(1)
        few = f"not enough {kind}s ({count} of {ENOUGH_CLUSTERS})"
        told = few if p is None else f"{few}; over them a sign-flip test gives p = {p:.2g}"
        note = f"{note}; {told}" if note else told
    return Measure(
        metric.name,
        name,
        len(items),
        base,
        adapter,
        gap,
        metric.higher_is_better,
        note,
        control,
        few=few,
        p=p,
    )


def _unit(item: Item) -> tuple[str, Hashable]:
    """What is independent of all others: a speaker, even where there are too few to resample."""
    kind = item.cluster[0] if isinstance(item.cluster, tuple) else "recording"
    if kind == "sentence" and (speaker := getattr(item.row, "speaker", None)):
        return "speaker", speaker
    return str(kind), item.cluster


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
