"""Runs of digits and letters that may be one number, such as a card's or an IBAN."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mmtune.privacy.atoms import Atom
from mmtune.privacy.spoken_words import SpokenWords

_STRONG = frozenset("-–—/()+")  # marks within a number
_WEAK = frozenset(",.·:…")  # marks within a number, or between two
MOST_BETWEEN = 6  # marks and fillers between two groups of a number
MAX_PART_LETTERS = 4


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
        sizes = [len(atom.value) for atom in self.atoms]
        ends = {*self.chunks, len(sizes)} if whole_chunks else set(range(1, len(sizes) + 1))
        for first in sorted(self.chunks) if whole_chunks else range(len(sizes)):
            for last in sorted((end for end in ends if end > first), reverse=True):
                if fewest <= sum(sizes[first:last]) <= most:
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
                yield CodeRun(text, tuple(run), frozenset({0} | chunks))
                run, chunks, between = [], set(), []
    if run:
        yield CodeRun(text, tuple(run), frozenset({0} | chunks))


_LINE_BREAK = re.compile(r"[\r\n]+")


def stretches(text: str, run: CodeRun) -> Iterator[tuple[int, int]]:
    """Places of a run in the text, one for each line, from its first atom there to its last."""
    first = run.atoms[0]
    last = first
    for atom in run.atoms[1:]:
        if _LINE_BREAK.search(text, last.end, atom.start):
            yield first.start, last.end
            first = atom
        last = atom
    yield first.start, last.end
