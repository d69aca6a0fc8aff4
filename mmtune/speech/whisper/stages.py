"""Stages whose outputs are cached: encoder states below the adapter, and the base's predictions.

Whisper's encoder always reads 30 s. Most utterances are far shorter, and the silence after them
costs as much as speech. A shorter window, with position embeddings cut to it, is several times
cheaper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmtune.errors import DataError
from mmtune.prefix.features import Features
from mmtune.prefix.stage import Part, Tensors
from mmtune.speech.sound import augment
from mmtune.speech.sound.augment import sounding
from mmtune.speech.sound.read import SAMPLE_RATE, content_of, read_row, row_seconds
from mmtune.speech.speech_options import Windows
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.whisper.base import WhisperBase
from mmtune.speech.whisper.encoder import encode_mel, finish
from mmtune.speech.whisper.forward import decode_all
from mmtune.speech.whisper.labels import Labels
from mmtune.speech.whisper.loss import CHUNK, LIKELY, likely
from mmtune.system.hashing import hash_json, hash_text

WINDOWS = (4, 5, 6, 7, 8, 10, 12, 15, 20, 30)  # seconds
MAX_WINDOW = WINDOWS[-1]
# Silence after the speech tells Whisper that it is over. Without it the untuned base repeats
# itself on many short windows (7 of 28 clips of speechocean762); with two seconds on few (1, as on
# 30 s), but still on some: compare models on padded windows.
MARGIN = 2.0
NAME, KEPT = "audio", "kept"
STAGE_VERSION = 1  # raised when the computation changes


def window_of(seconds: float, windows: Windows) -> int:
    """Choose the window of a clip, in seconds, by nothing but its length.

    Args:
        seconds: the clip's length.
        windows: "trimmed" for the smallest window that holds the clip and `MARGIN` seconds of
            silence; "padded" for 30 s always.

    Raises:
        ValueError: the clip is longer than 30 s.
    """
    if seconds > MAX_WINDOW:
        raise ValueError(f"{seconds:.2f} s is longer than Whisper's window of {MAX_WINDOW} s")
    fitting = (w for w in WINDOWS if seconds + MARGIN <= w)
    return MAX_WINDOW if windows == "padded" else next(fitting, MAX_WINDOW)


def seconds_of(row: SpeechRow) -> float:
    """Return the length of a row's span in seconds, from its file's header.

    Raises:
        AudioFault: the file can't be read, or has no such span.
    """
    return row_seconds(row)


def spoken_times(row: SpeechRow, speed: float = 1.0) -> list[tuple[float, float, str]]:
    """Return the segments of a row as (start, end, text), in seconds.

    A row without segments gets one, from its first to its last sound.

    Args:
        row: with or without segments.
        speed: speed of the view; times are divided by it.
    """
    if row.segments:
        return [(each.start / speed, each.end / speed, each.text) for each in row.segments]
    text = row.reference.strip()
    start, end = _sounding(_Heard(row)) if text else (0.0, 0.0)
    return [(start / speed, end / speed, text)]


class _Heard:
    # The key of a cache: rows have no hash, so rows with the same sound compare equal.
    def __init__(self, row: SpeechRow) -> None:
        self.row, self.content = row, row.content or content_of(row)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Heard) and other.content == self.content

    def __hash__(self) -> int:
        return hash(self.content)


@lru_cache(maxsize=65_536)
def _sounding(heard: _Heard) -> tuple[float, float]:
    start, end = sounding(read_row(heard.row))
    return start / SAMPLE_RATE, end / SAMPLE_RATE


class AudioStage:
    """Computes encoder states [frames, width] of audio, 50 frames per second of the window.

    The *audio* is padded with zeros, never the mel spectrogram: a zero mel is not silence, and the
    floor of the log-mel follows the loudest frame of the clip.

    Args:
        base: the model whose encoder runs.
        windows: see `window_of`.
        cut: number of encoder layers below the first adapted one. This stage runs them, and
            `finish` runs the others. None: all layers with the last norm run here.
        views: number of versions of a clip: the clip itself, and others that `augment.view` and
            `augment.mask_mel` make. All versions of a clip have the same window.
    """

    def __init__(
        self,
        base: WhisperBase,
        windows: Windows = "trimmed",
        cut: int | None = None,
        views: int = 1,
    ) -> None:
        self.base, self.cut, self.views = base, cut, views
        self.windows: Windows = windows
        self.encoder = base.model.model.encoder
        parameter = next(self.encoder.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.block = 1 if self.device.type == "cpu" else 16
        extractor = base.feature_extractor
        self.fingerprint = hash_json(
            {
                "version": STAGE_VERSION,
                "weights": base.fingerprint,
                "windows": [MARGIN, *WINDOWS] if windows == "trimmed" else [MAX_WINDOW],
                "features": {
                    name: getattr(extractor, name)
                    for name in ("feature_size", "hop_length", "n_fft", "sampling_rate", "dither")
                },
                "dtype": str(self.dtype),
            }
            | ({} if cut is None else {"cut": cut})
            | ({} if views == 1 else {"augment": augment.VIEW_VERSION, "speeds": augment.SPEEDS})
        )

    def part(self, row: SpeechRow, view: int = 0) -> Part:
        """Make the part of a row; its source is the row's content hash, or else the file's."""
        return Part(NAME, row.content or content_of(row), view, origin=row)

    def speed(self, part: Part) -> float:
        """Return the speed of a view relative to its clip; view 0 is the clip itself."""
        if not part.view:
            return 1.0
        fitting = augment.speeds_for(seconds_of(part.origin), MAX_WINDOW)
        return augment.draw_speed(fitting, self._seed(part))

    def _seed(self, part: Part) -> int:
        return int(hash_text(f"{part.source}|view {part.view}")[:12], 16)

    def window(self, row: SpeechRow) -> int:
        """Return the row's window in seconds: the window of its slowest view.

        Raises:
            DataError: the row is longer than 30 s.
        """
        seconds = seconds_of(row)
        slowest = min(augment.speeds_for(seconds, MAX_WINDOW)) if self.views > 1 else 1.0
        try:
            return window_of(seconds / slowest, self.windows)
        except ValueError as error:
            raise DataError(
                f"row {row.id!r}: {row.path} can't be used: {error}",
                "cut the recording into utterances, one per row, as files or with start and end",
            ) from None

    def shape_key(self, part: Part) -> str:
        """The part's window: parts of one window are encoded together."""
        return f"{self.window(part.origin)}s"

    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        """Encode parts of one window: {"hidden": [frames, width]} for each, on the CPU."""
        window = self.window(parts[0].origin)
        clips, seeds = [], []
        for part in parts:
            clip = read_row(part.origin, max_seconds=MAX_WINDOW + 1)
            seeds.append(self._seed(part) if part.view else None)
            if part.view:
                clip = augment.view(clip, self.speed(part), self._seed(part))
            clips.append(clip)
        return [{"hidden": hidden.cpu()} for hidden in self.encode_audio(clips, window, seeds)]

    @torch.no_grad()
    def encode_audio(
        self,
        clips: Sequence[NDArray[np.float32]],
        window: int,
        masks: Sequence[int | None] = (),
    ) -> list[Tensor]:
        """Encode clips on one window: states [frames, width] for each, on the base's device.

        Args:
            clips: [samples] each, 16 kHz; samples beyond the window are cut off.
            window: length in seconds.
            masks: for each clip, the seed of the masks on its spectrogram, or None.
        """
        results: list[Tensor] = []
        for start in range(0, len(clips), self.block):
            block = list(clips[start : start + self.block])
            real = len(block)
            if self.block > 1:  # a fixed shape, so that the batch's size can't change the kernel
                block += [np.zeros(1, np.float32)] * (self.block - real)
            mel = self.base.feature_extractor(
                block,
                sampling_rate=SAMPLE_RATE,
                max_length=window * SAMPLE_RATE,
                return_tensors="pt",
            ).input_features
            for i, seed in enumerate(masks[start : start + self.block]):
                if seed is not None:
                    frames = len(block[i]) // self.base.feature_extractor.hop_length
                    mel[i] = augment.mask_mel(mel[i], frames, seed)
            hidden = encode_mel(self.encoder, mel.to(self.device, self.dtype), self.cut)
            results.extend(each.clone() for each in hidden[:real])
        return results

    def finish(self, hidden: Tensor) -> Tensor:
        """Run the other layers on states [rows, frames, width], with the active adapter."""
        return finish(self.encoder, hidden, self.cut)


