"""Find when the words of a transcript were said, and cut the recording at pauses.

A model transcribes the recording with word times, and its words are aligned with the given ones.
The text is always the given one. Stretches are left out if the model heard too few of their words,
or heard words that the transcript lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from mmtune.speech.corpus.check_recording import MAX_SECONDS
from mmtune.speech.speech_row import plain_words

if TYPE_CHECKING:
    from mmtune.speech.whisper.word_times import Word

UNHEARD = 4  # this many consecutive words that the model didn't hear form their own stretch
UNWRITTEN = 3  # this many consecutive words that the transcript lacks force a cut
TARGET = 15.0  # seconds after which the next pause ends a piece
PAUSE = 0.2  # seconds between two words that count as a pause
MARGIN = 0.15  # seconds kept before and after a piece's words, as far as the pauses allow


@dataclass(frozen=True)
class Placed:
    """A word of the transcript, with its time if the model heard it as it is written.

    `unwritten` counts the words that the model heard before it and the transcript lacks; `match` is
    the place of the heard word.
    """

    text: str
    start: float | None = None
    end: float | None = None
    unwritten: int = 0
    match: int | None = None


@dataclass(frozen=True)
class Stretch:
    """Consecutive words of the transcript between two times in seconds."""

    start: float
    end: float
    text: str
    heard: float  # share of its words that the model heard


def place(given: Sequence[str], heard: Sequence[Word]) -> list[Placed]:
    """Align the transcript's words with the heard ones; words that match get their times.

    Words are compared without case and punctuation. rapidfuzz's Levenshtein opcodes align them.
    """
    from rapidfuzz.distance import Levenshtein

    ours = [plain_words(word) for word in given]
    theirs = [plain_words(word.text) for word in heard]
    placed = [Placed(word) for word in given]
    for step in Levenshtein.opcodes(ours, theirs):
        if step.tag == "equal":
            for i, j in zip(
                range(step.src_start, step.src_end),
                range(step.dest_start, step.dest_end),
                strict=True,
            ):
                if ours[i]:
                    placed[i] = replace(placed[i], start=heard[j].start, end=heard[j].end, match=j)
        elif step.tag == "insert" and step.src_start < len(given):
            more = step.dest_end - step.dest_start
            placed[step.src_start] = replace(placed[step.src_start], unwritten=more)
    return placed


def stretches(
    placed: Sequence[Placed],
    seconds: float,
    longest: float = MAX_SECONDS,
    silence: float | None = None,
) -> list[Stretch]:
    """Cut placed words at pauses into stretches of at most `longest` seconds.

    A cut lies in the pause between two neighbouring words that were both heard, because only there
    no word can be cut off. After `TARGET` seconds the next pause ends a stretch; if there is no
    pause, the longest gap does.

    Args:
        placed: from `place`.
        seconds: the recording's length.
        longest: limit of a stretch in seconds.
        silence: a pause of this many seconds always ends a stretch; None: only after `TARGET`.
    """
    found: list[Stretch] = []
    for first, after in pairwise(_breaks(placed)):
        begin = next((w.end for w in reversed(placed[:first]) if w.end is not None), 0.0)
        end = next((w.start for w in placed[after:] if w.start is not None), seconds)
        found += _chunks(placed[first:after], begin, max(begin, end), longest, silence)
    return found


def _breaks(placed: Sequence[Placed]) -> list[int]:
    # Indices of words before which a stretch must begin, and the number of words.
    breaks = {0, len(placed)}
    breaks |= {i for i, word in enumerate(placed) if word.unwritten >= UNWRITTEN}
    place = 0
    for heard, words in groupby(placed, key=lambda word: word.start is not None):
        count = len(list(words))
        if not heard and count >= UNHEARD:
            breaks |= {place, place + count}
        place += count
    return sorted(breaks)


def _chunks(
    placed: Sequence[Placed],
    start: float,
    seconds: float,
    longest: float,
    silence: float | None,
) -> list[Stretch]:
    cuts: list[tuple[int, float, float]] = []  # index of the next word, time, length of the pause
    for i in range(1, len(placed)):
        before, after = placed[i - 1].end, placed[i].start
        if before is not None and after is not None:
            cuts.append((i, max(0.0, (before + after) / 2), after - before))
    found: list[Stretch] = []
    first = 0
    while first < len(placed):
        rest = [cut for cut in cuts if cut[0] > first and cut[1] > start]
        inside = [cut for cut in rest if cut[1] - start <= longest]
        ripe = [
            cut
            for cut in inside
            if (cut[1] - start >= TARGET and cut[2] >= PAUSE)
            or (silence is not None and cut[2] >= silence)
        ]
        last = seconds - start <= longest
        if ripe:
            chosen = ripe[0]
        elif last or not rest:
            chosen = (len(placed), seconds, 0.0)
        elif inside:
            chosen = max(inside, key=lambda cut: (cut[2], cut[1]))
        else:
            chosen = rest[0]  # nothing was heard for so long; the stretch will be left out
        words = placed[first : chosen[0]]
        known = [word for word in words if word.start is not None]
        begin, end = start, chosen[1]
        if words and words[0].start is not None:
            begin = max(begin, words[0].start - MARGIN)
        if words and words[-1].end is not None:
            end = min(end, words[-1].end + MARGIN)
        found.append(Stretch(begin, end, " ".join(w.text for w in words), len(known) / len(words)))
        first, start = chosen[0], chosen[1]
        cuts = [cut for cut in cuts if cut[0] > first]
    return found
