"""Settings that only speech has (`task:` in a recipe's YAML)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mmtune.config import Section

Windows = Literal["trimmed", "padded"]


class SpeechOptions(Section):
    """How Whisper is trained and scored."""

    language: str = "en"  # of rows that don't name theirs; English-only bases ignore it
    windows: Windows = "trimmed"  # for training: 4 to 30 s, by the clip; or always 30 s
    score_windows: Windows = "padded"  # for the comparison: Whisper itself knows only 30 s
    # Top layers of the encoder that are adapted beside the decoder: for accents and dialects.
    encoder_layers: Annotated[int, Field(ge=0)] | Literal["all"] = 0
    # Share of the base's own prediction in the target of all words but terms: what was right stays.
    keep_base: Annotated[float, Field(ge=0, le=1)] = 0.0
    beams: Annotated[int, Field(ge=1)] = 1  # for the comparison; 1 is greedy

    # A term list: what is spoken where no recordings are given, and what term recall counts.
    terms: Path | None = None  # a text file, one term a line; or "medical", the demo's list
    carriers: Path | None = None  # sentences with {term}; None: mmtune's own, in English
    utterances: Annotated[int, Field(ge=1)] = 12  # training sentences for each term
    ordinary: bool = False  # a control run: everyday words in the terms' places
    control: Path | None = None  # adapter/ of a control run, to compare with
    retention: Path | None = None  # a manifest of other speech, which must not get worse
