"""A row of a speech manifest."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mmtune.data.rows import Row

# Keys that corpora commonly carry to describe a recording. They are facts to slice results by,
# not settings, so they may stand in the row itself and are kept in `group`.
DESCRIPTIVE = ("accent", "age", "channel", "device", "dialect", "domain", "gender", "noise")


class Segment(BaseModel):
    """A stretch of a row: when it is said, in seconds from the row's beginning, and its words."""

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
        audio: path of the recording, at most 30 s long.
        text: what is said.
        speaker: who says it; a speaker's rows stay in one split.
        language: Whisper's code ("en"); None leaves it to the run.
        prompt: text that Whisper is given before the utterance.
        terms: the terms spoken in it, for term recall.
        segments: its text in pieces with their times, where those are known.
        duration_s: length in seconds as the corpus states it; `check` measures it itself.
    """

    media: ClassVar[str] = "audio"

    audio: Annotated[str, Field(min_length=1)]
    text: Annotated[str, Field(max_length=20_000)]
    speaker: Annotated[str, Field(min_length=1)] | None = None
    language: Annotated[str, Field(min_length=1)] | None = None
    prompt: str | None = None
    terms: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()
    nonspeech: bool = False
    duration_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _gather_descriptions(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        found = {
            key: str(values[key])
            for key in DESCRIPTIVE
            if key in values and isinstance(values[key], str | int | float)
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
    def _segments_are_the_text(self) -> Self:
        if self.segments and " ".join(s.text for s in self.segments) != self.text:
            raise ValueError("the segments' texts, joined by spaces, must be the text")
        return self

    @property
    def reference(self) -> str:
        """The transcript."""
        return self.text

    @property
    def leakage_keys(self) -> tuple[str, ...]:
        """The speaker, and the sentence without case, punctuation and spacing."""
        keys = []
        if self.speaker is not None:
            keys.append(f"speaker {self.speaker}")
        if sentence := plain_words(self.text):
            keys.append(f"sentence {sentence}")
        return tuple(keys)


def plain_words(text: str) -> str:
    """`text` for comparison only: NFKC, case folded, words of letters, marks and digits.

    Combining marks are kept: without them Indic scripts lose their vowels and different sentences
    become equal.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in folded)
    return re.sub(r"\s+", " ", kept).strip()
