"""Find terms in transcripts: one finder for training marks, `check`, scoring and transcription.

A term is found where the normalized words of a text (see `normalize`) are those of the term. Each
normalized word keeps its place in the text as it is written. That decides what normalization
hides: C, C++ and C# differ, and an acronym that is an everyday word in lower case (WHO, IT, AIDS)
is found only in capitals.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from mmtune.metrics.text.normalize import APOSTROPHES, UNSPACED, normalize
from mmtune.system.resources import resource

# Signs behind a letter that make another word of it (C++, C#), as they are written and kept.
SIGNS = {"+": "+", "\uff0b": "+", "#": "#", "\uff03": "#", "\u266f": "#"}
BEHIND = re.compile(f"[{''.join(map(re.escape, SIGNS))}]+")
OPENING = "\"'([{\u00ab\u201c\u2018"  # may stand before a word that begins with a dot (.NET)
# Letters and digits of scripts with spaces between words: all but those from Thai to Khmer and the
# Chinese and Japanese ones.
SPACED = re.compile(
    r"[^\W_\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uf900-\ufaff\uff66-\uff9d"
    r"\U00020000-\U0003ffff]"
)
FEW_WORDS = 3  # a text with fewer words may be an acronym and nothing else


@dataclass(frozen=True)
class TextWord:
    """A normalized word of a text and its place in the text as it is written.

    Attributes:
        text: the normalized word, with signs that belong to it ("c++"); in capitals if it is an
            everyday word in lower case and the text has it in capitals ("WHO").
        start, end: its first character in the text, and the one after its last.
        dotted: whether a dot stands before it as a part of it (.NET).
    """

    text: str
    start: int
    end: int
    dotted: bool = False


@dataclass(frozen=True)
class FoundTerm:
    """A term in a text.

    Attributes:
        term: the term's key, see `term_key`.
        start, end: its first character in the text, and the one after its last.
        first, last: its first word among `text_words`, and the one after its last.
    """

    term: str
    start: int
    end: int
    first: int
    last: int


class TermFinder:
    """Finds terms in transcripts: whole words, the longest term first, no overlaps.

    Args:
        terms: the terms; a term may have several words.
        language: language of the terms, and of texts whose language isn't given.
        variants: other spellings by term, found as the term. A term that isn't in `terms` may be
            named too: where it is written, none of `terms` is found.
    """

    def __init__(
        self,
        terms: Iterable[str],
        language: str | None = "en",
        variants: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.language = language
        self._keys: set[str] = set()
        self._spellings: dict[tuple[str, ...], tuple[str, str]] = {}  # (key, spelling) by words
        self._lengths: dict[str, tuple[int, ...]] = {}  # numbers of words, by the first word
        self._special: set[str] = set()  # words with a dot before them, and in capitals
        for term in terms:
            self._keys.add(self._add(term, term))
        for term, others in (variants or {}).items():
            for other in (term, *others):
                self._add(other, term)
        self._keys.discard("")

    def _add(self, spelling: str, term: str) -> str:
        words, key = _key_words(spelling, self.language), term_key(term, self.language)
        if words and key and words not in self._spellings:
            self._spellings[words] = key, spelling.strip()
            lengths = {*self._lengths.get(words[0], ()), len(words)}
            self._lengths[words[0]] = tuple(sorted(lengths, reverse=True))
            self._special.update(w for w in words if w.startswith(".") or w != w.lower())
        return key

    def __call__(
        self, text: str, more: Iterable[str] = (), language: str | None = None
    ) -> list[tuple[int, int]]:
        """Return (first, after the last) character of each term; see `find`."""
        return [(each.start, each.end) for each in self.find(text, more, language)]

    def count(self, text: str, language: str | None = None) -> Counter[str]:
        """Count how often each term occurs in a text, by the term's key."""
        return Counter(each.term for each in self.find(text, language=language))

    def find(
        self, text: str, more: Iterable[str] = (), language: str | None = None
    ) -> list[FoundTerm]:
        """Find the terms of a text, in its order.

        Args:
            text: a transcript or reference as it is written.
            more: further terms for this text, such as those that its row names.
            language: the text's language; None: that of the terms.
        """
        finders = [self]
        if extra := [term for term in more if term_key(term, self.language) not in self._keys]:
            finders.append(TermFinder(extra, self.language))
        code = language or self.language
        words = text_words(text, code)
        forms = [[each._form(word) for word in words] for each in finders]
        found: list[FoundTerm] = []
        at = 0
        while at < len(words):
            hits = [
                (last, finder, key, spelling)
                for finder, own in zip(finders, forms, strict=True)
                for last, key, spelling in finder._at(own, at)
                if code not in UNSPACED or not _inside(text, words[at].start, words[last - 1].end)
            ]
            if not hits:
                at += 1
                continue
            last, finder, key, spelling = max(hits, key=lambda hit: hit[0])
            if key in finder._keys:
                start, end = _widened(text, words[at].start, words[last - 1].end, spelling)
                found.append(FoundTerm(key, start, end, at, last))
            at = last
        return found

    def _form(self, word: TextWord) -> str:
        # A sentence may lack the space behind its dot, and a word may be stressed by capitals. So
        # they count only if a term has them.
        dotted = f".{word.text.lower()}"
        if word.dotted and dotted in self._special:
            return dotted
        return word.text if word.text in self._special else word.text.lower()

    def _at(self, forms: Sequence[str], at: int) -> Iterator[tuple[int, str, str]]:
        """The terms that begin at a word: (after the last word, key, spelling)."""
        for size in self._lengths.get(forms[at], ()):
            hit = self._spellings.get(tuple(forms[at : at + size]))
            if hit is not None and at + size <= len(forms):
                yield at + size, *hit


