"""Read a text as atoms: digits, letters, words and marks, each with its place in the text.

Spoken numbers become digits here. text2num reads the number words; a grammar of our own reads what
it doesn't know: "double", "triple", "oh", spelled letters and words that stand for letters. No text
is rewritten, so the places of all atoms are those in the original.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from text_to_num import find_numbers

from mmtune.privacy.private_span import REPLACED
from mmtune.privacy.spoken_words import LANGUAGES, SpokenWords, plain, word_set

Form = Literal["digits", "ordinal", "letter", "letters", "word", "mark", "replaced"]
MOST_CAPITALS = 4  # letters of a group in capitals that may be part of a code, such as NWBK

_TOKEN = re.compile(rf"(?P<replaced>{REPLACED.pattern})|(?P<digits>\d+)|(?P<word>[^\W\d_]+)|\S")
_APOSTROPHES = "'’ʼ"
_INVISIBLE = ("Cf", "Mn")  # zero-width characters, soft hyphens, lone combining marks


@dataclass(frozen=True)
class Atom:
    """A piece of a text.

    Attributes:
        start: place of its first character.
        end: place after its last character.
        form: "digits" and "letter" are read from words, too; "letters" are written side by side;
            "ordinal" is such as "third" or "3rd"; "replaced" is what redaction has left.
        value: digits, capital letters, or the mark.
        word: the word, `plain`; empty for marks and written digits.
    """

    start: int
    end: int
    form: Form
    value: str
    word: str = ""

    @property
    def is_code(self) -> bool:
        """Whether it may be part of a number or code."""
        return self.form in ("digits", "letter", "letters")


class _Token:
    """A word for text2num, as its protocol `Token` asks."""

    def __init__(self, text: str, separate: bool) -> None:
        self._text = text
        self._separate = separate

    def text(self) -> str:
        return self._text

    def nt_separated(self, previous: _Token) -> bool:
        return self._separate

    def not_a_number_part(self) -> bool:
        return False


@dataclass(frozen=True)
class Reading:
    """A text as it is read in one language.

    Attributes:
        text: the text.
        language: one of `LANGUAGES`.
        atoms: all its atoms, in order.
    """

    text: str
    language: str
    atoms: Sequence[Atom]

    @classmethod
    def of(cls, text: str, language: str) -> Reading:
        """Read a text."""
        return cls(text, language, read_atoms(text, language))

    @property
    def words(self) -> SpokenWords:
        """The words of the language."""
        return LANGUAGES[self.language]

    def place(self, atom: Atom) -> int:
        """The place of an atom among all atoms."""
        return bisect_left(self.atoms, atom.start, key=lambda each: each.start)


def read_atoms(text: str, language: str) -> list[Atom]:
    """Read the atoms of a text in order.

    Args:
        text: any text, written or as it was spoken.
        language: one of `LANGUAGES`.
    """
    words = LANGUAGES[language]
    atoms = list(_written(text))
    atoms = _with_letters(text, atoms, words)
    atoms = _with_numbers(text, atoms, language)
    atoms = _with_repeats(atoms, words)
    atoms = _with_ordinals(text, atoms)
    return _without_lone_letters(text, atoms, words)


def _written(text: str) -> Iterator[Atom]:
    for found in _TOKEN.finditer(text):
        start, end = found.span()
        if found["replaced"]:
            yield Atom(start, end, "replaced", found[0])
        elif found["digits"]:
            digits = "".join(str(unicodedata.digit(c)) for c in found[0])
            yield Atom(start, end, "digits", digits)
        elif found["word"]:
            yield Atom(start, end, "word", found[0], plain(found[0]))
        elif unicodedata.category(found[0]) not in _INVISIBLE:
            yield Atom(start, end, "mark", found[0])


def _with_letters(text: str, atoms: list[Atom], words: SpokenWords) -> list[Atom]:
    """Read single letters, words that stand for one, and groups of letters in codes."""
    small = any(c.islower() for c in text)
    found: list[Atom] = []
    place = 0
    while place < len(atoms):
        atom = atoms[place]
        place += 1
        if atom.form != "word":
            found.append(atom)
            continue
        after_apostrophe = text[atom.start - 1 : atom.start] in _APOSTROPHES and atom.start > 0
        if text[atom.end : atom.end + 1] in _APOSTROPHES and atom.end < len(text):
            after_apostrophe = after_apostrophe or text[atom.end + 1 : atom.end + 2].isalpha()
        letter = _x_ray(text, atoms, place - 1) or words.letters.get(atom.word, "")
        if letter and atom.word == "x":
            ray = atoms[place + (atoms[place].form == "mark")]
            place = atoms.index(ray) + 1
            found.append(Atom(atom.start, ray.end, "letter", "X", "xray"))
        elif letter:
            found.append(replace(atom, form="letter", value=letter))
        elif atom.end == atom.start + 1 and atom.value.isascii() and not after_apostrophe:
            named = _named_letter(atoms, place, atom.word, words)
            end = atoms[named - 1].end if named > place else atom.end
            found.append(Atom(atom.start, end, "letter", atom.word.upper(), atom.word))
            place = named
        elif _is_code_part(text, atom, small):
            found.append(replace(atom, form="letters", value=atom.word.upper()))
        else:
            found.append(atom)
    return found


def _x_ray(text: str, atoms: Sequence[Atom], place: int) -> str:
    """ "X" where the words "x-ray" or "x ray" begin."""
    if atoms[place].word != "x":
        return ""
    rest = text[atoms[place].end : atoms[place].end + 4].casefold()
    return "X" if rest[:4] in ("-ray", " ray") else ""


def _named_letter(atoms: Sequence[Atom], place: int, letter: str, words: SpokenWords) -> int:
    """The place after "as in David", which explains a letter; `place` if there is none."""
    for phrase in words.spelled_like:
        end = place + len(phrase)
        if tuple(atom.word for atom in atoms[place:end]) == phrase and end < len(atoms):
            named = atoms[end].word
            if len(named) > 1 and named.startswith(letter):
                return end + 1
    return place


def _is_code_part(text: str, atom: Atom, small: bool) -> bool:
    """Whether letters stand at a digit's side, or are a group in capitals among small letters."""
    if not atom.word.isascii():
        return False
    beside = text[atom.start - 1 : atom.start] + text[atom.end : atom.end + 1]
    if any(c.isdigit() for c in beside):
        return True
    return small and atom.value.isupper() and 1 < len(atom.word) <= MOST_CAPITALS


