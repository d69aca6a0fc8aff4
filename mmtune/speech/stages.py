"""The frozen prefix of speech: the encoder below the adapter, on a window that fits the clip.

Whisper's encoder always sees 30 s. Most utterances are far shorter, and the rest is silence that
costs the same; a shorter window with the position embeddings cut to it is several times cheaper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmtune.data.rows import Row
from mmtune.errors import DataError
from mmtune.hashing import hash_json, hash_text
from mmtune.speech.audio import SAMPLE_RATE, content_of, read_row, row_seconds
from mmtune.speech.base import WhisperBase
from mmtune.speech.encoder import encode_mel, finish
from mmtune.speech.forward import decode_all
from mmtune.speech.labels import Labels
from mmtune.speech.loss import LIKELY, likely
from mmtune.speech.options import Windows
from mmtune.train.prefix import Features
from mmtune.train.task import Part, Tensors

WINDOWS = (4, 5, 6, 7, 8, 10, 12, 15, 20, 30)  # seconds
LONGEST = WINDOWS[-1]
# Silence after the speech tells Whisper that it is over. Without it the untuned base repeats
# itself on many short windows (7 of 28 clips of speechocean762); with two seconds on few (1, as on
# 30 s), but still on some: compare models on padded windows.
MARGIN = 2.0
NAME, KEPT = "audio", "kept"
VERSION = 1  # raised when the computation changes


def window_of(seconds: float, windows: Windows) -> int:
    """The window of a clip, in seconds: it follows from that clip alone.

    Args:
        seconds: the clip's length.
        windows: "trimmed" for the smallest window that holds it and `MARGIN` seconds of silence,
            "padded" for 30 s always.

    Raises:
        ValueError: the clip is longer than 30 s.
    """
    if seconds > LONGEST:
        raise ValueError(f"{seconds:.2f} s is longer than Whisper's window of {LONGEST} s")
    fitting = (w for w in WINDOWS if seconds + MARGIN <= w)
    return LONGEST if windows == "padded" else next(fitting, LONGEST)


def seconds_of(row: Row) -> float:
    """A row's length, that is, of its span, by its file's header.

    Raises:
        AudioFault: the file can't be read, or has no such span.
    """
    return row_seconds(row)


class AudioStage:
    """Audio -> the encoder's states [frames, width]; 50 frames a second of the window.

    The *audio* is padded with zeros, never the mel: a zero mel is not silence, and the floor of
    the log-mel follows the loudest frame of the clip.

    Args:
        base: whose encoder.
        windows: see `window_of`.
        cut: layers of the encoder below the first adapted one, which are run here; the others are
            left to `finish`. None: all, with the last norm.
    """

    def __init__(
        self, base: WhisperBase, windows: Windows = "trimmed", cut: int | None = None
    ) -> None:
        self.base, self.cut = base, cut
        self.windows: Windows = windows
        self.encoder = base.model.model.encoder
        parameter = next(self.encoder.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.block = 1 if self.device.type == "cpu" else 16
        extractor = base.feature_extractor
        self.fingerprint = hash_json(
            {
                "version": VERSION,
                "weights": base.fingerprint,
                "windows": [MARGIN, *WINDOWS] if windows == "trimmed" else [LONGEST],
                "features": {
                    name: getattr(extractor, name)
                    for name in ("feature_size", "hop_length", "n_fft", "sampling_rate", "dither")
                },
                "dtype": str(self.dtype),
            }
            | ({} if cut is None else {"cut": cut})
        )

    def part(self, row: Row) -> Part:
        """The part of a row; its source is the content hash that `check` gave, or the file's."""
        return Part(NAME, row.content or content_of(row), origin=row)

    def window(self, row: Row) -> int:
        """The row's window in seconds.

        Raises:
            DataError: it is longer than 30 s.
        """
        try:
            return window_of(seconds_of(row), self.windows)
        except ValueError as error:
            raise DataError(
                f"row {row.id!r}: {row.path} can't be used: {error}",
                "cut the recording into utterances, one a row, by files or by start and end",
            ) from None

    def shape_key(self, part: Part) -> str:
        """The window."""
        return f"{self.window(part.origin)}s"

    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        """States of parts of one window: {"hidden": [frames, width]} on the CPU."""
        window = self.window(parts[0].origin)
        clips = [read_row(part.origin, max_seconds=LONGEST + 1) for part in parts]
        return [{"hidden": hidden.cpu()} for hidden in self.encode_audio(clips, window)]

    @torch.no_grad()
    def encode_audio(self, clips: Sequence[NDArray[np.float32]], window: int) -> list[Tensor]:
        """States of clips on one window, each [frames, width], on the base's device.

        Args:
            clips: [samples] each, 16 kHz; what goes beyond the window is cut.
            window: seconds.
        """
        results: list[Tensor] = []
        for start in range(0, len(clips), self.block):
            block = list(clips[start : start + self.block])
            real = len(block)
            if self.block > 1:  # a fixed shape: batch-mates must not choose another kernel
                block += [np.zeros(1, np.float32)] * (self.block - real)
            mel = self.base.feature_extractor(
                block,
                sampling_rate=SAMPLE_RATE,
                max_length=window * SAMPLE_RATE,
                return_tensors="pt",
            ).input_features.to(self.device, self.dtype)
            hidden = encode_mel(self.encoder, mel, self.cut)
            results.extend(each.clone() for each in hidden[:real])
        return results

    def finish(self, hidden: Tensor) -> Tensor:
        """Encoder outputs from states [rows, frames, width], with the adapter that is active."""
        return finish(self.encoder, hidden, self.cut)


class KeptStage:
    """A row's audio and text -> what the untuned model predicts at each place of the text.

    It is what an adapter keeps where it has nothing to learn (see `loss`). Like everything below
    an adapter it never changes, so it is computed once a row and not in every epoch.

    Args:
        audio: the stage of the encoder outputs.
        features: where those come from.
        model: the `PeftModel`, whose adapter is off meanwhile.
        labels: a row's ids.
    """

    def __init__(
        self, audio: AudioStage, features: Features, model: Any, labels: Callable[[Row], Labels]
    ) -> None:
        self.audio, self.features, self.model, self.labels = audio, features, model, labels
        self.block = audio.block
        self.fingerprint = hash_json({"version": 2, "likely": LIKELY, "audio": audio.fingerprint})

    def part(self, row: Row) -> Part:
        """The part of a row; its source is the audio's and the ids."""
        source = hash_text(f"{self.audio.part(row).source}|{self.labels(row).ids}")
        return Part(KEPT, source, origin=row)

    def shape_key(self, part: Part) -> str:
        """Window and number of ids."""
        return f"{self.audio.window(part.origin)}s {len(self.labels(part.origin).ids)}"

    @torch.no_grad()
    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        """{"ids", "probabilities"} of parts of one shape, [ids - 1, LIKELY] each, on the CPU."""
        padded = [*parts, *[parts[0]] * (self.block - len(parts))]
        heard = self.features.get([self.audio.part(part.origin) for part in padded])
        hidden = torch.stack([each["hidden"] for each in heard]).to(self.audio.device)
        ids = [self.labels(part.origin).ids[:-1] for part in padded]
        decoder = self.audio.base.model.model.decoder
        with self.model.disable_adapter():
            heard_by_base = self.audio.finish(hidden)
            inputs = torch.tensor(ids, device=self.audio.device)
            states = decode_all(decoder, inputs, heard_by_base)
        weight = self.audio.base.model.proj_out.weight
        found = [likely(each, weight) for each in states[: len(parts)]]
        return [{"ids": i.cpu(), "probabilities": p.cpu()} for i, p in found]
