"""Find terms, among up to 100,000, that a transcript may have misspelt, by sound and spelling.

Groups of 1 to 4 neighbouring words are joined and looked up among the terms by the pieces that they
share (letters, and sounds by Metaphone). The nearest terms are then compared by edit distance.
Terms that Whisper misspells often fall apart ("a pix a ban"), or sound alike and share few letters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.errors import ConfigError
from mmtune.speech.whisper.base import WhisperBase
from mmtune.system.stored import read_text, reason_of

MAX_TERMS = 100_000  # largest number of terms in a list
WORDS = 4  # largest number of words of the text that may stand for one term
NEAREST = 64  # number of terms per group of words that are compared by edit distance
MIN_SIMILARITY = 0.45  # least similarity (0 to 1) of a candidate
CHANCE = 0.35  # similarity of two unrelated words
LONG_TERM = 12  # number of letters above which length adds nothing to the score
SHORT = 3  # fewest letters of a group of words; shorter groups resemble too many terms
PROMPT_IDS = 223  # ids of a prompt, as in openai/whisper's decoding.py
LIMIT = 60  # largest number of terms in a prompt

# Metaphone's consonants that are confused with one another.
ALIKE = str.maketrans({"B": "P", "V": "F", "D": "T", "0": "T", "G": "K", "Z": "S", "J": "X"})


@dataclass(frozen=True)
class Listed:
    """The terms of a list, and how terms sound that aren't spoken as they are spelled.

    Attributes:
        terms: the terms in their order.
        spoken: how some of them sound, by term.
        name: the list's file; None for terms from Python.
        lines: line of each term in the file.
    """

    terms: tuple[str, ...]
    spoken: Mapping[str, str]
    name: str | None = None
    lines: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TermSource:
    """Where a term comes from: the list's file, if there is one, and the line, from 1."""

    list: str | None
    line: int


def read_list(path: Path) -> Listed:
    """Read a term list for transcription: one term per line, or `TERM = sounds like`.

    Comments begin with #. Sections are ignored.

    Raises:
        ConfigError: the file is missing, empty or not UTF-8, or has more than 100,000 terms.
    """
    try:
        lines = read_text(path).splitlines()
    except OSError as error:
        raise ConfigError(f"can't read {path}: {reason_of(error)}", "name a text file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", "save it as UTF-8") from None
    spoken: dict[str, str] = {}
    terms: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        left, _, sound = (part.strip() for part in line.partition("="))
        text = left.partition("|")[0].strip()  # other accepted spellings follow
        if text and not text.startswith(("#", "[")):
            terms.setdefault(text, number)
            if sound:
                spoken[text] = sound
    if not terms:
        raise ConfigError(f"{path} holds no term", "write one term per line")
    if len(terms) > MAX_TERMS:
        raise ConfigError(
            f"{path} holds {len(terms):,} terms; the limit is {MAX_TERMS:,}",
            "keep only rare terms",
        )
    return Listed(tuple(terms), spoken, str(path), terms)