def _with_numbers(text: str, atoms: list[Atom], language: str) -> list[Atom]:
    """Let text2num read the number words."""
    words = LANGUAGES[language]
    tokens, sources = [], []
    single = [find_digit(atom.word, language) for atom in atoms]
    for place, atom in enumerate(atoms):
        said = text[atom.start : atom.end]
        is_word = atom.form == "word" or (atom.form == "letter" and len(said) == 1)
        # text2num needs commas and hyphens; it can't take halves of surrogate pairs.
        said = said if is_word or (atom.form == "mark" and said.isascii()) else "□"
        compound = _compound_repeat(atom.word, words)
        if atom.word in words.decimal or atom.word in words.zeros or compound:
            said = "□"
        if place and text[atoms[place - 1].end : atom.start]:
            tokens.append(_Token(" ", False))
            sources.append(place)
        # "nine hundred one two": digits follow each other after the hundred.
        own = (
            place > 0 and atoms[place - 1].word in words.hundreds and all(single[place : place + 2])
        )
        tokens.append(_Token(said, own and len(single[place : place + 2]) == 2))
        sources.append(place)
    numbers: dict[int, tuple[int, str, bool]] = {}
    for number in find_numbers(tokens, language, threshold=0):
        first, last = sources[number.start], sources[number.end - 1]
        value = "".join(c for c in number.text if c.isdigit())
        if first == last and atoms[first].word in words.not_digits:
            continue
        numbers[first] = (last, value, number.is_ordinal)
    found, place = [], 0
    while place < len(atoms):
        atom = atoms[place]
        if place in numbers:
            last, value, is_ordinal = numbers[place]
            form: Form = "ordinal" if is_ordinal else "digits"
            found.append(Atom(atom.start, atoms[last].end, form, value, atom.word))
            place = last + 1
            continue
        repeat = _compound_repeat(atom.word, words)
        if repeat and (digit := find_digit(atom.word[repeat[0] :], language)):
            atom = replace(atom, form="digits", value=digit * repeat[1])
        elif atom.word in words.zeros and atom.form in ("word", "letter"):
            atom = replace(atom, form="letter", value="0")
        found.append(atom)
        place += 1
    return found


