"""Check an export: its engine must score as mmtune does with the unmerged adapter.

Both transcribe the same clips under the same options (see `engines`). Scores under each engine's
own defaults are added for information. An export with another score is not the model that was
evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmtune.errors import DataError, MmtuneError
from mmtune.metrics.text.normalize import normalize
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Prediction
from mmtune.speech.export.engines import Clip, Engine, Reference
from mmtune.speech.speech_row import SpeechRow
from mmtune.system.files import write_json

PARITY_FILE = "PARITY.json"
SHOWN = 20  # number of differing clips that are stored in full


@dataclass(frozen=True)
class Limits:
    """Allowed differences of an export.

    Attributes:
        points: largest difference of WER in either direction, in percentage points. A difference
            of one word is always allowed, because on few clips it is more than this.
        identical: least share of clips with the same normalized transcript; None: any share.
    """

    points: float
    identical: float | None


LIMITS: dict[str, Limits] = {
    "fp32": Limits(0.2, 0.97),
    # Half precision rounds the weights: more transcripts differ, but the score must not.
    "fp16": Limits(0.2, 0.95),
    "bf16": Limits(0.5, None),
    "int8": Limits(0.5, None),
}


@dataclass(frozen=True)
class Scores:
    """WER of one model in percent; None where it wasn't run."""

    engine: str
    same: float | None
    own: float | None


@dataclass(frozen=True)
class Parity:
    """Result of the check.

    Attributes:
        source: the manifest, or the synthetic sentences.
        precision: precision of the export.
        clips, words: number of clips, and of words in their references.
        seconds: length of the audio.
        reference, exported: scores of mmtune and of the export.
        difference: difference of WER under the same options, in points; None if there is none.
        allowed: largest allowed difference, in points.
        identical, identical_raw: shares of clips with the same transcript, normalized and as
            written; 0 to 1.
        faults: reasons of failure; empty if the check passed.
        differing: up to `SHOWN` clips whose transcripts differ.
    """

    source: str
    precision: str
    clips: int
    seconds: float
    words: int
    reference: Scores
    exported: Scores
    difference: float | None
    allowed: float
    identical: float
    identical_raw: float
    faults: tuple[str, ...]
    differing: tuple[Mapping[str, str], ...]

    @property
    def passed(self) -> bool:
        """Whether the export passed, that is, has no fault."""
        return not self.faults

    def table(self) -> tuple[tuple[str, ...], ...]:
        """Header and rows of the printed table."""
        return (
            ("engine", "WER %, same options", "identical", "as written", "WER %, its own defaults"),
            (self.reference.engine, _number(self.reference.same), "", "",
             _number(self.reference.own)),
            (f"{self.exported.engine} ({self.precision})", _number(self.exported.same),
             f"{self.identical:.1%}", f"{self.identical_raw:.1%}", _number(self.exported.own)),
        )  # fmt: skip

    def record(self) -> dict[str, Any]:
        """The result as `PARITY.json` stores it."""
        limits = asdict(LIMITS[self.precision])
        return {"checked": True, "passed": self.passed} | asdict(self) | {"limits": limits}


def compare(
    rows: Sequence[SpeechRow],
    source: str,
    reference: Reference,
    engine: Engine | Exception,
    precision: str,
) -> Parity:
    """Run both on the same clips, and judge.

    Args:
        rows: rows with text and audio of at most 30 s each.
        source: name of the rows in the report.
        reference: mmtune with the adapter.
        engine: the engine with the export, or the error of opening it.
        precision: precision of the export.

    Raises:
        DataError: no row has words, or an audio file can't be read.
    """
    clips = reference.clips(rows)
    ours = reference.same(clips)
    theirs, fault = _ask(engine, lambda e: e.same(clips), len(clips))
    metric = WordErrors()
    count = sum(int(metric.observe(row, Prediction(row.id, ""))[3]) for row in rows)
    if not count:
        raise DataError(f"{source}: no row has words", "check with rows that have transcripts")
    wanted = _score(metric, rows, ours)
    found = None if fault else _score(metric, rows, theirs)
    pairs = [
        (row, one, other, _normal(row, clip, one), _normal(row, clip, other))
        for row, clip, one, other in zip(rows, clips, ours, theirs, strict=True)
    ]
    identical = sum(a == b for *_, a, b in pairs) / len(pairs)
    allowed = max(LIMITS[precision].points, 100 / count)
    faults = (fault,) if fault else tuple(_faults(wanted, found, allowed, identical, precision))
    our_own, their_own = None, None
    if not faults:  # the scores under own defaults of a failed export are of no use
        our_own = _score(metric, rows, reference.own(clips))
        spoken, broken = _ask(engine, lambda e: e.own(clips), len(clips))
        their_own = None if broken else _score(metric, rows, spoken)
    return Parity(
        source=source,
        precision=precision,
        clips=len(rows),
        seconds=round(sum(len(clip.samples) for clip in clips) / 16_000, 2),
        words=count,
        reference=Scores(reference.name, wanted, our_own),
        exported=Scores(
            "export" if isinstance(engine, Exception) else engine.name, found, their_own
        ),
        difference=None if found is None or wanted is None else found - wanted,
        allowed=allowed,
        identical=identical,
        identical_raw=sum(one == other for _, one, other, *_ in pairs) / len(pairs),
        faults=faults,
        differing=tuple(
            {"id": row.id, "reference": row.reference, "mmtune": one, "export": other}
            for row, one, other, *_ in pairs
            if one != other
        )[:SHOWN],
    )


def _ask(
    engine: Engine | Exception, transcribe: Callable[[Engine], list[str]], count: int
) -> tuple[list[str], str]:
    """Return the texts, or empty texts and the error: an export that can't run has failed."""
    try:
        if isinstance(engine, Exception):
            raise engine
        return transcribe(engine), ""
    except Exception as error:  # each engine raises its own types of errors
        found = (
            error.found if isinstance(error, MmtuneError) else f"{type(error).__name__}: {error}"
        )
        return [""] * count, f"it can't be run: {found}"


def _faults(
    wanted: float | None, found: float | None, allowed: float, identical: float, precision: str
) -> list[str]:
    faults = []
    if wanted is None or found is None or abs(found - wanted) > allowed + 1e-9:
        faults.append(
            f"WER {_number(found)} % instead of {_number(wanted)} %: "
            f"more than {allowed:.2f} points apart"
        )
    least = LIMITS[precision].identical
    if least is not None and identical < least - 1e-9:
        faults.append(f"{identical:.1%} of the transcripts are the same, less than {least:.0%}")
    return faults


def _score(metric: WordErrors, rows: Sequence[SpeechRow], texts: Sequence[str]) -> float | None:
    stats = [metric.observe(r, Prediction(r.id, t)) for r, t in zip(rows, texts, strict=True)]
    value = metric.reduce(stats)
    return None if value is None else 100 * value


def _normal(row: SpeechRow, clip: Clip, text: str) -> str:
    return normalize(text, row.language or clip.language)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def write(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `PARITY.json` into an export's folder."""
    write_json(folder / PARITY_FILE, facts)