def term_key(term: str, language: str | None = "en") -> str:
    """Return what two spellings of one term share: normalized words, signs, telling capitals.

    It is the normalized term, but for terms such as C++, .NET and WHO. Empty: it has no words.
    """
    return " ".join(_key_words(term, language))


@lru_cache(maxsize=65_536)
def _key_words(term: str, language: str | None) -> tuple[str, ...]:
    # Several words in capitals are a heading, and not an acronym.
    words = _text_words(term, language, any(map(str.islower, term)) or len(term.split()) < 2)
    return tuple(f".{word.text.lower()}" if word.dotted else word.text for word in words)


@lru_cache(maxsize=1_024)
def text_words(text: str, language: str | None = "en") -> tuple[TextWord, ...]:
    """Return the normalized words of a text, each with its place in the text.

    Without signs and capitals they are the words of `normalize`. Words that normalization makes of
    several ("twenty one", 21), and the several that it makes of one ("isn't"), share a place.

    Args:
        text: a transcript or reference as it is written.
        language: Whisper's code; None is English.
    """
    # Where all is in capitals they tell nothing.
    telling = any(map(str.islower, text)) or len(text.split()) < FEW_WORDS
    return _text_words(text, language, telling)


def _text_words(text: str, language: str | None, telling: bool) -> tuple[TextWord, ...]:
    code = language or "en"
    parts = [part for piece in _pieces(text, code) for part in _parts(text, *piece, code)]
    whole = normalize(text, code).split()
    everyday = everyday_words(code) if telling else frozenset()
    found = []
    for word, (start, end) in zip(whole, _places(whole, parts), strict=True):
        signs = BEHIND.match(text, end) if end and text[end - 1].isalpha() else None
        if signs and not text[signs.end() : signs.end() + 1].isalpha():
            word += "".join(SIGNS[c] for c in signs.group())
            end = signs.end()
        elif word in everyday and _in_capitals(text[start:end]):
            word = word.upper()
        found.append(TextWord(word, start, end, _has_dot(text, start)))
    return tuple(found)


def _pieces(text: str, language: str) -> Iterator[tuple[int, int]]:
    """Yield the places of what may be words: runs of letters, marks, digits and apostrophes.

    Apostrophes at the ends of a run are quotation marks or a genitive. In languages without spaces
    each character is a run, with its marks.
    """
    start = None
    for place, c in enumerate([*text, " "]):
        kind = unicodedata.category(c)
        joins = kind[0] == "M" or kind == "Cf"
        quote = _is_quote(c)
        within = joins or kind[0] in "LN" or quote
        if start is not None and (not within or (language in UNSPACED and not joins)):
            end = place
            while end > start + 1 and _is_quote(text[end - 1]):
                end -= 1
            yield start, end
            start = None
        if start is None and within and not quote:
            start = place


