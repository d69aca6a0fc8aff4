"""Measure a recording's peak level, clipping and bandwidth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FULL = 0.995  # share of full scale; lossy codecs round off the edges of a clipped wave
RUN = 3  # consecutive samples at full scale: a loud peak has one, a clipped wave has several
WINDOW = 0.032  # length of a spectrum's window, in seconds
# The telephone band ends at 3.4 kHz, and 8 kHz sampling holds nothing above 4 kHz. Between these
# two bands the filter of a resampler falls far more steeply than the spectrum of a voice.
INSIDE, OUTSIDE = (2_000.0, 3_300.0), 4_400.0  # Hz
STEEP = 1e-4  # -40 dB: power outside, relative to inside, of a telephone recording
PRESENT = 1e-6  # -60 dB of the total power: a voice has at least this much inside


@dataclass(frozen=True)
class Signal:
    """Measures of one recording.

    Attributes:
        peak: full scale = 1.
        clipped: share of samples that lie in runs at full scale.
        levels: the peak of each channel without its mean, and last that of their mean: what is
            heard if the channels are mixed.
        narrow: whether there is nothing above 4 kHz although the sample rate allows it.
    """

    peak: float
    clipped: float
    narrow: bool
    levels: tuple[float, ...] = ()


class SignalMeter:
    """Accumulates a recording's blocks [frames] or [frames, channels]; channels count together."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.peak, self.frames, self.runs = 0.0, 0, 0
        self.least: NDArray[np.float64] | None = None  # of each channel, and of their mean
        self.most: NDArray[np.float64] | None = None
        self.total: NDArray[np.float64] | None = None
        self.length = 0  # frames of a channel
        self.size = int(WINDOW * rate)
        self.power = np.zeros(self.size // 2 + 1)
        self.taper = np.hanning(self.size).astype(np.float32)

    def add(self, block: NDArray[np.float32]) -> None:
        """Add one block of samples to the statistics."""
        level = np.abs(block if block.ndim == 2 else block[:, None])
        if not len(level):
            return
        self.peak = max(self.peak, float(level.max()))
        self._add_levels(block if block.ndim == 2 else block[:, None])
        self.frames += level.size
        full = level >= FULL
        if full.any():
            inner = full[: -RUN + 1].copy()
            for shift in range(1, RUN):
                inner &= full[shift : len(full) - RUN + 1 + shift]
            within = np.zeros_like(full)
            for shift in range(RUN):
                within[shift : len(full) - RUN + 1 + shift] |= inner
            self.runs += int(within.sum())
        if self.rate >= 2.2 * OUTSIDE:
            mono = block if block.ndim == 1 else block.mean(axis=1)
            framed = mono[: len(mono) // self.size * self.size].reshape(-1, self.size)
            self.power += np.square(np.abs(np.fft.rfft(framed * self.taper, axis=1))).sum(axis=0)

    def _add_levels(self, block: NDArray[np.float32]) -> None:
        channels = np.concatenate([block, block.mean(axis=1, keepdims=True)], axis=1)
        least, most = (np.asarray(f(channels, axis=0), np.float64) for f in (np.min, np.max))
        total = channels.sum(axis=0, dtype=np.float64)
        self.least = least if self.least is None else np.minimum(self.least, least)
        self.most = most if self.most is None else np.maximum(self.most, most)
        self.total = total if self.total is None else self.total + total
        self.length += len(block)

    def _levels(self) -> tuple[float, ...]:
        if self.least is None or self.most is None or self.total is None:
            return ()
        mean = self.total / self.length
        return tuple(np.maximum(self.most - mean, mean - self.least).tolist())

    def result(self) -> Signal:
        """The measures of all blocks so far."""
        clipped = self.runs / self.frames if self.frames else 0.0
        return Signal(self.peak, clipped, self._narrow(), self._levels())

    def _narrow(self) -> bool:
        total = float(self.power.sum())
        if total <= 0:
            return False
        frequency = np.arange(len(self.power)) * self.rate / self.size
        inside = self.power[(frequency >= INSIDE[0]) & (frequency <= INSIDE[1])]
        outside = self.power[frequency >= OUTSIDE]
        return bool(inside.sum() > PRESENT * total and outside.max() < STEEP * float(inside.mean()))
