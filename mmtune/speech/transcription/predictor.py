"""`SpeechPredictor`: transcribes rows with a base and its adapters."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from mmtune.adapters.card import CARD_FILE, adapter_folder, read_card, weights_hash
from mmtune.adapters.named_base import base_of
from mmtune.adapters.switch import MARKER
from mmtune.errors import ConfigError
from mmtune.metrics.text.language_code import known_language
from mmtune.predict import Prediction, Request
from mmtune.prefix.features import Features
from mmtune.speech.sound.read import span_of
from mmtune.speech.speech_options import Windows
from mmtune.speech.speech_row import SpeechRow, speech_rows
from mmtune.speech.whisper.base import WhisperBase, load_for
from mmtune.speech.whisper.decode import (
    AT_ONCE,
    PACE,
    SPOKEN,
    DecodeOptions,
    Spoken,
    decode_scored,
    detect_language,
    most_ids,
)
from mmtune.speech.whisper.decoder_lora import adapted_from, load_adapters
from mmtune.speech.whisper.fallback import is_silence
from mmtune.speech.whisper.labels import prefix_ids
from mmtune.speech.whisper.stages import NAME, AudioStage, seconds_of
from mmtune.speech.whisper.word_times import word_confidences
from mmtune.system.hashing import hash_json

LOADED_ADAPTER = "adapter"
DECODE_BATCH = 16  # number of rows that are decoded together, divided by the number of beams


class SpeechPredictor:
    """A base with its adapters (`mmtune.predict.Predictor`).

    Each clip is encoded once up to the lowest adapted layer, and from there on once for every
    adapter that a call uses. So put the requests for base and adapter into one call of `predict`.

    Args:
        base: as for `load_base`, or a loaded base without other adapters.
        adapters: folders by name, loaded strictly.
        features: source of encoder outputs; None computes them, on `windows`.
        windows: "padded" (30 s, as Whisper was trained) or "trimmed".
        options: settings of the search; `most_ids` limits the ids of each row by its length.
        language: Whisper's code for rows that name none; None takes the language that an adapter
            was trained with, or else detects it.
        batch_size: number of rows that are decoded together; several beams divide it.
    """

    def __init__(
        self,
        base: str | WhisperBase,
        adapters: Mapping[str, Path],
        features: Features | None = None,
        *,
        windows: Windows = "padded",
        options: DecodeOptions | None = None,
        language: str | None = None,
        batch_size: int = DECODE_BATCH,
    ) -> None:
        self.base = load_for(base) if isinstance(base, str) else base
        found = [adapted_from(adapter_folder(path, MARKER)) for path in adapters.values()]
        cut = min((layer for layer in found if layer is not None), default=None)
        self.features = features or Features({NAME: AudioStage(self.base, windows, cut)}, None)
        stage = self.features.stages[NAME]
        if not isinstance(stage, AudioStage):
            raise TypeError(f"the stage {NAME!r} is a {type(stage).__name__}, not an AudioStage")
        if cut is not None and (stage.cut is None or stage.cut > cut):
            raise ValueError(f"the features lie above the adapted layer {cut} of the encoder")
        self.stage = stage
        self.options = options or DecodeOptions(max_new_tokens=SPOKEN)
        self.batch_size = batch_size
        self.adapters = load_adapters(self.base, adapters)
        self.language = language or _trained_language(adapters)
        self.weights = {n: weights_hash(adapter_folder(p, MARKER)) for n, p in adapters.items()}

    @property
    def fingerprint(self) -> str:
        """Hash of everything except the request that a transcript depends on."""
        return hash_json(
            {
                "base": self.base.fingerprint,
                "dtype": str(self.base.model.dtype),
                "stage": self.stage.fingerprint,
                "adapters": self.weights,
                "options": vars(self.options),
                "pace": (PACE, AT_ONCE),
                "language": self.language,
            }
        )

    def with_options(self, options: DecodeOptions) -> SpeechPredictor:
        """Return a predictor with the same models and other search options."""
        other = copy.copy(self)
        other.options = options
        return other

    def with_windows(self, windows: Windows) -> SpeechPredictor:
        """Return a predictor with the same models on other windows."""
        other = copy.copy(self)
        other.stage = AudioStage(self.base, windows, self.stage.cut)
        other.features = Features({NAME: other.stage}, None)
        return other

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """Transcribe each request's row, in order.

        `details` has the window in seconds, the language, the written words with the model's
        confidence ("words", see `word_confidences`), and the probabilities of `Spoken`. With
        multilingual bases it has the language that the model detects, whatever it was told
        ("heard").

        Raises:
            AdapterError: a request names an adapter that isn't loaded.
            DataError: a clip can't be read, or is longer than 30 s.
        """
        asked = speech_rows(request.row for request in requests)
        results: dict[int, Prediction] = {}
        for members in self.batches(requests):
            rows = self._rows(asked[i] for i in members)
            started = perf_counter()
            hidden, languages = self._hear(rows)
            encoded = (perf_counter() - started) / len(rows)  # each model counts all of it
            groups: dict[tuple[tuple[str, float], ...], list[int]] = {}
            for i in members:
                groups.setdefault(tuple(sorted(requests[i].adapters.items())), []).append(i)
            places = {_key(row): place for place, row in enumerate(rows)}
            window = self.stage.window(rows[0])
            for weights, group in groups.items():
                at = [places[_key(asked[i])] for i in group]
                prefixes = [self._prefix(rows[place], languages[place]) for place in at]
                most = [self._most(rows[place]) for place in at]
                started = perf_counter()
                spoken = self._speak(hidden[at], prefixes, most, dict(weights))
                seconds = encoded + (perf_counter() - started) / len(group)
                for i, place, each in zip(group, at, spoken, strict=True):
                    language = languages[place]
                    details = {
                        "window": window,
                        "language": language,
                        "words": word_confidences(self.base, each, language),
                        "log_probability": round(each.log_probability, 4),
                        "no_speech": round(each.no_speech, 4),
                        "no_words": round(each.no_words, 4),
                    }
                    if each.language is not None:
                        details["heard"] = each.language
                    text = self.base.text_of(each.ids)
                    results[i] = Prediction(asked[i].id, text, details, seconds)
        return [results[i] for i in range(len(requests))]

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """Group requests: `batch_size` rows of one window and similar length, with all adapters."""
        size = max(1, self.batch_size // self.options.beams)
        asked = speech_rows(request.row for request in requests)
        places: dict[tuple[str, ...], list[int]] = {}
        for i, row in enumerate(asked):
            places.setdefault(_key(row), []).append(i)
        windows: dict[int, list[SpeechRow]] = {}
        for row in self._rows(asked):
            windows.setdefault(self.stage.window(row), []).append(row)
        return [
            sorted(i for row in rows[start : start + size] for i in places[_key(row)])
            for rows in windows.values()
            for start in range(0, len(rows), size)
        ]

    @staticmethod
    def _rows(rows: Iterable[SpeechRow]) -> list[SpeechRow]:
        """Return each row once, the shortest first, so that a batch has rows of similar length."""
        distinct = {_key(row): row for row in rows}
        return sorted(distinct.values(), key=lambda row: (seconds_of(row), row.id))

    def _speak(
        self,
        hidden: Tensor,
        prefixes: Sequence[Sequence[int]],
        most: Sequence[int],
        weights: Mapping[str, float],
    ) -> list[Spoken]:
        """Decode the stage's states [rows, frames, width] of one window; silence gives no ids."""
        options = replace(self.options, max_new_tokens=tuple(most))
        with self.adapters.on(weights):
            heard = self.stage.finish(hidden)
            spoken = decode_scored(self.base.model, heard, prefixes, options)
        return [replace(each, ids=[], tokens=()) if is_silence(each) else each for each in spoken]

    def _most(self, row: SpeechRow) -> int:
        most = self.options.max_new_tokens
        return most_ids(seconds_of(row), most if isinstance(most, int) else SPOKEN)

    def _prefix(self, row: SpeechRow, language: str | None) -> list[int]:
        return prefix_ids(
            self.base,
            language,
            row.prompt,
            task=row.task,
            timestamps=self.options.timestamps,
        )

    def languages(self, hidden: Tensor, named: Sequence[str | None]) -> list[str | None]:
        """Return the language of each row: its own, the predictor's, or detected by the base."""
        if not self.base.multilingual:
            return [None] * len(named)
        found = [name or self.language for name in named]
        open_rows = [i for i, name in enumerate(found) if name is None]
        if open_rows:
            with self.adapters.on({}):
                heard = detect_language(self.base.model, self.stage.finish(hidden[open_rows]))
            for i, language in zip(open_rows, heard, strict=True):
                found[i] = language
        return found

    def _hear(self, rows: Sequence[SpeechRow]) -> tuple[Tensor, list[str | None]]:
        found = self.features.get([self.stage.part(row) for row in rows])
        hidden = torch.stack([each["hidden"] for each in found]).to(self.stage.device)
        return hidden, self.languages(hidden, [row.language for row in rows])