def _is_quote(c: str) -> bool:
    return c == "'" or APOSTROPHES.match(c) is not None


def _parts(text: str, start: int, end: int, language: str) -> list[tuple[str, int, int]]:
    """Return the normalized words of a piece, each with its place.

    A word that isn't written as such (the "is" of "it's") gets the rest of the piece.
    """
    raw = text[start:end]
    words = normalize(raw, language).split()
    small = raw.lower()
    if len(words) < 2 or len(small) != len(raw):
        return [(word, start, end) for word in words]
    parts = []
    at = 0
    for word in words:
        place = small.find(word, at)
        if place < 0:
            parts.append((word, start + at, end))
        else:
            at = place + len(word)
            parts.append((word, start + place, start + at))
    return parts


def _places(whole: Sequence[str], parts: Sequence[tuple[str, int, int]]) -> list[tuple[int, int]]:
    """Return the place of each word of the whole normalized text, by the words of its pieces."""
    own = [word for word, _, _ in parts]
    if own == list(whole):
        return [(start, end) for _, start, end in parts]
    places: list[tuple[int, int]] = []
    for equal, (a, b), (c, d) in aligned(own, whole):
        if equal:
            places += [(start, end) for _, start, end in parts[a:b]]
        elif a < b:
            places += [(parts[a][1], parts[b - 1][2])] * (d - c)
        else:  # a word that no piece gives
            end = parts[a - 1][2] if a else 0
            places += [(end, end)] * (d - c)
    return places


def aligned(
    first: Sequence[str], second: Sequence[str]
) -> Iterator[tuple[bool, tuple[int, int], tuple[int, int]]]:
    """Align two sequences of words by their longest common subsequence.

    Yields:
        In order: whether a block is equal in both, and its range in the first and in the second.
    """
    from rapidfuzz.distance import LCSseq

    a = c = 0
    for op in [*LCSseq.opcodes(first, second), None]:
        if op is not None and op.tag != "equal":
            continue
        b, d = (len(first), len(second)) if op is None else (op.src_start, op.dest_start)
        if a < b or c < d:
            yield False, (a, b), (c, d)
        if op is not None:
            a, c = op.src_end, op.dest_end
            yield True, (op.src_start, a), (op.dest_start, c)


@cache
def everyday_words(language: str) -> frozenset[str]:
    """Everyday words of a language that also occur as acronyms; none for most languages."""
    path = resource("assets", "words") / f"{language}.txt"
    if not path.is_file():
        return frozenset()
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def _in_capitals(written: str) -> bool:
    name = APOSTROPHES.sub("'", written).partition("'")[0]  # WHO's
    letters = [c for c in name if c.isalpha()]
    return len(letters) > 1 and all(map(str.isupper, letters))


def _has_dot(text: str, start: int) -> bool:
    if start < 1 or text[start - 1] != "." or not text[start : start + 1].isalpha():
        return False
    return start == 1 or text[start - 2].isspace() or text[start - 2] in OPENING


def _inside(text: str, start: int, end: int) -> bool:
    """Whether a place begins or ends inside a word of a script with spaces: MRI in MRIS."""
    edges = ((start - 1, start), (end - 1, end))
    return any(
        left >= 0
        and right < len(text)
        and bool(SPACED.match(text[left]))
        and bool(SPACED.match(text[right]))
        for left, right in edges
    )


def _widened(text: str, start: int, end: int, spelling: str) -> tuple[int, int]:
    """Take in the signs around a term that its spelling in the list has too: "q.d."."""
    kept = [place for place, c in enumerate(spelling) if c.isalnum()]
    if not kept:
        return start, end
    head, tail = spelling[: kept[0]], spelling[kept[-1] + 1 :]
    if head and text[:start].endswith(head):
        start -= len(head)
    if tail and text.startswith(tail, end):
        end += len(tail)
    return start, end
