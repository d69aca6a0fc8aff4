"""Compare base, adapter and an optional control: terms, word errors, general speech."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtune.adapters.card import adapter_folder, weights_hash
from mmtune.adapters.switch import MARKER
from mmtune.config import RunConfig
from mmtune.data.dataset import Dataset
from mmtune.evaluation.answers import StoredPredictor
from mmtune.evaluation.comparison import Comparison
from mmtune.evaluation.parallel import Wrap
from mmtune.evaluation.two_bases import TwoBases
from mmtune.metrics.bootstrap import FEW_SPEAKERS
from mmtune.metrics.measure import Measure
from mmtune.metrics.text.term_finder import TermFinder
from mmtune.speech.corpus.retention import retention_rows
from mmtune.speech.evaluation.examples import examples, write_predictions
from mmtune.speech.evaluation.extra_conditions import PROBED, probes
from mmtune.speech.evaluation.items import GENERAL, Active, Item, hear
from mmtune.speech.evaluation.long_form import LONG, LongForm, long_form
from mmtune.speech.evaluation.measures import (
    measured_on,
    measures,
    reliability,
    seconds_of_item,
    speed_of,
)
from mmtune.speech.evaluation.robustness import degraded
from mmtune.speech.evaluation.term_baselines import alternatives, beside, heard_beside
from mmtune.speech.evaluation.term_slices import divide_terms, read_variants, spoken_terms
from mmtune.speech.evaluation.whole_calls import CALLS, whole_calls
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow, speech_rows
from mmtune.speech.transcription.predictor import SpeechPredictor
from mmtune.speech.whisper.base import load_for
from mmtune.speech.whisper.decode import SPOKEN, DecodeOptions
from mmtune.system.hashing import hash_json
from mmtune.system.precision import choose_precision
from mmtune.system.processes import this_process

OTHER = "other"  # name of the adapter in the base's place
ROWS_PER_CHUNK = 64  # number of rows that are decoded before their transcripts are stored
PREDICTIONS = "predictions.jsonl"
ANSWER_VERSION = 2  # raised when stored answers get more details, so that old ones aren't used


def compare(
    config: RunConfig,
    dataset: Dataset,
    folder: Path,
    max_ids: int = SPOKEN,
    *,
    other: Path | None = None,
    other_base: str | None = None,
) -> Comparison | None:
    """Transcribe test rows and retention rows with base, adapter and control, and compare them.

    Args:
        config: configuration of the run; `task.control` and `task.retention` are optional.
        dataset: its test rows are scored; terms of its training rows count as seen.
        folder: folder of the run, with adapter/; gets predictions.jsonl. Transcripts in its
            answers.jsonl aren't computed again.
        max_ids: largest number of ids of a transcript of 30 s.
        other: folder of another adapter, which takes the base's place.
        other_base: the base of `other`; None: that of the run.

    Returns:
        None in processes that only decode, see `mmtune.evaluation.parallel`.

    Raises:
        MmtuneError: an adapter, the term list or the retention manifest can't be used.
    """
    options = config.task
    assert isinstance(options, SpeechOptions)
    if other is not None:
        options = options.model_copy(update={"control": None, "beside": ()})
    test = speech_rows(dataset.split("test"))
    if not test and options.calls is None:
        return Comparison("speech", [], f"speech   {config.name}   not measured: no test rows")
    seen, unseen = divide_terms(options, dataset)
    pair = None if other is None else (other, other_base or config.base)
    predictor, active = _models(config, options, folder, seen | unseen, max_ids, pair)
    with predictor.asking() as main:
        if not main:
            return None
        items = _items(predictor, active, test, seen | unseen, options)
        items += probes(predictor, active, items, options, folder)
        items += degraded(predictor, active, items, options, folder)
        items += long_form(predictor, active, items, options, folder)
        variants = read_variants(options)
        items += whole_calls(predictor, active, seen | unseen, options, variants)
    path = folder / PREDICTIONS
    write_predictions(path, items)
    found = list(measures(items, seen, unseen, options, variants))
    return Comparison(
        modality="speech",
        measures=found,
        headline=headline(config.name, found),
        examples=examples(items, seen, options),
        files={"predictions": path},
        tables=variants.tables(),
        speed=speed_of(items),
        seconds=seconds_of_item(items),
        measured_on=measured_on(items),
        alternatives=alternatives(config.base, options),
        use={
            "Use it": "mmtune transcribe --adapter {run} RECORDINGS",
            "Export it": "mmtune export {run} --format ctranslate2 --out model",
        },
        calibration=reliability(items, options.language),
    )


def _items(
    predictor: StoredPredictor[SpeechPredictor],
    active: Active,
    test: Sequence[SpeechRow],
    scored: Collection[str],
    options: SpeechOptions,
) -> list[Item]:
    """Transcribe the test rows and the retention rows with each model."""
    general = retention_rows(options)
    rows = [*test, *general]
    heard = hear(predictor, active, rows)
    for place, more in enumerate(heard_beside(predictor, options, scored, test)):
        heard[place] |= more
    terms = TermFinder(scored, options.language, read_variants(options).table)
    clusters = [*_clusters(test, terms, options), *_clusters(general, terms, options)]
    return [
        Item(
            row=row,
            heard=heard[place],
            cluster=clusters[place],
            terms=frozenset(spoken_terms(terms, row, options)),
            kind="test" if place < len(test) else _general_kind(row, options),
        )
        for place, row in enumerate(rows)
    ]


def _general_kind(row: SpeechRow, options: SpeechOptions) -> str:
    language = row.language or options.language
    return GENERAL if language == options.language else f"{GENERAL}, {language}"


def headline(name: str, measures: Sequence[Measure]) -> str:
    """Summarize a comparison in one line: base → adapter, difference and confidence interval."""
    found = {(m.metric, m.slice): m for m in measures}
    parts = ["speech", name]
    for key, label in (
        (("term recall", "seen terms"), "term recall"),
        (("WER", "test"), "WER"),
        (("term recall", "unseen terms"), "unseen terms"),
        (("cpWER", CALLS), "cpWER of calls"),
        (("term recall", CALLS), "term recall in calls"),
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


def _models(
    config: RunConfig,
    options: SpeechOptions,
    folder: Path,
    terms: Collection[str],
    max_ids: int = SPOKEN,
    other: tuple[Path, str] | None = None,
) -> tuple[StoredPredictor[Any], Active]:
    """Prepare the models; they are loaded only if an answer is missing in `folder`.

    Args:
        other: folder and base of another adapter.
    """
    adapters = {"adapter": folder / "adapter"}
    if options.control is not None:
        adapters["control"] = options.control
    active: Active = {"base": {}} | {name: {name: 1.0} for name in adapters}
    if other is not None:
        adapters[OTHER] = other[0]
        active = {"base": {OTHER: 1.0}, "adapter": {"adapter": 1.0}}
    apart = other is not None and other[1] != config.base
    search = DecodeOptions(beams=options.beams, max_new_tokens=max_ids)

    def opened() -> SpeechPredictor | TwoBases[SpeechPredictor]:
        if other is None or not apart:
            return loaded(config.base, adapters)
        first = loaded(config.base, {n: path for n, path in adapters.items() if n != OTHER})
        return TwoBases(first, loaded(other[1], {OTHER: other[0]}), OTHER)

    def loaded(base: str, some: Mapping[str, Path]) -> SpeechPredictor:
        return SpeechPredictor(
            load_for(base, config.train.precision),
            some,
            windows=options.score_windows,
            options=search,
            language=options.language,
        )

    fingerprint = hash_json(
        {
            "tells": ANSWER_VERSION,
            "base": config.base,  # the adapter's card checks the weights of the base
            "adapters": {
                name: weights_hash(adapter_folder(path, MARKER)) for name, path in adapters.items()
            },
            "precision": choose_precision(config.train.precision, this_process().device),
            "windows": options.score_windows,
            "options": vars(search),
            "language": options.language,
        }
        | ({"other base": other[1]} if other is not None and apart else {})
    )
    variants: dict[str, Wrap[Any]] = {**PROBED, LONG: LongForm, **beside(options, terms)}
    if apart:
        variants = {name: _on_both(wrap) for name, wrap in variants.items()}
    chunk = ROWS_PER_CHUNK * len(active)
    return StoredPredictor(folder, fingerprint, opened, chunk=chunk, variants=variants), active


def _on_both(wrap: Wrap[SpeechPredictor]) -> Wrap[TwoBases[SpeechPredictor]]:
    """A variant of both models of a pair."""
    return lambda pair: TwoBases(wrap(pair.first), wrap(pair.second), pair.name)


def _clusters(
    rows: Sequence[SpeechRow], finder: TermFinder, options: SpeechOptions
) -> list[Hashable]:
    """Choose what is resampled together: the rows of a term, of a speaker, or of a sentence."""
    speakers = {row.speaker for row in rows} - {None}
    by_speaker = len(speakers) >= FEW_SPEAKERS

    def cluster(row: SpeechRow) -> Hashable:
        terms = sorted(spoken_terms(finder, row, options))
        if terms:
            return "term", terms[0]
        speaker = row.speaker if by_speaker else None
        return ("speaker", speaker) if speaker else ("sentence", row.reference)

    return [cluster(row) for row in rows]
