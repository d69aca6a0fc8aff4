"""Choose the channel of a row that names none, and remember the choice for a repeated import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.errors import MmtuneError
from mmtune.speech.sound.read import Channel, channels_of, choose_channel, probe
from mmtune.speech.speech_row import SpeechRow
from mmtune.system.stored import read_json_object

# By the kind of channels: why the channel was chosen. Copies of one channel leave no choice.
REASONS = {
    "one-sided": "the only channel that holds sound",
    "stereo": "its channels hold one source in stereo",
}


@dataclass(frozen=True)
class Choice:
    """The channel that a row is read from.

    Attributes:
        channel: as in `SpeechRow`; None if the file has one alone.
        reason: why it was chosen; empty if it was named, or nothing else could be meant.
    """

    channel: Channel | None = None
    reason: str = ""


def choices_in(mark: Path) -> Mapping[str, Any] | None:
    """Return the choices that an earlier import stored; None if it stored none of them."""
    try:
        known = read_json_object(mark, "").get("channels")
    except (OSError, MmtuneError):
        return None
    return known if isinstance(known, dict) else None


def stored_choice(value: Any) -> Choice:
    """Read one of `choices_in`; a row without one has no choice."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], int | str):
        return Choice(value[0] if isinstance(value[0], int) else "mix", str(value[1]))
    return Choice()


def choose(row: SpeechRow, max_seconds: float) -> Choice:
    """Choose the channel that a row is read from.

    Raises:
        AudioFault: the file can't be read, or its channels differ and the row names none.
    """
    if row.channel is not None:
        return Choice(row.channel)
    info = probe(row.path)
    if info.channels == 1:
        return Choice()
    found = channels_of(row, max_seconds=max_seconds)
    return Choice(choose_channel(row.path, found, info), REASONS.get(found.kind, ""))
