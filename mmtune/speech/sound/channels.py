"""Decide from the samples whether a file's channels hold one recording or several."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["one", "same", "one-sided", "stereo", "different"]
FRAME = 0.05  # seconds over which loudness is compared
QUIET = 10 ** (-60 / 20)  # a channel with a lower peak is silent; full scale = 1
FAINT = 0.01  # share of the loudest channel's peak; a channel below it is only hum or crosstalk
SAME = 0.999  # correlation of two copies, one of which may have gone through a lossy codec
ALIKE = 0.7  # correlation of one source in two microphones, or panned
# Correlation of loudness over time: one source in two microphones whose samples differ by delays.
LOUDNESS_ALIKE = 0.9


@dataclass(frozen=True)
class Channels:
    """How the channels of a recording relate.

    Attributes:
        kind: "one": a single channel. "same": copies. "one-sided": all but one are silent.
            "stereo": one source in several channels. "different": sides of a call, or two takes.
        loudest: the channel with the most energy.
        correlation: the lowest correlation of a sounding channel with the loudest one.
    """

    kind: Kind
    loudest: int = 0
    correlation: float = 1.0

    @property
    def wanted(self) -> int | Literal["mix"] | None:
        """The channel to read if the row names none; None if only a person can decide."""
        if self.kind == "different":
            return None
        return self.loudest if self.kind == "one-sided" else "mix"


class ChannelMeter:
    """Accumulates statistics over blocks [frames, channels] of any length, and gives a verdict."""

    def __init__(self, rate: int) -> None:
        self.size = max(1, int(FRAME * rate))
        self.frames = 0
        self.products: NDArray[np.float64] | None = None
        self.peaks: NDArray[np.float64] | None = None
        self.loudness: list[NDArray[np.float64]] = []
        self.rest: NDArray[np.float32] | None = None

    def add(self, block: NDArray[np.float32]) -> None:
        """Add one block [frames, channels] to the statistics."""
        if block.shape[1] == 1 or not len(block):
            return
        exact = block.astype(np.float64)
        peaks = np.abs(exact).max(axis=0)
        products = exact.T @ exact
        self.peaks = peaks if self.peaks is None else np.maximum(self.peaks, peaks)
        self.products = products if self.products is None else self.products + products
        self.frames += len(block)
        joined = block if self.rest is None else np.concatenate([self.rest, block])
        whole = len(joined) // self.size * self.size
        if whole:
            framed = joined[:whole].reshape(-1, self.size, joined.shape[1])
            self.loudness.append(np.sqrt(np.square(framed, dtype=np.float64).mean(axis=1)))
        self.rest = joined[whole:]

    def verdict(self) -> Channels:
        """Classify the channels by all blocks so far."""
        if self.products is None or self.peaks is None:
            return Channels("one")
        energy = np.diag(self.products)
        loudest = int(np.argmax(energy))
        floor = max(QUIET, FAINT * float(self.peaks[loudest]))
        others = [i for i in range(len(energy)) if i != loudest and float(self.peaks[i]) > floor]
        if float(self.peaks[loudest]) <= QUIET:
            return Channels("same", loudest)
        if not others:
            return Channels("one-sided", loudest)
        found = [
            float(self.products[i, loudest] / np.sqrt(energy[i] * energy[loudest])) for i in others
        ]
        least = min(found)
        level = min(float(energy[i] / energy[loudest]) for i in others)
        silent = len(others) + 1 < len(energy)
        if least >= SAME and level > 0.98 and not silent:
            return Channels("same", loudest, least)
        # Channels of opposite phase would cancel each other in a mix.
        if least >= ALIKE or (least > -0.3 and self._breathe(loudest, others) >= LOUDNESS_ALIKE):
            return Channels("stereo", loudest, least)
        return Channels("different", loudest, least)

    def _breathe(self, loudest: int, others: list[int]) -> float:
        if not self.loudness:
            return 0.0
        loudness = np.concatenate(self.loudness)
        if len(loudness) < 20 or not (loudness.std(axis=0)[[loudest, *others]] > 0).all():
            return 0.0
        # Few frames, or frames of steady loudness, decide nothing: two tones are equally loud.
        own = loudness[:, loudest]
        if own.std() < 0.25 * own.mean():
            return 0.0
        return min(float(np.corrcoef(own, loudness[:, i])[0, 1]) for i in others)


def measure(blocks: Iterable[NDArray[np.float32]], rate: int) -> Channels:
    """Classify the channels of a recording, given as blocks [frames, channels]."""
    meter = ChannelMeter(rate)
    for block in blocks:
        meter.add(block)
    return meter.verdict()
