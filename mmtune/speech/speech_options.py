"""Settings that only speech has (`task:` in a recipe's YAML)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mmtune.config import Section

Windows = Literal["trimmed", "padded"]
Beside = Literal["prompt", "retrieval", "adapter + prompt", "adapter + retrieval"]
Share = Annotated[float, Field(ge=0, le=1)]


class MixOptions(Section):
    """What is added to the training rows, as shares of all training windows (see `mix`)."""

    joined: Share = 0.3  # several consecutive utterances in one window, with their times
    nonspeech: Share = 0.05  # silence, noise and hum, in which nothing must be heard
    replay: Share = 0.1  # recordings of `general`, labelled by the base
    general: Path | None = None  # a manifest or folder of other speech; its texts aren't read


class SpeechOptions(Section):
    """How Whisper is trained and scored."""

    language: str = "en"  # of rows that don't name theirs; English-only bases ignore it
    windows: Windows = "trimmed"  # for training: 4 to 30 s, by the clip; or always 30 s
    score_windows: Windows = "padded"  # for the comparison: Whisper itself knows only 30 s
    # Top layers of the encoder that are adapted beside the decoder: for accents and dialects.
    encoder_layers: Annotated[int, Field(ge=0)] | Literal["all"] = 0
    # Share of the base's own prediction in the target of all words but terms: what was right stays.
    keep_base: Share = 0.0
    views: Annotated[int, Field(ge=1)] = 1  # of each clip: itself, and others (see `augment`)
    mix: MixOptions = MixOptions()
    timestamps: Share = 0.5  # of the training texts are written with times
    prompts: Share = 0.5  # of the times that a row has a prompt, it is given
    term_prompts: Share = 0.0  # of the times, a list of terms is given
    # In the comparison, rows that are heard again with times and on the other windows, and
    # recordings of silence and noise; 0: none.
    probes: Annotated[int, Field(ge=0)] = 40
    # Test rows that are heard again in noise, among voices, by telephone and clipped; 0: none.
    robustness: Annotated[int, Field(ge=0)] = 0
    # Recordings of two minutes that test rows are joined into, and that are transcribed as
    # `mmtune transcribe` does; 0: none.
    long_form: Annotated[int, Field(ge=0)] = 0
    beams: Annotated[int, Field(ge=1)] = 1  # for the comparison; 1 is greedy

    # A term list: what is spoken where no recordings are given, and what term recall counts.
    terms: Path | None = None  # a text file, one term a line; or "medical", the demo's list
    carriers: Path | None = None  # sentences with {term}; None: mmtune's own, in English
    utterances: Annotated[int, Field(ge=1)] = 12  # training sentences for each term
    ordinary: bool = False  # a control run: everyday words in the terms' places
    beside: tuple[Beside, ...] = ()  # other ways to the terms, which the test is heard with too
    control: Path | None = None  # adapter/ of a control run, to compare with
    retention: Path | None = None  # a manifest of other speech, which must not get worse
    retention_rows: Annotated[int, Field(ge=1)] = 40  # of each of its languages, drawn by hash
