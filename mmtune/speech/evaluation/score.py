"""`mmtune.score`: word errors of the transcripts that any system wrote, without a model."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.data.rows import Row
from mmtune.errors import DataError, shortened
from mmtune.metrics.bootstrap import ENOUGH_CLUSTERS, FEW_SPEAKERS, Interval, bootstrap, pin_of
from mmtune.metrics.metric import Metric, Stat
from mmtune.metrics.rare import NO_EVENT_END
from mmtune.metrics.text.critical_errors import KINDS, CriticalErrors
from mmtune.metrics.text.formatted import FormattedWordErrors, is_formatted
from mmtune.metrics.text.language_code import known_language
from mmtune.metrics.text.term_recall import FalseInsertions, TermPrecision, TermRecall
from mmtune.metrics.text.variants import STRICT, Variants
from mmtune.metrics.text.wer import CharacterErrors, WordErrors
from mmtune.predict import Prediction
from mmtune.speech.corpus.term_list import find_terms, read_terms
from mmtune.speech.corpus.text_tables import HYPOTHESES, REFERENCES, TextRow, pair, read_texts
from mmtune.speech.evaluation.label_groups import group_by_labels
from mmtune.speech.speech_row import DESCRIPTIVE, plain_words
from mmtune.system.display import Displayed, Rows
from mmtune.system.quiet import public_call

ALL = "all rows"
LANGUAGE = ("language", "lang", "locale")
SPEAKER = ("speaker", "speaker_id", "client_id", "spk")


@dataclass(frozen=True)
class ScoredFigure:
    """A metric on some of the rows.

    Attributes:
        metric: its name.
        slice: which rows: all, or those of a group.
        items: number of rows.
        value: the figure with its 95 % confidence interval; ends that aren't defined are NaN.
        note: what the interval doesn't cover.
    """

    metric: str
    slice: str
    items: int
    value: Interval
    note: str = ""


@dataclass(frozen=True)
class Score(Displayed):
    """How well transcripts match their references.

    Attributes:
        words: spoken words of all rows.
        substitutions: words that are written wrongly.
        deletions: words that are missing.
        insertions: words that nobody said.
        figures: WER first, then the other metrics and the groups.
        notes: how rows were paired, and what is missing.
    """

    words: int
    substitutions: int
    deletions: int
    insertions: int
    figures: tuple[ScoredFigure, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def errors(self) -> int:
        """All wrong words: substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        wer = self.figures[0].value
        if not math.isfinite(wer.value):
            return f"WER is not defined: the references hold no words; {self.insertions} were added"
        return (
            f"WER {_with_interval(wer)}: {self.errors:,} wrong for {self.words:,} spoken words "
            f"({self.substitutions:,} replaced, {self.deletions:,} missing, "
            f"{self.insertions:,} added)"
        )

    def shown(self) -> Iterable[str | Rows]:
        """Show the result in one sentence, a table of all figures, and notes."""
        head = ["metric", "on", "items", "value [95 % interval]"]
        rows = [[f.metric, f.slice, str(f.items), _with_interval(f.value)] for f in self.figures]
        notes = dict.fromkeys([*self.notes, *(f.note for f in self.figures if f.note)])
        return [self.sentence, [head, *rows], *(f"note: {note}" for note in notes)]


class ScoredRow(Row):
    """A reference, as the metrics read it."""

    text: str
    speaker: str | None = None
    language: str | None = None
    duration_s: float | None = None

    @property
    def reference(self) -> str:
        """What was spoken."""
        return self.text


@public_call("score")
def score(
    references: str | Path,
    hypotheses: str | Path,
    *,
    terms: str | Path | None = None,
    language: str = "en",
    column: str | None = None,
    encoding: str | None = None,
) -> Score:
    """Compare the transcripts of any system with references, without a model.

    Both are files of one kind or of two: a .txt with one text a line; JSON lines, CSV, TSV or
    parquet; a folder of .txt files. Rows are paired by id, by recording, or by order.

    Args:
        references: what was spoken. Labels of its rows (accent, gender, `group` …) give groups,
            `speaker` gives the interval, `language` the rules of the language.
        hypotheses: what the system wrote.
        terms: a term list, for recall and precision of terms.
        language: of rows that name none: a name, code or tag.
        column: the column of the transcripts, if it has an unusual name.
        encoding: of text files and tables; None: UTF-8, or that of a byte order mark.

    Raises:
        DataError: a file can't be read, a row is wrong, or a reference has no transcript.
        ConfigError: the term list can't be used.
    """
    first, second = Path(references), Path(hypotheses)
    spoken = read_texts(first, REFERENCES, encoding=encoding)
    written = read_texts(second, HYPOTHESES, column=column, encoding=encoding)
    code = _code(language, "--language")
    pairs, notes = pair(spoken, written, first, second)
    rows = [_row(place, reference, first) for place, (reference, _) in enumerate(pairs)]
    answers = [Prediction(r.id, h.text) for r, (_, h) in zip(rows, pairs, strict=True)]
    listed, variants = set[str](), STRICT
    if terms is not None:
        found = read_terms(find_terms(Path(terms)), code)
        listed = {term.text for term in found}
        variants = Variants({term.text: term.variants for term in found}, code)
    words = WordErrors(code, variants)
    counts = [words.observe(r, a) for r, a in zip(rows, answers, strict=True)]
    substitutions, deletions, insertions, total = (int(n) for n in np.sum(counts, axis=0))
    figures = list(_figures(words, counts, rows, answers, code, listed))
    if listed and not any(figure.metric == TermRecall.name for figure in figures):
        notes.append(f"no term of {terms} is spoken in {first}")
    return Score(total, substitutions, deletions, insertions, tuple(figures), tuple(notes))


