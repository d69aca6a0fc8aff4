"""Names of a list, in the forms that transcripts have: case, possessives, diacritics, spelling."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from mmtune.errors import ConfigError
from mmtune.privacy.atoms import Atom, Reading
from mmtune.privacy.private_span import hide_replaced
from mmtune.privacy.spoken_words import plain, word_set
from mmtune.system.stored import read_text

MOST_NAMES = 100_000
FEWEST_SPELLED = 3  # letters of a spelled name
MOST_SPELLED = 80
FEWEST_PART = 3  # letters of a part of a name that is looked for alone
# Parts of names that say nothing alone.
_PARTICLES = word_set(
    "von van der den dem del della de da di do dos das du la le les el al bin ibn ben the san "
    "saint mac und and herr frau mrs miss dr prof sir"
)
_DIGRAPHS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa"})
_WORD = re.compile(r"[^\W\d_]+")


def read_names(path: Path) -> tuple[str, ...]:
    """Read a list of names: one on each line; blank lines and lines with # are skipped.

    Raises:
        ConfigError: the file is missing, is no text, holds no name or too many.
    """
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: the list of names can't be read: {error}", "correct it"
        ) from None
    lines = (line.strip() for line in text.splitlines())
    names = tuple(line for line in lines if line and not line.startswith("#"))
    if not any(_WORD.search(name) for name in names):
        raise ConfigError(f"{path} holds no names", "write one name on each line")
    if len(names) > MOST_NAMES:
        raise ConfigError(
            f"{path} holds {len(names):,} names; {MOST_NAMES:,} is the most",
            "leave out names that don't occur in these texts",
        )
    return names


class ListedNames:
    """Find the names of a list.

    Args:
        names: whole names, each of one or more words. The parts of a name are looked for, too, but
            only where they begin with a capital, or where the text has no capitals.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._whole: dict[str, set[tuple[str, ...]]] = {}  # by first word
        self._parts: set[str] = set()
        self._spelled: set[str] = set()
        unspaced = set()
        for name in names:
            words = _WORD.findall(unicodedata.normalize("NFC", name))
            if not words:
                continue
            if any(unicodedata.category(c) == "Lo" for c in name):
                unspaced.add(name.strip())
            for fold in (plain, _german):
                folded = tuple(fold(word) for word in words)
                orders = {folded, folded[::-1], ("".join(folded),)}
                for order in orders:
                    self._whole.setdefault(order[0], set()).add(order)
                self._spelled |= {"".join(folded).upper(), *(part.upper() for part in folded)}
                if len(folded) > 1:
                    parts = {part for part in folded if len(part) >= FEWEST_PART}
                    self._parts |= parts - _PARTICLES
        self._spelled = {each for each in self._spelled if len(each) >= FEWEST_SPELLED}
        self._spelled -= {each.upper() for each in _PARTICLES}
        # Scripts without spaces between words.
        pattern = "|".join(map(re.escape, sorted(unspaced, key=len, reverse=True)))
        self._unspaced = re.compile(pattern) if pattern else None

    def find(self, reading: Reading) -> Iterator[tuple[int, int]]:
        """Find the places of names in a text."""
        if self._unspaced is not None:
            for match in self._unspaced.finditer(reading.text):
                yield match.span()
        if self._whole:
            yield from self._written(reading.text)
            yield from self._letters(reading)

    def _written(self, text: str) -> Iterator[tuple[int, int]]:
        words = list(_WORD.finditer(hide_replaced(text)))
        folds = [_folds(match[0]) for match in words]
        has_capitals = any(c.isupper() for c in text)
        place = 0
        while place < len(words):
            length = self._length_at(text, words, folds, place)
            capital = words[place][0][0].isupper() or not has_capitals
            if not length and capital and not self._parts.isdisjoint(folds[place]):
                length = 1
            if length:
                yield words[place].start(), words[place + length - 1].end()
            place += length or 1

    def _length_at(
        self, text: str, words: Sequence[re.Match[str]], folds: Sequence[set[str]], place: int
    ) -> int:
        """Number of words of the longest whole name that begins at a word; 0 without one."""
        longest = 0
        for fold in folds[place]:
            for name in self._whole.get(fold, ()):
                end = place + len(name)
                fits = end <= len(words) and all(
                    part in folds[place + n] for n, part in enumerate(name)
                )
                if fits and len(name) > longest and _are_near(text, words[place:end]):
                    longest = len(name)
        return longest

    def _letters(self, reading: Reading) -> Iterator[tuple[int, int]]:
        """Names that are spelled, by letters or by words for them."""
        run: list[Atom] = []
        for atom in [*reading.atoms, None]:
            if atom is not None and atom.form in ("letter", "letters"):
                run.append(atom)
            elif atom is None or not (atom.value in ",-.'’" or atom.word == "apostrophe"):
                value = "".join(each.value for each in run)
                if self._holds_name(value):
                    yield from _lines(reading.text, run)
                run = []

    def _holds_name(self, letters: str) -> bool:
        letters = letters[:MOST_SPELLED]
        return any(
            letters[first:last] in self._spelled
            for first in range(len(letters))
            for last in range(first + FEWEST_SPELLED, len(letters) + 1)
        )


def _lines(text: str, run: Sequence[Atom]) -> Iterator[tuple[int, int]]:
    start, end = run[0].start, run[0].end
    for atom in run[1:]:
        if "\n" in text[end : atom.start]:
            yield start, end
            start = atom.start
        end = atom.end
    yield start, end


def _german(word: str) -> str:
    return plain(word.casefold().translate(_DIGRAPHS))


def _folds(word: str) -> set[str]:
    """The forms of a word that are compared: its own, and without a genitive's or plural's s."""
    folds = {plain(word), _german(word)}
    return folds | {fold[:-1] for fold in folds if len(fold) > FEWEST_PART and fold[-1] == "s"}


def _are_near(text: str, words: Sequence[re.Match[str]]) -> bool:
    """Whether nothing but a space, a hyphen, a comma or an apostrophe is between the words."""
    between = (text[a.end() : b.start()] for a, b in pairwise(words))
    return all(re.fullmatch(r"[ \t\u00a0]*[-‐'’,._]?[ \t\u00a0]*", gap) for gap in between)
