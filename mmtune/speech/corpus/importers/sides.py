"""Which channel of a call a speaker has, and the person behind a speaker's name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmtune.speech.corpus.speaker_labels import ROLE
from mmtune.speech.sound.channels import FRAME, ChannelMeter
from mmtune.speech.sound.read import decode, probe, require_file

AND = re.compile(r"[&+/,;]|\b(?:and|und|et|y)\b", re.IGNORECASE)
LOUDER = 4.0  # times the energy of the other channels: 6 dB
FAINT = 0.1  # times the mean energy of a frame; nobody talks in a fainter one
MOST = 0.6  # least share of a speaker's time in which the speaker's channel is the loudest
Span = tuple[float, float]  # seconds


def person(voice: str, recording: str) -> str:
    """Return what identifies a speaker: the name, or for a role the role in this recording.

    "Agent & customer" are roles, too.
    """
    roles = all(ROLE.fullmatch(each.strip()) for each in AND.split(voice))
    return f"{recording}: {voice}" if roles else voice


def numbered(voice: str) -> int | None:
    """Return the channel that a name says: `mmtune transcribe` names them "channel 1" …"""
    found = re.fullmatch(r"channel[ _#-]*([1-9])", voice.strip(), re.IGNORECASE)
    return int(found[1]) - 1 if found else None


def loudness_of(path: Path) -> NDArray[np.float64] | None:
    """Return the energy of each channel over time, [frames of `FRAME` seconds, channels].

    None if the channels don't hold different recordings. The last few files are remembered, because
    each row of a long call asks.

    Raises:
        AudioFault: the file can't be read.
    """
    require_file(path)
    status = path.stat()
    return _loudness_of(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _loudness_of(path: Path, changed: int, size: int) -> NDArray[np.float64] | None:
    info = probe(path)
    meter = ChannelMeter(info.rate)
    for block in decode(path, info):
        meter.add(block)
    if meter.verdict().wanted is not None or not meter.loudness:
        return None
    energy = np.square(np.concatenate(meter.loudness))
    energy.flags.writeable = False  # it is shared
    return energy


def loudest(energy: NDArray[np.float64], span: Span) -> int | None:
    """Return the channel that is `LOUDER` than the others during a span; None if none is."""
    sums = energy[_frames(span, energy)].sum(axis=0)
    best = int(np.argmax(sums))
    return best if sums[best] > LOUDER * (sums.sum() - sums[best]) else None


def channels_by_loudness(
    spans: Mapping[str, Sequence[Span]], energy: NDArray[np.float64]
) -> dict[str, int | None]:
    """Give each speaker the channel that is the loudest while the speaker talks.

    Args:
        spans: times at which each speaker talks.
        energy: from `loudness_of`.

    Returns:
        The channel of each speaker; no two have the same, unless there are more speakers than
        channels. None where no channel is the loudest for `MOST` of the time in which one is.
    """
    whole = energy.sum(axis=1)
    clear = (LOUDER + 1) * energy > LOUDER * whole[:, None]  # both sides talk at once: neither
    clear &= whole[:, None] > FAINT * whole.mean()
    scores = {
        name: list(np.sum([clear[_frames(span, energy)].sum(axis=0) for span in own], axis=0))
        for name, own in spans.items()
    }
    return assign(scores, {name: sum(each) for name, each in scores.items()})


def _frames(span: Span, energy: NDArray[np.float64]) -> slice:
    first = min(int(span[0] / FRAME), len(energy) - 1)
    return slice(first, max(first + 1, round(span[1] / FRAME)))


def assign(
    scores: Mapping[str, Sequence[float]], wholes: Mapping[str, float]
) -> dict[str, int | None]:
    """Choose a channel for each speaker, so that the sum of the scores is the largest.

    Args:
        scores: for each speaker the score of each channel.
        wholes: the score that is possible; a chosen one below `MOST` of it is no answer.
    """
    names = list(scores)
    count = len(scores[names[0]]) if names else 0
    if len(names) <= count:
        chosen = max(
            permutations(range(count), len(names)),
            key=lambda each: sum(scores[n][c] for n, c in zip(names, each, strict=True)),
        )
    else:
        chosen = tuple(int(np.argmax(scores[name])) for name in names)
    return {
        name: channel if scores[name][channel] > MOST * wholes[name] else None
        for name, channel in zip(names, chosen, strict=True)
    }