def _figures(
    words: WordErrors,
    counts: Sequence[Stat],
    rows: Sequence[ScoredRow],
    answers: Sequence[Prediction],
    language: str,
    terms: set[str],
) -> Iterable[ScoredFigure]:
    """All figures; `counts` are the word errors of each row."""
    variants = words.variants
    yield _with_stats(words, ALL, rows, counts)
    yield _figure(CharacterErrors(language, variants), ALL, rows, answers)
    if is_formatted([row.text for row in rows]):
        yield _figure(FormattedWordErrors(language), ALL, rows, answers)
    if terms:
        for of_terms in (TermRecall, TermPrecision, FalseInsertions):
            metric = of_terms(terms, language, variants)
            figure = _figure(metric, ALL, rows, answers)
            if math.isfinite(figure.value.value):
                yield figure
    for kind in (None, *KINDS):
        critical = CriticalErrors(language, kind)
        if any(critical.occurs(row, each) for row, each in zip(rows, answers, strict=True)):
            yield _figure(critical, ALL, rows, answers)
    for label, groups in group_by_labels([row.group for row in rows]).items():
        for value, places in groups.items():
            some = [rows[i] for i in places]
            yield _with_stats(words, f"{label} {value}", some, [counts[i] for i in places])


def _figure(
    metric: Metric, name: str, rows: Sequence[ScoredRow], answers: Sequence[Prediction]
) -> ScoredFigure:
    """One metric; rows in which nothing of it occurs don't count as items of recall."""
    stats = [metric.observe(row, each) for row, each in zip(rows, answers, strict=True)]
    if isinstance(metric, TermRecall):
        kept = [i for i, each in enumerate(stats) if each[1]]
        rows, stats = [rows[i] for i in kept], [stats[i] for i in kept]
    return _with_stats(metric, name, rows, stats)


def _with_stats(
    metric: Metric, name: str, rows: Sequence[ScoredRow], stats: Sequence[Stat]
) -> ScoredFigure:
    value, note = _interval(metric, rows, stats)
    return ScoredFigure(metric.name, name, len(rows), value, note)


def _interval(
    metric: Metric, rows: Sequence[ScoredRow], stats: Sequence[Stat]
) -> tuple[Interval, str]:
    speakers = {row.speaker for row in rows if row.speaker}
    by_speaker = len(speakers) >= FEW_SPEAKERS
    clusters: list[Hashable] = [
        ("speaker", row.speaker)
        if by_speaker and row.speaker
        else ("sentence", plain_words(row.text))
        for row in rows
    ]
    note = ""
    if speakers and len(speakers) < ENOUGH_CLUSTERS:
        people = "1 speaker" if len(speakers) == 1 else f"{len(speakers)} speakers"
        note = f"{people} of at least {ENOUGH_CLUSTERS}: an interval covers these people's "
        note += "sentences, and says little about others"
    found = bootstrap(stats, metric.reduce, clusters=clusters, pin=pin_of(metric))
    if len(set(clusters)) < 2:  # resampling one cluster always gives the same value
        return Interval(found.value, math.nan, math.nan), note
    if getattr(metric, "rare", False) and found.high == 0:
        # No event in n rows: the interval has no width, and 3 / n is its upper end.
        return Interval(0.0, 0.0, NO_EVENT_END / len(rows)), note
    return found, note


def _row(place: int, reference: TextRow, path: Path) -> ScoredRow:
    fields = reference.fields
    group = fields.get("group")
    labels = {
        label: fields[column]
        for label in DESCRIPTIVE
        for column in (f"{label}s", label)  # Common Voice: accents
        if column in fields
    }
    labels |= group if isinstance(group, dict) else {}
    language, speaker = _first(fields, LANGUAGE), _first(fields, SPEAKER)
    return ScoredRow(
        id=next(iter(reference.names.values()), f"line {place + 1}"),
        text=reference.text,
        speaker=speaker,
        language=_code(language, f"{path}, {reference.where}: language") if language else None,
        group={str(key): text for key, value in labels.items() if (text := _text(value))},
    )


def _first(fields: Mapping[str, Any], names: Iterable[str]) -> str | None:
    return next((text for name in names if (text := _text(fields.get(name)))), None)


def _text(value: Any) -> str | None:
    return str(value).strip() or None if isinstance(value, str | int | float) else None


def _code(language: str, where: str) -> str:
    try:
        return known_language(language)
    except ValueError as error:
        raise DataError(f"{where} {shortened(language)!r}: {error}", "correct it") from None


def _with_interval(value: Interval) -> str:
    if not math.isfinite(value.value):
        return "–"
    if not math.isfinite(value.low):
        return f"{value.value:.3f} (no interval: one sentence)"
    return str(value)
