"""Settings that only speech has (`task:` in a recipe's YAML)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mmtune.config import Section
from mmtune.metrics.text.language_code import Language
from mmtune.settings.declare import setting

Windows = Literal["trimmed", "padded"]
Beside = Literal["prompt", "retrieval", "adapter + prompt", "adapter + retrieval"]


class MixOptions(Section):
    """Extra training rows, as shares of all training windows."""

    joined: float = setting(
        0.3,
        "Windows that join several consecutive utterances of a speaker, up to 30 s, with times.",
        unit="share of the windows",
        why="Not tuned: a model that is tuned on single utterances may forget long audio.",
        ge=0,
        le=1,
    )
    nonspeech: float = setting(
        0.05,
        "Windows of silence, noise or hum, whose transcript is empty.",
        unit="share of the windows",
        why="Not tuned: without them a tuned model may forget that silence has no words.",
        ge=0,
        le=1,
    )
    replay: float = setting(
        0.1,
        "Windows of the recordings in general, with the base model's own transcripts.",
        unit="share of the windows",
        why="Not tuned; it only takes effect where general is given.",
        ge=0,
        le=1,
    )
    general: Path | None = setting(
        None,
        "Other speech to replay, as a manifest or folder. Its transcripts are not read.",
        why="None: mmtune brings no speech along.",
    )


class SpeechOptions(Section):
    """How Whisper is trained and scored."""

    language: Language = setting(
        "en",
        "Language of rows that do not name theirs: a name, code or tag (German, de, de-AT). "
        "English-only base models ignore it.",
        why="The recipes' base models are English-only.",
        common=True,
    )
    windows: Windows = setting(
        "trimmed",
        "Windows in training. trimmed: 4 to 30 s, as long as the clip needs; padded: always 30 s.",
        why="Shorter windows take less time and less cache.",
    )
    score_windows: Windows = setting(
        "padded",
        "Windows in the comparison of base and adapter: padded to 30 s, or trimmed to the clip.",
        why="Whisper itself always reads 30 s.",
        measuring=True,
    )
    encoder_layers: Annotated[int, Field(ge=0)] | Literal["all"] = setting(
        0,
        "Top layers of the encoder that are adapted beside the decoder. Accents and dialects need "
        "some.",
        unit="layers",
        why="0: then the encoder runs once for each clip, and its output is stored.",
        common=True,
    )
    keep_base: float = setting(
        0.0,
        "Share of the base model's own prediction in the training target of every word that is "
        "not a term.",
        unit="share of the target",
        why="0 is plain cross-entropy; the recipe terminology sets 0.8.",
        ge=0,
        le=1,
    )
    views: int = setting(
        1,
        "Versions of each clip: the clip itself, and others with changed speed, room, noise, "
        "telephone line, level or masked spectrogram.",
        unit="versions",
        why="1: each version takes its own time and space in the cache.",
        ge=1,
    )
    mix: MixOptions = MixOptions()
    timestamps: float = setting(
        0.5,
        "Share of the training transcripts that are written with times.",
        unit="share of the rows",
        why="Not tuned: Whisper is used with times and without, and should keep both.",
        ge=0,
        le=1,
    )
    prompts: float = setting(
        0.5,
        "Share of the draws of a row with a prompt in which Whisper is given the prompt.",
        unit="share of the draws",
        why="Not tuned: the adapter should work with a prompt and without.",
        ge=0,
        le=1,
    )
    term_prompts: float = setting(
        0.0,
        "Share of the draws of a row in which a list of terms is its prompt.",
        unit="share of the draws",
        why="Off: it only helps where terms are given as a prompt later.",
        ge=0,
        le=1,
    )
    probes: int = setting(
        40,
        "Test rows that the comparison also decodes with times and on the other windows, and "
        "recordings of silence and noise. 0: none.",
        unit="rows of each kind",
        why="Not tuned: enough to notice lost abilities, and little extra decoding.",
        ge=0,
        measuring=True,
    )
    robustness: int = setting(
        0,
        "Test rows that the comparison also decodes in noise, among voices, by telephone and "
        "clipped. 0: none.",
        unit="rows",
        why="Off: it takes eight times the decoding of so many rows.",
        ge=0,
        measuring=True,
    )
    long_form: int = setting(
        0,
        "Recordings of two minutes to join from test rows and to transcribe as "
        "mmtune transcribe does. 0: none.",
        unit="recordings",
        why="Off, because it needs many test rows and more decoding.",
        ge=0,
        measuring=True,
    )
    calls: Path | None = setting(
        None,
        "Held-out calls with transcripts, in any layout that mmtune import reads. The comparison "
        "hears each side of each call from its beginning to its end, as mmtune transcribe does.",
        why="None: rows of up to 30 s are compared, which need no whole calls.",
        harmless="It changes nothing that is trained, and answers are stored by content.",
        measuring=True,
        own_data=True,
    )
    call_speakers: str = setting(
        "",
        "Channels of the speakers of the calls, such as agent=0,customer=1.",
        why="Empty: subtitles usually say the channel of each speaker.",
        measuring=True,
    )
    beams: int = setting(
        1,
        "Beams in the comparison; 1 is greedy decoding.",
        unit="beams",
        why="Greedy is the fastest, and base and adapter are decoded alike.",
        ge=1,
        measuring=True,
    )
    terms: Path | None = setting(
        None,
        "The term list: a text file with one term a line, or mmtune's own medical, legal or "
        "broadcast. It is spoken where no data is given, and term recall counts it.",
        why="Only you know your terms.",
        common=True,
    )
    carriers: Path | None = setting(
        None,
        "Sentences for the synthetic voices, one a line, each with {term}; legal and broadcast are "
        "mmtune's own of these fields. Null: mmtune's own for any list.",
        why="mmtune has sentences in English, German, Spanish and French; other languages need a "
        "file.",
    )
    utterances: int = setting(
        12,
        "Synthetic training sentences for each term.",
        unit="sentences",
        why="Not tuned.",
        ge=1,
    )
    ordinary: bool = setting(
        False,
        "Make a control run: everyday words stand in the terms' places.",
        why="Off: a control is a run of its own (recipes/terminology).",
    )
    beside: tuple[Beside, ...] = setting(
        (),
        "Other ways to get terms right that the comparison also measures.",
        why="None: each way decodes the test rows again.",
        measuring=True,
    )
    hurtful: Path | None = setting(
        None,
        "Words that hurt, one a line, which a model must not write where nobody said them: "
        "profanity, insults, violence. Null: mmtune's own list of the language.",
        why="mmtune has lists for English, German, Spanish and French.",
        measuring=True,
        harmless="It changes nothing that is trained.",
    )
    control: Path | None = setting(
        None,
        "The adapter folder of a control run, measured beside the adapter.",
        why="None: a control must be trained first.",
        measuring=True,
    )
    retention: Path | None = setting(
        None,
        "Other speech that must not get worse, as a manifest or folder with transcripts.",
        why="None: mmtune brings no speech along. Without it, general speech is not measured.",
        common=True,
        measuring=True,
    )
    retention_rows: int = setting(
        40,
        "Retention rows of each language in the comparison.",
        unit="rows",
        why="It bounds the decoding. The recipes set 300: so many rows without a repeat show that "
        "at most 1 row in 100 repeats.",
        ge=1,
        measuring=True,
    )
    choose_rows: int = setting(
        40,
        "Retention rows of each language that choose the strength; they are not in the comparison. "
        "If there are few rows, at most a quarter of them.",
        unit="rows",
        why="Not tuned: it bounds the decoding, which each strength needs.",
        ge=1,
    )
