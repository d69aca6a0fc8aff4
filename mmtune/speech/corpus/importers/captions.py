"""Read the captions of SRT and WebVTT files, and the lines that belong to none.

WebVTT is read as its specification says (https://www.w3.org/TR/webvtt1/). SRT has none: a line of
times begins a caption, with or without a number before it, and blank lines within a caption belong
to it, as in FFmpeg.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
TIMES = re.compile(rf"\s*{TIME}\s*-->\s*{TIME}(?:\s.*)?")
ARROW = re.compile(r"\s*[\d:.,\s]*-->")  # a line that is meant as times, right or wrong
LINES = re.compile(r"\r\n|\r|\n")
# Tags have a greatest length, because many that never end would take time squared.
VOICE = re.compile(r"<v(?:\.[^\s>]{0,300})?\s([^>]{0,300})>")  # WebVTT's voice span
TAG = re.compile(r"</?[a-zA-Z0-9][^>]{0,300}>|\{\\[^}]{0,300}\}")  # <i>, <00:01.000>, {\an8}


@dataclass(frozen=True)
class Caption:
    """One caption: start and end in seconds, and its lines as they are written."""

    start: float
    end: float
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Captions:
    """The captions of a file, the lines that belong to none, and the header of WebVTT.

    `unused` has the number and the text of each line.
    """

    captions: tuple[Caption, ...]
    unused: tuple[tuple[int, str], ...] = ()
    header: Mapping[str, str] = field(default_factory=dict)


def decoded(data: bytes) -> str:
    """Decode UTF-8, or UTF-16 that begins with a byte order mark.

    Raises:
        UnicodeDecodeError: it is another encoding.
    """
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    return data.decode("utf-16" if marked else "utf-8-sig")


def read_srt(text: str) -> Captions:
    """Read SRT."""
    lines = LINES.split(text)
    starts = [i for i, line in enumerate(lines) if ARROW.match(line)]
    numbered = bool(starts and starts[0] and lines[starts[0] - 1].strip().isdigit())
    found: list[Caption] = []
    unused: list[tuple[int, str]] = []
    for place, begin in enumerate(starts):
        after = starts[place + 1] if place + 1 < len(starts) else len(lines)
        last = after - 1
        # The number of the next caption; without numbers in the file, digits are spoken, unless
        # they stand alone.
        if (
            after < len(lines)
            and last > begin
            and lines[last].strip().isdigit()
            and (numbered or not lines[last - 1].strip())
        ):
            after = last
        body = [line for line in lines[begin + 1 : after] if line.strip()]
        times = TIMES.fullmatch(lines[begin])
        if times is None:
            unused += [(n + 1, lines[n]) for n in range(begin, after) if lines[n].strip()]
        else:
            found.append(Caption(*_seconds(times, milliseconds=True), tuple(body)))
    first = starts[0] if starts else len(lines)
    head = range(first - 1 if numbered else first)
    unused += [(n + 1, lines[n]) for n in head if lines[n].strip()]
    return Captions(tuple(found), tuple(sorted(unused)))


def read_vtt(text: str) -> Captions:
    """Read WebVTT.

    Raises:
        ValueError: the file doesn't begin with WEBVTT.
    """
    lines = LINES.split(text)
    if not re.fullmatch(r"WEBVTT(?:[ \t].*)?", lines[0]):
        raise ValueError("it doesn't begin with the line WEBVTT")
    header: dict[str, str] = {}
    first = 1
    while first < len(lines) and lines[first].strip() and "-->" not in lines[first]:
        key, _, value = lines[first].partition(":")
        header[key.strip().casefold()] = value.strip()
        first += 1
    found: list[Caption] = []
    unused: list[tuple[int, str]] = []
    for begin, block in _blocks(lines, first):
        if re.match(r"NOTE(?:\s|$)", block[0]):
            continue
        if not found and re.fullmatch(r"(?:STYLE|REGION)\s*", block[0]):
            continue
        arrows = [i for i, line in enumerate(block) if "-->" in line]
        # Lines before the times: one is the caption's identifier, more are text without times.
        before = arrows[0] if arrows else len(block)
        if before > 1 or not arrows:
            unused += [(begin + i + 1, block[i]) for i in range(before)]
        for i, arrow in enumerate(arrows):
            end = arrows[i + 1] if i + 1 < len(arrows) else len(block)
            times = TIMES.fullmatch(block[arrow])
            if times is None:
                unused += [(begin + n + 1, block[n]) for n in range(arrow, end)]
            else:
                spoken = tuple(line for line in block[arrow + 1 : end] if line.strip())
                found.append(Caption(*_seconds(times, milliseconds=False), spoken))
    return Captions(tuple(found), tuple(unused), header)


def without_repeats(captions: Sequence[Caption]) -> tuple[list[Caption], int]:
    """Leave out the words that a caption repeats from the caption before it.

    Live captions scroll: each caption shows the last line of the one before it again. Others grow
    word by word. A file counts as such only if many of its captions do so, because people repeat
    themselves too. The same words at the same time are always left out. The words that remain keep
    their voice (<v Name>).

    Returns:
        The captions, and the number of words that were left out.
    """
    pairs = list(pairwise(captions))
    scrolled = sum(len(b.lines) > 1 and bool(_carried(a.lines, b.lines)) for a, b in pairs)
    grown = sum(_grows(a.lines, b.lines) for a, b in pairs)
    moving = (scrolled > 0 and 3 * scrolled >= len(pairs)) or (
        grown >= 3 and 2 * grown >= len(pairs)
    )
    result = list(captions[:1])
    left_out = 0
    for before, each in pairs:
        twice = each.lines == before.lines and each.start < before.end
        if not moving and not twice:
            result.append(each)
            continue
        again = _carried(before.lines, each.lines)
        words = len(_words(each.lines[:again]))
        if not again and _grows(before.lines, each.lines):
            words = len(_words(before.lines))
        left_out += words
        if rest := _after(each.lines, words) if words else each.lines:
            result.append(Caption(each.start, each.end, rest))
    return result, left_out


def _carried(before: Sequence[str], lines: Sequence[str]) -> int:
    """The number of first lines that were the last lines of the caption before."""
    for count in range(min(len(before), len(lines)), 0, -1):
        if list(map(_plain, before[-count:])) == list(map(_plain, lines[:count])):
            return count
    return 0


def _grows(before: Sequence[str], lines: Sequence[str]) -> bool:
    old, new = _words(before), _words(lines)
    return 3 <= len(old) < len(new) and new[: len(old)] == old


def _after(lines: Sequence[str], words: int) -> tuple[str, ...]:
    """The lines without their first words, and with the voice that says the rest."""
    voice = ""
    for i, line in enumerate(lines):
        inside = False  # a word: a tag may stand within one
        place = 0
        while place < len(line):
            if tag := TAG.match(line, place):
                place = tag.end()
                if VOICE.fullmatch(tag[0]):
                    voice = tag[0]
                elif tag[0] == "</v>":
                    voice = ""
                continue
            if not inside and not line[place].isspace():
                if not words:
                    return (voice + line[place:], *lines[i + 1 :])
                words -= 1
            inside = not line[place].isspace()
            place += 1
    return ()


def _words(lines: Sequence[str]) -> list[str]:
    return " ".join(map(_plain, lines)).split()


def _plain(line: str) -> str:
    return " ".join(TAG.sub("", line).split())


def _blocks(lines: Sequence[str], first: int) -> Iterator[tuple[int, list[str]]]:
    block: list[str] = []
    for i in range(first, len(lines) + 1):
        if i < len(lines) and lines[i].strip():
            block.append(lines[i])
        elif block:
            yield i - len(block), block
            block = []


def _seconds(times: re.Match[str], *, milliseconds: bool) -> tuple[float, float]:
    # ",5" is 5 milliseconds in SRT, as FFmpeg reads it, and half a second elsewhere.
    both = []
    for hours, minutes, seconds, rest in (times.groups()[:4], times.groups()[4:8]):
        part = int(rest or 0) / 1000 if milliseconds else float(f"0.{rest or 0}")
        both.append(round((int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds) + part, 3))
    return both[0], both[1]
