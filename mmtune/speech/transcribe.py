"""Speech to text with a base and its adapters: rows for evaluation, files for people."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmtune.adapters.card import FILE as CARD
from mmtune.adapters.card import adapter_folder, read_card
from mmtune.data.rows import Row
from mmtune.errors import ConfigError
from mmtune.hashing import hash_json
from mmtune.predict import Prediction, Request
from mmtune.speech.audio import SAMPLE_RATE, read_audio, span_of
from mmtune.speech.base import WhisperBase, load_base
from mmtune.speech.decode import DecodeOptions, decode, detect_language
from mmtune.speech.labels import prefix_ids
from mmtune.speech.lora import MARKER, adapted_from, load_adapters
from mmtune.speech.options import Windows
from mmtune.speech.stages import LONGEST, NAME, AudioStage, seconds_of
from mmtune.speech.task import SPOKEN
from mmtune.train.prefix import Features

ADAPTER = "adapter"
BATCH = 16  # rows decoded together; beams share it
SEARCH = 5.0  # seconds before the end of a window in which its cut is sought
FRAME = SAMPLE_RATE // 50
SMOOTH = 10  # frames (0.2 s) over which loudness is averaged


class SpeechPredictor:
    """A base with its adapters (`mmtune.predict.Predictor`).

    Each clip is encoded once up to the lowest adapted layer, and from there on for every adapter
    that a call asks for: put the requests for base and adapter into one `predict`.

    Args:
        base: what `load_base` takes, or a loaded base that nothing else adapts.
        adapters: folders by name, loaded strictly.
        features: where encoder outputs come from; None computes them, on `windows`.
        windows: "padded" is what Whisper was trained on.
        options: how to search.
        language: of rows that name none; None: what an adapter was trained with, or else heard.
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
    ) -> None:
        self.base = _load(base) if isinstance(base, str) else base
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
        self.adapters = load_adapters(self.base, adapters)
        self.language = language or _trained_language(adapters)
        self.fingerprint = hash_json(
            {
                "base": self.base.fingerprint,
                "stage": self.stage.fingerprint,
                "adapters": sorted(adapters),
                "options": vars(self.options),
                "language": self.language,
            }
        )

    def with_options(self, options: DecodeOptions) -> SpeechPredictor:
        """The same models with another search."""
        other = copy.copy(self)
        other.options = options
        return other

    def with_windows(self, windows: Windows) -> SpeechPredictor:
        """The same models on other windows."""
        other = copy.copy(self)
        other.stage = AudioStage(self.base, windows, self.stage.cut)
        other.features = Features({NAME: other.stage}, None)
        return other

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """Transcripts, in order; `details` has the window in seconds and the language.

        Raises:
            AdapterError: a request names an adapter that isn't loaded.
            DataError: a clip can't be read, or is longer than 30 s.
        """
        results: dict[int, Prediction] = {}
        for rows in self._batches([request.row for request in requests]):
            keys = {_key(row) for row in rows}
            members = [i for i, request in enumerate(requests) if _key(request.row) in keys]
            hidden, languages = self._hear(rows)
            groups: dict[tuple[tuple[str, float], ...], list[int]] = {}
            for i in members:
                groups.setdefault(tuple(sorted(requests[i].adapters.items())), []).append(i)
            places = {_key(row): place for place, row in enumerate(rows)}
            window = self.stage.window(rows[0])
            for weights, group in groups.items():
                at = [places[_key(requests[i].row)] for i in group]
                texts = self.speak(
                    hidden[at],
                    [languages[place] for place in at],
                    [getattr(rows[place], "prompt", None) for place in at],
                    dict(weights),
                )
                for i, place, text in zip(group, at, texts, strict=True):
                    details = {"window": window, "language": languages[place]}
                    results[i] = Prediction(requests[i].row.id, text, details)
        return [results[i] for i in range(len(requests))]

    def speak(
        self,
        hidden: Tensor,
        languages: Sequence[str | None],
        prompts: Sequence[str | None],
        weights: Mapping[str, float],
    ) -> list[str]:
        """Transcripts of the stage's states [rows, frames, width] of one window."""
        prefixes = [
            prefix_ids(self.base, language, prompt, timestamps=self.options.timestamps)
            for language, prompt in zip(languages, prompts, strict=True)
        ]
        with self.adapters.on(weights):
            heard = self.stage.finish(hidden)
            spoken = decode(self.base.model, heard, prefixes, self.options)
        return [self.base.text_of(ids) for ids in spoken]

    def languages(self, hidden: Tensor, named: Sequence[str | None]) -> list[str | None]:
        """The language of each row: named, the run's, or heard by the base."""
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

    def _hear(self, rows: Sequence[Row]) -> tuple[Tensor, list[str | None]]:
        found = self.features.get([self.stage.part(row) for row in rows])
        hidden = torch.stack([each["hidden"] for each in found]).to(self.stage.device)
        return hidden, self.languages(hidden, [getattr(row, "language", None) for row in rows])

    def _batches(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        size = max(1, BATCH // self.options.beams)
        groups: dict[int, dict[tuple[str, ...], Row]] = {}
        for row in sorted(rows, key=lambda row: (seconds_of(row), row.id)):
            groups.setdefault(self.stage.window(row), {})[_key(row)] = row
        for group in groups.values():
            distinct = list(group.values())
            for start in range(0, len(distinct), size):
                yield distinct[start : start + size]


def _key(row: Row) -> tuple[str, ...]:
    # All that a transcript depends on: one recording may be asked for with several prompts.
    speech = (getattr(row, "language", None), getattr(row, "prompt", None), span_of(row))
    return (row.id, str(row.path), *map(repr, speech))


def _load(base: str) -> WhisperBase:
    from accelerate import PartialState

    from mmtune.precision import DTYPES, choose

    device = PartialState().device
    return load_base(base, device, DTYPES[choose("auto", device)])


def _trained_language(adapters: Mapping[str, Path]) -> str | None:
    for path in adapters.values():
        folder = adapter_folder(path, MARKER)
        if (folder / CARD).exists():
            language = (read_card(folder).settings.get("task") or {}).get("language")
            return str(language) if language else None
    return None


@dataclass(frozen=True)
class Segment:
    """A stretch of a file. Times are in seconds from its beginning."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Transcript:
    """What was said in a file."""

    text: str
    language: str | None
    segments: tuple[Segment, ...]


def open_predictor(
    base: str | None = None,
    adapter: Path | str | None = None,
    *,
    language: str | None = None,
    beams: int = 1,
) -> SpeechPredictor:
    """A model to transcribe files with; its adapter, if there is one, is called `ADAPTER`.

    Args:
        base: as for `load_base`; None: the one that the adapter was trained on.
        adapter: a run's folder or its adapter/ folder; None: the base alone.
        language: of the recordings; None: as the adapter was trained, or else heard.

    Raises:
        MmtuneError: base or adapter can't be used; it says why.
    """
    folder = Path(adapter) if adapter is not None else None
    return SpeechPredictor(
        _base_name(base, folder),
        {ADAPTER: folder} if folder is not None else {},
        options=DecodeOptions(beams=beams, max_new_tokens=SPOKEN),
        language=language,
    )


def transcribe(
    path: Path | str, predictor: SpeechPredictor, *, weight: float = 1.0, prompt: str | None = None
) -> Transcript:
    """The words of a recording of any length.

    It is cut into windows of at most 30 s, each at the quietest place in its last seconds.

    Args:
        path: an audio file.
        predictor: from `open_predictor`.
        weight: of the adapter; 1 is as trained.
        prompt: earlier text, or words to expect.

    Raises:
        DataError: the file can't be read.
    """
    audio = read_audio(Path(path))
    weights = dict.fromkeys(predictor.adapters.inner, weight)
    spans = cut(audio)
    segments: list[Segment] = []
    heard: str | None = None
    size = max(1, BATCH // predictor.options.beams)
    for i in range(0, len(spans), size):
        some = spans[i : i + size]
        clips = [audio[start:end] for start, end in some]
        hidden = torch.stack(predictor.stage.encode_audio(clips, LONGEST))
        if heard is None:
            heard = predictor.languages(hidden[:1], [None])[0]
        texts = predictor.speak(hidden, [heard] * len(some), [prompt] * len(some), weights)
        segments += [
            Segment(start / SAMPLE_RATE, end / SAMPLE_RATE, text)
            for (start, end), text in zip(some, texts, strict=True)
        ]
    text = " ".join(segment.text for segment in segments if segment.text)
    return Transcript(text, heard, tuple(segments))


def _base_name(base: str | None, adapter: Path | None) -> str:
    if base is not None:
        return base
    if adapter is not None:
        folder = adapter_folder(adapter, MARKER)
        if (folder / CARD).exists():
            return read_card(folder).base
    raise ConfigError(
        "no base model is named, and no adapter's card names one",
        "give --base, for example starter:whisper-base",
    )


def cut(audio: NDArray[np.float32], longest: float = LONGEST) -> list[tuple[int, int]]:
    """Consecutive spans of at most `longest` seconds that together are the whole recording.

    Args:
        audio: [samples], 16 kHz.

    Returns:
        (start, end) in samples; none for an empty recording.
    """
    most = int(longest * SAMPLE_RATE)
    spans: list[tuple[int, int]] = []
    start = 0
    while len(audio) - start > most:
        first = start + most - int(min(SEARCH, longest / 2) * SAMPLE_RATE)
        frames: Any = audio[first : start + most]
        frames = frames[: len(frames) // FRAME * FRAME].reshape(-1, FRAME)
        power = np.square(frames, dtype=np.float64).mean(axis=1)
        smooth = np.convolve(power, np.ones(SMOOTH) / SMOOTH, mode="same")
        # Zeros beyond the edges would make them look quiet.
        inner = slice(SMOOTH // 2, len(smooth) - SMOOTH // 2)
        end = first + (int(np.argmin(smooth[inner])) + SMOOTH // 2) * FRAME + FRAME // 2
        spans.append((start, end))
        start = end
    if start < len(audio):
        spans.append((start, len(audio)))
    return spans