class TermIndex:
    """An index of terms by sound and spelling.

    Args:
        terms: the terms, as they should be spelled.
        spoken: how some of them sound, by term.
        name: the list's file; None for terms from Python.
        lines: line of each term in the file; by default its place among `terms`, from 1.
    """

    def __init__(
        self,
        terms: Iterable[str],
        spoken: Mapping[str, str] | None = None,
        name: str | None = None,
        lines: Mapping[str, int] | None = None,
    ) -> None:
        self.terms = list(dict.fromkeys(terms))
        self.spoken = dict(spoken or {})
        self.name = name
        self.lines = lines or {term: i for i, term in enumerate(self.terms, start=1)}
        entries = [(t, i) for i, t in enumerate(self.terms)]
        entries += [(self.spoken[t], i) for i, t in enumerate(self.terms) if t in self.spoken]
        keyed = [(letters(text), i) for text, i in entries]
        keyed = [(key, i) for key, i in keyed if key]
        self._letters = [key for key, _ in keyed]
        self._owner = [i for _, i in keyed]
        self._sounds = [sound(key) for key in self._letters]
        self._columns: dict[str, int] = {}
        count = self._columns.setdefault
        places: list[int] = []
        starts = [0]
        for pair in zip(self._letters, self._sounds, strict=True):
            places += [count(piece, len(self._columns)) for piece in _pieces(*pair)]
            starts.append(len(places))
        columns = np.array(places, dtype=np.int64)
        counts = np.bincount(columns, minlength=1)
        # Rare pieces weigh more (inverse document frequency).
        self._weights = np.log1p(len(self._letters) / np.maximum(counts, 1)).astype(np.float32)
        self._matrix = self._vectors(columns, starts).T.tocsr()  # pieces x terms

    def _vectors(self, columns: NDArray[np.int64], starts: Sequence[int]) -> Any:
        """Rows of length 1 in a sparse matrix [rows, pieces]."""
        from scipy.sparse import csr_array  # type: ignore[import-untyped]

        values = self._weights[columns] if len(columns) else np.zeros(0, np.float32)
        rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        squares: Any = values.astype(np.float64) ** 2
        norms = np.sqrt(np.bincount(rows, squares, len(starts) - 1))
        scaled = values / np.maximum(norms, 1e-9)[rows].astype(np.float32)
        shape = (len(starts) - 1, len(self._weights))
        return csr_array((scaled, columns, np.array(starts)), shape=shape)

    def _query(self, groups: Sequence[str], sounds: Sequence[str]) -> Any:
        places: list[int] = []
        starts = [0]
        for pair in zip(groups, sounds, strict=True):
            known = (self._columns.get(piece) for piece in _pieces(*pair))
            places += [place for place in known if place is not None]
            starts.append(len(places))
        return self._vectors(np.array(places, dtype=np.int64), starts)

    def candidates(self, text: str, limit: int = LIMIT) -> list[tuple[str, float]]:
        """Return terms that a text may have misspelt, the best first.

        Args:
            text: transcript of a window by the first pass.
            limit: largest number of terms.

        Returns:
            (term, score). The score grows with similarity and length, so a long term that nearly
            matches comes before a short one that matches.
        """
        groups = list(dict.fromkeys(_groups(text)))
        if not groups or not self._letters:
            return []
        sounds = [sound(each) for each in groups]
        near = (self._query(groups, sounds) @ self._matrix).tocsr()
        best: dict[int, float] = {}
        for row, (own, heard) in enumerate(zip(groups, sounds, strict=True)):
            start, end = near.indptr[row], near.indptr[row + 1]
            places, values = near.indices[start:end], near.data[start:end]
            if len(values) > NEAREST:
                top = np.argpartition(values, -NEAREST)[-NEAREST:]
                places = places[top]
            for place in places.tolist():
                written, said = self._letters[place], self._sounds[place]
                likeness = _likeness(own, heard, written, said)
                if likeness < MIN_SIMILARITY:
                    continue
                score = (likeness - CHANCE) * min(len(own), len(written), LONG_TERM)
                term = self._owner[place]
                if score > best.get(term, 0.0):
                    best[term] = score
        ranked = sorted(best.items(), key=lambda each: (-each[1], each[0]))[:limit]
        return [(self.terms[term], score) for term, score in ranked]

    def likeness(self, text: str, term: str) -> float:
        """Return the similarity (0 to 1) of words and a term, in spelling and sound.

        A term of few letters, such as C++, is compared only by how it sounds, if the list says so.
        """
        own = letters(text)
        keys = [letters(each) for each in (term, self.spoken.get(term, "")) if each]
        return max(
            (
                _likeness(own, sound(own), key, sound(key))
                for key in keys
                if min(len(own), len(key)) >= SHORT
            ),
            default=0.0,
        )

    def source(self, term: str) -> TermSource:
        """Return the list and the line of a term."""
        return TermSource(self.name, self.lines[term])


def _likeness(own: str, heard: str, written: str, said: str) -> float:
    # The mean of both similarities; of the letters alone, where a script has no code of sounds.
    from rapidfuzz.distance import Levenshtein

    spelled = float(Levenshtein.normalized_similarity(own, written))
    if not (heard and said):
        return spelled
    return (spelled + float(Levenshtein.normalized_similarity(heard, said))) / 2


def letters(text: str) -> str:
    """Reduce a text to letters and digits in lower case, without accents and spaces."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in plain if c.isalnum())


def sound(key: str) -> str:
    """Return Metaphone's code of a word, with confusable consonants unified.

    The code is empty for scripts that Metaphone doesn't know.
    """
    from jellyfish import metaphone

    return str(metaphone(key)).translate(ALIKE) if key.isascii() else ""


def _pieces(key: str, code: str) -> list[str]:
    # Groups of three letters and of two consonants; beginning and end count as characters.
    padded, coded = f"^{key}$", f"^{code}$"
    found = [padded[i : i + 3] for i in range(len(padded) - 2)]
    if code:
        found += ["~" + coded[i : i + 2] for i in range(len(coded) - 1)]
    return found


def _groups(text: str) -> Iterable[str]:
    words = [key for word in re.findall(r"[\w'’]+", text) if (key := letters(word))]
    for count in range(1, WORDS + 1):
        for i in range(len(words) - count + 1):
            key = "".join(words[i : i + count])
            if len(key) >= SHORT:
                yield key


def prompt_with(
    base: WhisperBase, candidates: Sequence[tuple[str, float]], prompt: str | None = None
) -> str | None:
    """Make a prompt of as many of the best terms as fit.

    Args:
        base: the model whose tokens are counted.
        candidates: from `TermIndex`, the best first. The prompt has the best term last, next to
            the speech.
        prompt: text before the terms.

    Returns:
        The prompt; None if no term fits.
    """

    def count(text: str) -> int:
        return len(base.tokenizer.encode(" " + text, add_special_tokens=False))

    left = PROMPT_IDS - (count(prompt) if prompt else 0)
    chosen: list[str] = []
    for term, _ in candidates:
        left -= count(term) + 1  # the comma
        if left < 0:
            break
        chosen.append(term)
    if not chosen:
        return None
    listed = ", ".join(reversed(chosen))
    return f"{prompt.strip()} {listed}" if prompt and prompt.strip() else listed