def _key(row: SpeechRow) -> tuple[str, ...]:
    # Everything that a transcript depends on: one recording may come with several prompts.
    speech = (row.language, row.prompt, row.task, span_of(row))
    return (row.id, str(row.path), *map(repr, speech))


def _trained_language(adapters: Mapping[str, Path]) -> str | None:
    for path in adapters.values():
        folder = adapter_folder(path, MARKER)
        if (folder / CARD_FILE).exists():
            language = (read_card(folder).settings.get("task") or {}).get("language")
            return str(language) if language else None
    return None


def open_predictor(
    base: str | None = None,
    adapter: Path | str | Mapping[str, Path] | None = None,
    *,
    language: str | None = None,
    beams: int = 1,
) -> SpeechPredictor:
    """Load a model to transcribe files; a single adapter gets the name `LOADED_ADAPTER`.

    Args:
        base: as for `load_base`; None takes the base that the adapter was trained on.
        adapter: a run folder or its adapter/ folder, or several by name; None: the base alone.
        language: language of the recordings, by name, code or tag; None takes the adapter's
            language, or else detects it.
        beams: number of beams; 1 is greedy search.

    Raises:
        MmtuneError: base or adapter can't be used; the message says why.
    """
    if language is not None:
        try:
            language = known_language(language)
        except ValueError as error:
            raise ConfigError(str(error), "name the language of the recordings") from None
    if isinstance(adapter, Mapping):
        folders = dict(adapter)
    else:
        folders = {LOADED_ADAPTER: Path(adapter)} if adapter is not None else {}
    return SpeechPredictor(
        _base_name(base, next(iter(folders.values()), None)),
        folders,
        options=DecodeOptions(beams=beams, max_new_tokens=SPOKEN),
        language=language,
    )


def _base_name(base: str | None, adapter: Path | None) -> str:
    if base is not None:
        return base
    if adapter is not None:
        folder = adapter_folder(adapter, MARKER)
        if (folder / CARD_FILE).exists():
            return base_of(read_card(folder).base, folder)
    raise ConfigError(
        "no base model is named, and no adapter card names one",
        "add --base, for example starter:whisper-base",
    )