class KeptStage:
    """Computes what the untuned model predicts at each position of a row's text.

    Training keeps a share of these predictions (`task.keep_base`, see `loss`). They never change,
    so they are computed once per row and not in every epoch. The model hears the clip itself,
    without augmentation, and reads no prompt.

    Args:
        audio: the stage of the encoder states.
        features: source of the encoder states.
        model: the `PeftModel`; its adapter is off while this stage runs.
        labels: function that gives a row's ids, without a prompt.
    """

    # Each row is decoded alone, so other rows can't change the stored values. Rows share only the
    # projection, which is several times faster on a full chunk of fixed size.
    block = 16

    def __init__(
        self,
        audio: AudioStage,
        features: Features,
        model: Any,
        labels: Callable[[SpeechRow], Labels],
    ) -> None:
        self.audio, self.features, self.model, self.labels = audio, features, model, labels
        self.fingerprint = hash_json(
            {"version": 3, "likely": LIKELY, "chunk": CHUNK, "audio": audio.fingerprint}
        )

    def part(self, row: SpeechRow) -> Part:
        """Make the part of a row; its source is a hash of its audio and ids."""
        source = hash_text(f"{self.audio.part(row).source}|{self.labels(row).ids}")
        return Part(KEPT, source, origin=row)

    def shape_key(self, part: Part) -> str:
        """The same for all parts: any of them may be computed together."""
        return ""

    @torch.no_grad()
    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        """Predict each text: {"ids", "probabilities"}, each [spoken, LIKELY], on the CPU."""
        heard = self.features.get([self.audio.part(part.origin) for part in parts])
        decoder = self.audio.base.model.model.decoder
        states = []
        with self.model.disable_adapter():
            for part, each in zip(parts, heard, strict=True):
                labels = self.labels(part.origin)
                hidden = self.audio.finish(each["hidden"][None].to(self.audio.device))
                inputs = torch.tensor([labels.ids[:-1]], device=self.audio.device)
                states.append(decode_all(decoder, inputs, hidden)[0, labels.given - 1 :])
        ids, probabilities = likely(torch.cat(states), self.audio.base.model.proj_out.weight)
        lengths = [len(each) for each in states]
        return [
            {"ids": i.clone(), "probabilities": p.clone()}
            for i, p in zip(
                torch.split(ids.cpu(), lengths),
                torch.split(probabilities.cpu(), lengths),
                strict=True,
            )
        ]
