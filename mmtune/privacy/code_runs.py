"""Runs of digits and letters that may be one number, such as a card's or an IBAN."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from mmtune.privacy.atoms import Atom
from mmtune.privacy.spoken_words import SpokenWords

_STRONG = frozenset("-‐‑‒–—−/()+")  # marks within a number
_WEAK = frozenset(",.·:…")  # marks within a number, or between two
MOST_BETWEEN = 6  # marks and fillers between two groups of a number
_LINE_BREAK = re.compile(r"[\r\n]")
_LONE = frozenset("AIOYE")  # letters that are words of their own


@dataclass(frozen=True)
class CodeRun:
    """Consecutive digits and letters with nothing but marks and fillers between them.

    Attributes:
        text: the whole text.
        atoms: the digits and letters.
        chunks: the places in `atoms` at which a new number may begin: the first, and those after a
            comma, a filler or a change of turns.
    """

    text: str
    atoms: tuple[Atom, ...]
    chunks: frozenset[int]

    @property
    def start(self) -> int:
        """Where it begins in the text."""
        return self.atoms[0].start

    @property
    def end(self) -> int:
        """Where it ends in the text."""
        return self.atoms[-1].end

    @property
    def value(self) -> str:
        """Its digits and letters without anything between them."""
        return "".join(atom.value for atom in self.atoms)

    @property
    def digits(self) -> str:
        """Its digits alone."""
        return "".join(atom.value for atom in self.atoms if atom.form == "digits")

    def part(self, first: int, last: int) -> CodeRun:
        """The run of its atoms from `first` up to, but not including, `last`."""
        chunks = frozenset({0} | {c - first for c in self.chunks if first <= c < last})
        return CodeRun(self.text, self.atoms[first:last], chunks)

    def lines(self) -> list[CodeRun]:
        """Its parts on each line of the text: what each turn says of it."""
        cuts = [
            place
            for place in range(1, len(self.atoms))
            if _LINE_BREAK.search(self.text, self.atoms[place - 1].end, self.atoms[place].start)
        ]
        return [self.part(a, b) for a, b in pairwise([0, *cuts, len(self.atoms)])]

    def places(self) -> list[tuple[int, int]]:
        """Its places in the text, one for each line."""
        return [(line.start, line.end) for line in self.lines()]

    def digit_runs(self) -> Iterator[CodeRun]:
        """Its parts between letters."""
        first = 0
        for place in range(len(self.atoms) + 1):
            if place == len(self.atoms) or self.atoms[place].form != "digits":
                if place > first:
                    yield self.part(first, place)
                first = place + 1

    def windows(self, fewest: int, most: int, *, whole_chunks: bool) -> Iterator[CodeRun]:
        """Parts with so many digits and letters, the earliest and then the longest first.

        Args:
            fewest: least number of digits and letters.
            most: greatest number.
            whole_chunks: whether a part begins and ends where a chunk does.
        """
        count = len(self.atoms)
        cuts = sorted({0, *self.chunks, count}) if whole_chunks else range(count + 1)
        # Characters before each cut; the windows from one cut end at consecutive ones.
        sizes = list(accumulate((len(atom.value) for atom in self.atoms), initial=0))
        before = [sizes[cut] for cut in cuts]
        for first, size in zip(cuts, before, strict=True):
            low, high = bisect_left(before, size + fewest), bisect_right(before, size + most)
            for last in reversed(cuts[low:high]):
                yield self.part(first, last)


def code_runs(text: str, atoms: Sequence[Atom], words: SpokenWords) -> Iterator[CodeRun]:
    """Find all runs of a text, in order."""
    run: list[Atom] = []
    chunks: set[int] = set()
    between: list[Atom] = []
    for atom in atoms:
        if atom.is_code:
            if run:
                gap = text[run[-1].end : atom.start]
                weak = [b for b in between if b.form == "word" or b.value in _WEAK]
                dotted = "." in gap and len(gap) == 1  # 030.1234, 24.11.1958
                if (weak and not dotted) or "\n" in gap:
                    chunks.add(len(run))
            run.append(atom)
            between = []
        elif run:
            between.append(atom)
            soft = atom.value in _STRONG or atom.value in _WEAK or atom.word in words.fillers
            if not soft or atom.form == "replaced" or len(between) > MOST_BETWEEN:
                yield from _trimmed(CodeRun(text, tuple(run), frozenset({0} | chunks)))
                run, chunks, between = [], set(), []
    if run:
        yield from _trimmed(CodeRun(text, tuple(run), frozenset({0} | chunks)))


def _trimmed(run: CodeRun) -> Iterator[CodeRun]:
    """Leave out a letter at the end that is a word, as in "…, I think" and "a 4711"."""
    first, last = 0, len(run.atoms)
    if _is_lone(run.atoms[-1]) and last - 1 in run.chunks:
        last -= 1
    begins = 1 in run.chunks or run.text[run.start : run.atoms[0].end].islower()
    if first < last and _is_lone(run.atoms[0]) and (last == 1 or begins):
        first += 1
    if first < last:
        yield run.part(first, last)


def _is_lone(atom: Atom) -> bool:
    return atom.value in _LONE and atom.end == atom.start + 1