def find_digit(word: str, language: str) -> str:
    """The digit that a single word says; empty if it says none."""
    if not word or word in LANGUAGES[language].not_digits:
        return ""
    numbers = list(find_numbers([_Token(word, False)], language, threshold=0))
    if len(numbers) != 1 or numbers[0].is_ordinal or len(numbers[0].text) != 1:
        return ""
    return str(numbers[0].text)


def _compound_repeat(word: str, words: SpokenWords) -> tuple[int, int] | None:
    """Length of the first part and times of a word such as "doppelvier"."""
    for prefix, times in words.repeat_prefixes.items():
        if word.startswith(prefix) and len(word) > len(prefix):
            return len(prefix), times
    return None


def _with_repeats(atoms: list[Atom], words: SpokenWords) -> list[Atom]:
    """Apply "double" and "triple" to the digit or letter that follows."""
    found: list[Atom] = []
    place = 0
    while place < len(atoms):
        atom = atoms[place]
        place += 1
        times = words.repeats.get(atom.word, 0) if atom.form == "word" else 0
        after = place
        while (
            times
            and after < len(atoms)
            and (atoms[after].word in words.articles or atoms[after].value == "-")
        ):
            after += 1
        if not times or after >= len(atoms) or atoms[after].form not in ("digits", "letter"):
            found.append(atom)
            continue
        repeated = atoms[after]
        # "double zero seven" is read as 07 and then 007; "double forty" says both digits twice.
        head = 1 if repeated.value.startswith("0") else len(repeated.value)
        value = repeated.value[:head] * times + repeated.value[head:]
        found.append(Atom(atom.start, repeated.end, repeated.form, value, atom.word))
        place = after + 1
    return found


_ORDINAL_ENDS = word_set("st nd rd th er ere eme e o a")


def _with_ordinals(text: str, atoms: list[Atom]) -> list[Atom]:
    """Join "12th", "1er" and "3º", where text2num reads words alone."""
    found: list[Atom] = []
    for atom in atoms:
        last = found[-1] if found else None
        if (
            last is not None
            and last.form == "digits"
            and last.end == atom.start
            and len(last.value) <= 2
            and plain(text[atom.start : atom.end]) in _ORDINAL_ENDS
        ):
            found[-1] = replace(last, end=atom.end, form="ordinal")
        else:
            found.append(atom)
    return found


_SOFT_MARKS = frozenset(",-‐‑‒–—−.·/()")


def _without_lone_letters(text: str, atoms: list[Atom], words: SpokenWords) -> list[Atom]:
    """Take letters and "oh" for words again where no digit or letter is beside them."""

    def beside(place: int, step: int) -> Atom | None:
        while 0 <= (place := place + step) < len(atoms):
            if atoms[place].value not in _SOFT_MARKS and atoms[place].word not in words.fillers:
                return atoms[place]
        return None

    found = []
    for place, atom in enumerate(atoms):
        if atom.form in ("letter", "letters"):
            near = [each for each in (beside(place, -1), beside(place, 1)) if each is not None]
            kept = any(each.is_code for each in near)
            if atom.value == "0":
                kept = any(each.form == "digits" or each.value == "0" for each in near)
                spelled = all(each.form != "digits" for each in near) and atom.word == "o"
                if spelled and any(each.is_code for each in near):
                    atom, kept = replace(atom, value="O"), True
                if kept and atom.value == "0":
                    atom = replace(atom, form="digits")
            if not kept:
                atom = replace(atom, form="word", value=text[atom.start : atom.end])
        found.append(atom)
    return found
