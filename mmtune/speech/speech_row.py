"""`SpeechRow`: one utterance of a speech manifest, with its transcript and its segments."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmtune.data.rows import FILE_NAMES, SYNONYMS, Row, changed_text
from mmtune.metrics.text.language_code import Language
from mmtune.speech.sound.info import MAX_CHANNELS

if TYPE_CHECKING:
    from mmtune.metrics.text.transcribed_row import TranscribedRow

SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")
SOURCE = "recording"  # key in `group`: the recording that an imported piece was cut from

# Keys that corpora use to describe a recording. Results are sliced by them. They may stand in the
# row itself, and `SpeechRow` moves them to `group`. A `channel` that is a number or "mix" is not
# one of them: it names the channel to read.
DESCRIPTIVE = ("accent", "age", "channel", "device", "dialect", "domain", "gender", "noise")


class Segment(BaseModel):
    """A part of a row: start and end in seconds from the row's start, and its words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    end: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    text: str

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end < self.start:
            raise ValueError(f"end = {self.end:g} is before start = {self.start:g}")
        return self


class SpeechRow(Row):
    """One utterance with its transcript.

    Attributes:
        audio: path of the recording.
        text: the transcript; empty only if `nonspeech`.
        start: where the utterance begins, in seconds within the file.
        end: where it ends, in seconds, at most 30 s after `start`; None: at the file's end.
        channel: number of the channel, from 0, or "mix" for the mean of all; None: the only one.
        nonspeech: nobody speaks: noise, music, silence.
        speaker: the person who speaks; all rows of a speaker stay in one split.
        language: any name, code or tag, kept as Whisper's code ("en"); None takes the run's.
        task: "translate" if the text is English and the speech isn't; multilingual bases only.
        prompt: text that Whisper gets before the utterance.
        terms: the terms spoken in it, for term recall.
        segments: its text in pieces with their times, if known.
        duration_s: length of the utterance in seconds as the corpus states it; `check` measures
            it itself.
    """

    media: ClassVar[str] = "audio"
    suffixes: ClassVar[tuple[str, ...]] = (
        *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".caf"),
        *(".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".webm", ".mkv", ".mka", ".aac", ".amr", ".wma"),
    )
    text_field: ClassVar[str] = "text"
    other_texts: ClassVar[tuple[str, ...]] = ("prompt", "terms")
    says_text: ClassVar[bool] = True
    synonyms: ClassVar[tuple[frozenset[str], ...]] = (
        frozenset({"audio", "audio_filepath", "audio_path", "wav"}) | FILE_NAMES,
        *SYNONYMS,
    )

    audio: Annotated[str, Field(min_length=1)]
    text: Annotated[str, Field(max_length=20_000)]
    start: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    end: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    channel: Annotated[int, Field(ge=0, lt=MAX_CHANNELS, strict=True)] | Literal["mix"] | None = (
        None
    )
    nonspeech: Annotated[bool, Field(strict=True)] = False
    speaker: Annotated[str, Field(min_length=1)] | None = None
    language: Language | None = None
    task: Literal["transcribe", "translate"] = "transcribe"
    prompt: str | None = None
    terms: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()
    duration_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _gather_descriptions(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        values = _which(values)
        found = {
            key: str(values[key])
            for key in DESCRIPTIVE
            if key in values
            and isinstance(values[key], str | int | float)
            and (key != "channel" or _describes(values[key]))
        }
        group = values.get("group", {})
        if not isinstance(group, dict):
            return values
        rest = {
            key: value
            for key, value in values.items()
            if key not in found and not (key in DESCRIPTIVE and value is None)
        }
        return {**rest, "group": {**found, **group}} if found else rest

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end = {self.end:g} must be greater than start = {self.start:g}")
        if self.nonspeech and self.text:
            raise ValueError(f"a nonspeech row must have no words, but text = {self.text[:40]!r}")
        if self.segments and " ".join(s.text for s in self.segments) != self.text:
            raise ValueError("the segments' texts, joined by spaces, must equal the text")
        return self

    @property
    def reference(self) -> str:
        """The transcript that predictions are compared with."""
        return self.text

    def with_texts(
        self, changes: Sequence[tuple[int, int, str]], other: Callable[[str], str]
    ) -> dict[str, object]:
        """As of every row; its segments change with the text, and changed terms are left out.

        What replaces a stretch of several segments stands in the first of them. A segment of which
        nothing is left is joined to the one before it.
        """
        values = super().with_texts(changes, other)
        if self.terms:
            values["terms"] = [term for term in self.terms if other(term) == term]
        if not self.segments:
            return values
        kept: list[Segment] = []
        place = 0
        for segment in self.segments:
            end = place + len(segment.text)
            own = [
                (max(start, place) - place, min(stop, end) - place, words if start >= place else "")
                for start, stop, words in changes
                if start < end and stop > place
            ]
            text = changed_text(segment.text, own).strip() if own else segment.text
            if own and not text and kept:
                kept[-1] = kept[-1].model_copy(update={"end": max(kept[-1].end, segment.end)})
            else:
                kept.append(segment.model_copy(update={"text": text}))
            place = end + 1
        values["segments"] = [segment.model_dump(mode="json") for segment in kept]
        values["text"] = " ".join(segment.text for segment in kept)
        return values

    @property
    def leakage_keys(self) -> tuple[str, ...]:
        """Keys of the speaker, of the recording that the row is cut from, and of the sentence.

        The sentence is compared without case, punctuation and spacing. A recording that is a
        single row has no key.
        """
        keys = []
        if self.speaker is not None:
            keys.append(f"speaker {self.speaker}")
        if (whole := self.group.get(SOURCE)) is not None:
            keys.append(f"recording {whole}")
        elif self.start or self.end is not None or self.channel is not None:
            keys.append(f"recording {self.audio}")
        if sentence := plain_words(self.text):
            keys.append(f"sentence {sentence}")
        return tuple(keys)


if TYPE_CHECKING:
    # The metrics know rows by this protocol: a renamed field is an error here, and not a metric
    # that silently takes the run's language.
    _scored_by_metrics: type[TranscribedRow] = SpeechRow


def speech_row(row: Row) -> SpeechRow:
    """The same row, typed: shared code hands over a `Row`, and all of speech takes a `SpeechRow`.

    Raises:
        TypeError: it is a row of another modality.
    """
    if not isinstance(row, SpeechRow):
        raise TypeError(f"row {row.id!r} is a {type(row).__name__}; speech needs a SpeechRow")
    return row


def speech_rows(rows: Iterable[Row]) -> list[SpeechRow]:
    """`speech_row` of each row, in order."""
    return [speech_row(row) for row in rows]


def _describes(channel: Any) -> bool:
    return isinstance(channel, str) and channel != "mix"


def _which(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "channel": channel_of(values["channel"])} if "channel" in values else values


def channel_of(value: Any) -> Any:
    """Read the channel of a row as tables and forms write it.

    Returns:
        A number for 1, "1", 1.0 and "1.0" (pandas); "mix" for that word and "both", "mixed" and
        "all"; other values as they are: a word describes the recording.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    word = value.strip()
    if re.fullmatch(r"\d{1,3}(\.0*)?", word, re.ASCII):
        return int(word.partition(".")[0])
    return "mix" if word.casefold() in ("mix", "mixed", "both", "all") else value


def plain_words(text: str) -> str:
    """Simplify `text` for comparison: NFKC, case folded, words of letters, marks and digits.

    Combining marks stay: without them Indic scripts lose their vowels, and different sentences
    become equal.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in folded)
    return re.sub(r"\s+", " ", kept).strip()
