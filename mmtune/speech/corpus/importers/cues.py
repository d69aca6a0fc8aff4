"""Cues of subtitles: one for each voice, joined up to the longest row, apart where voices overlap.

A cue holds what fits on a screen, not a sentence, so neighbouring cues of one voice are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from mmtune.speech.corpus.check_recording import MAX_SECONDS
from mmtune.speech.speech_row import SENTENCE_ENDS

GAP = 1.0  # seconds of silence that end a piece
ENOUGH = 15.0  # seconds after which the end of a sentence ends a piece
OVERLAP = 0.3  # seconds by which the cues of two voices may overlap


@dataclass(frozen=True)
class Cue:
    """One subtitle: start and end in seconds, its words, the speaker ("" if unknown), the channel.

    Attributes:
        channel: None is the recording's only one.
        count: cues of the file that it joins.
        parts: the voices and their words, if it holds those of several. Their names together are
            a voice of its own, so that it is joined with its like only.
        heard: nothing states its channel; it was told by its loudness.
    """

    start: float
    end: float
    text: str
    voice: str = ""
    channel: int | None = None
    count: int = 1
    parts: tuple[tuple[str, str], ...] = ()
    heard: bool = False

    def by_voice(self) -> list[Cue]:
        """A cue for each of its voices; the first counts as the cue of the file."""
        if not self.parts:
            return [self]
        return [
            replace(self, text=text, voice=voice, count=0 if i else self.count, parts=())
            for i, (voice, text) in enumerate(self.parts)
        ]


class Together(Cue):
    """A cue during which another voice speaks."""


def join(cues: Sequence[Cue], longest: float = MAX_SECONDS) -> list[Cue]:
    """Join neighbouring cues of one voice, up to `longest` seconds each.

    A piece ends if the voice changes, at a gap of more than `GAP`, or at the end of a sentence
    once the piece is `ENOUGH` long.
    """
    joined: list[Cue] = []
    for cue in cues:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.voice == cue.voice
            and cue.start - last.end <= GAP
            and max(last.end, cue.end) - last.start <= longest
            and not (last.end - last.start >= ENOUGH and last.text.endswith(SENTENCE_ENDS))
        ):
            joined[-1] = replace(
                last,
                end=max(last.end, cue.end),
                text=f"{last.text} {cue.text}",
                count=last.count + cue.count,
                parts=last.parts + cue.parts,
            )
        else:
            joined.append(cue)
    return joined


def pieces_of(cues: Sequence[Cue]) -> list[Cue]:
    """Join the cues of each channel; cues at the same time as another voice's are `Together`.

    A cue within such a cue of its own voice is `Together`, too: its sound holds words of that cue.

    Args:
        cues: in the order of time.
    """
    result: list[Cue] = []

    def channel(cue: Cue) -> int:
        return -1 if cue.channel is None else cue.channel

    for _, group in groupby(sorted(cues, key=channel), key=channel):
        own = list(group)
        together = _together(own)
        # A cue that is left out still separates its neighbours.
        run: list[Cue] = []
        for i, cue in enumerate(own):
            if i in together:
                result += [*join(run), Together(**vars(cue))]
                run = []
            else:
                run.append(cue)
        result += join(run)
    return sorted(result, key=lambda cue: (cue.start, cue.end))


def _together(cues: Sequence[Cue]) -> set[int]:
    """Places of the cues that may hold words of another cue that can't be joined with them."""
    found: set[int] = set()
    # The latest end so far, and the latest one of all voices but that cue's.
    latest, other = ("", float("-inf")), float("-inf")
    for i, cue in enumerate(cues):
        if (other if latest[0] == cue.voice else latest[1]) - cue.start > OVERLAP:
            found.add(i)
        if cue.voice == latest[0]:
            latest = cue.voice, max(latest[1], cue.end)
        elif cue.end > latest[1]:
            latest, other = (cue.voice, cue.end), latest[1]
        else:
            other = max(other, cue.end)
    following: Cue | None = None  # the next cue of another voice
    for i in range(len(cues) - 1, -1, -1):
        if i + 1 < len(cues) and cues[i + 1].voice != cues[i].voice:
            following = cues[i + 1]
        if following is not None and cues[i].end - following.start > OVERLAP:
            found.add(i)
    ends: dict[str, float] = {}  # the latest end of a voice's cues that are found
    for i in sorted(range(len(cues)), key=lambda i: (cues[i].start, -cues[i].end)):
        cue = cues[i]
        if i in found:
            ends[cue.voice] = max(ends.get(cue.voice, cue.end), cue.end)
        elif cue.end <= ends.get(cue.voice, float("-inf")):
            found.add(i)
    return found
