"""Critical errors: wrong numbers, doses, negations, sides and names, which change a reader's acts.

WER counts them like any other error. A transcript with "15 mg" for "50 mg", or with a lost "not",
may still have an excellent WER.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Literal

import numpy as np
from rapidfuzz.distance import Levenshtein

from mmtune.data.rows import Row
from mmtune.metrics.metric import Stat
from mmtune.metrics.text.normalize import normalize
from mmtune.metrics.text.transcribed_row import row_language
from mmtune.metrics.text.wer import scored
from mmtune.predict import Prediction

CriticalKind = Literal["number", "dose", "negation", "side", "name"]
KINDS: tuple[CriticalKind, ...] = ("number", "dose", "negation", "side", "name")

# The words that each kind counts.
COUNTED: dict[CriticalKind | None, str] = {
    None: "Numbers, doses, negations, sides and names",
    "number": "Numbers",
    "dose": "Doses, a number with its unit,",
    "negation": "Negations",
    "side": "Sides, left and right,",
    "name": "Names, words that the reference capitalises,",
}

# One name for each unit, with all its written and spoken forms.
UNITS = {
    "mg": "mg milligram milligrams milligramme milligrammes milligramm",
    "µg": "µg μg mcg ug microgram micrograms mikrogramm",
    "g": "g gram grams gramme grammes gramm",
    "kg": "kg kilo kilos kilogram kilograms kilogramm",
    "ml": "ml milliliter milliliters millilitre millilitres cc",
    "l": "l liter liters litre litres",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm centimeter centimeters centimetre centimetres zentimeter",
    "m": "m meter meters metre metres",
    "km": "km kilometer kilometers kilometre kilometres",
    "%": "% percent prozent",
    "unit": "unit units iu einheit einheiten",
    "mmol": "mmol millimole millimoles",
    "hour": "h hour hours",
    "minute": "min minute minutes",
    "v": "v volt volts",
    "a": "a amp amps ampere amperes",
}
# "a" is also an English word, and "m" and "l" are also letters, so units count only after a digit.
_UNIT = {spelling: unit for unit, spellings in UNITS.items() for spelling in spellings.split()}
NEGATIONS = {
    "en": "not no never none without neither nor cannot nobody nothing denies",
    "de": "nicht kein keine keinen keinem keiner keines nie niemals ohne nichts weder",
    "fr": "pas jamais sans aucun aucune rien ni non",
    "es": "no nunca sin jamás ningún ninguna ninguno nada ni",
}
SIDES = {
    "en": {"left": "left", "right": "right", "bilateral": "both", "bilaterally": "both"},
    "de": {
        **dict.fromkeys(("links", "linke", "linken", "linker", "linkes", "linkem"), "left"),
        **dict.fromkeys(("rechts", "rechte", "rechten", "rechter", "rechtes", "rechtem"), "right"),
        **dict.fromkeys(("beidseits", "beidseitig", "bilateral"), "both"),
    },
    "fr": {"gauche": "left", "droite": "right", "droit": "right", "bilatéral": "both"},
    "es": {
        **dict.fromkeys(("izquierda", "izquierdo"), "left"),
        **dict.fromkeys(("derecha", "derecho"), "right"),
        "bilateral": "both",
    },
}
NOUNS_CAPITALISED = {"de", "lb"}  # languages that write every noun with a capital, like a name
TITLES = {"dr.", "mr.", "mrs.", "ms.", "prof.", "st.", "sr.", "sra.", "m.", "mme."}
_SENTENCE_END = tuple(".!?:…")
_QUOTES = "\"'“”‘’«»()[]"
_AROUND = _QUOTES + ".,;:!?…"
_POSSESSIVE = re.compile(r"['’]s$")
_NUMBER = re.compile(r"[$£€]?(\d+(?:[.,:/]\d+)*)(%|[^\W\d_]*)")


def names(text: str, language: str = "en") -> frozenset[str]:
    """Find the words of names in a written text: capitalised words within a sentence.

    "We saw Dr. Smith in Berlin" has smith and berlin. Words in capitals only ("MRI") aren't names.
    In German, which capitalises all nouns, and in headings, names can't be found.

    Args:
        text: the text as it is written, not normalized.
        language: Whisper's code of the text's language.

    Returns:
        The words, normalized, so that they can be found in normalized texts.
    """
    tokens = text.split()
    bare = [_POSSESSIVE.sub("", token.strip(_AROUND)) for token in tokens]
    if language in NOUNS_CAPITALISED or not any(word[:1].islower() for word in bare):
        return frozenset()
    found: list[str] = []
    begins = True  # a sentence begins here; its first word always has a capital
    for token, word in zip(tokens, bare, strict=True):
        title = token.casefold() in TITLES
        letters = re.sub("['’-]", "", word)  # of O'Neil and Jean-Luc
        written = letters.isalpha() and word[0].isupper() and not word.isupper()
        if written and not (begins or title or word[:2] in ("I'", "I’")):
            found.append(word)
        begins = token.rstrip(_QUOTES).endswith(_SENTENCE_END) and not title
    words = normalize(" ".join(found), language).split()
    return frozenset(word for word in words if word.isalpha())  # "O'Neil" becomes "0 neil"


def critical(
    text: str, language: str = "en", named: Collection[str] = ()
) -> Iterator[tuple[CriticalKind, str]]:
    """Find the critical words, in order: ("dose", "50 mg"), ("negation", "not"), ("side", "left").

    All negations of a language count as the same: "no pain" for "not in pain" isn't an error.

    Args:
        text: normalized text, with numbers as digits and contractions written out.
        language: language of negations and sides; without entries in `NEGATIONS` and `SIDES`, only
            numbers, doses and names are found.
        named: words that are names (see `names`).
    """
    negations = set(NEGATIONS.get(language, "").split())
    sides = SIDES.get(language, {})
    words = text.split()
    taken = False
    for word, following in zip(words, (*words[1:], ""), strict=False):
        found = _NUMBER.fullmatch(word)
        if taken:
            taken = False  # this word was the unit of the number before it
        elif found:
            value, joined = found.groups()
            unit = _UNIT.get(joined or following)
            taken = unit is not None and not joined
            yield ("dose", f"{value} {unit}") if unit else ("number", value + joined)
        elif word in negations:
            yield "negation", "not"
        elif word in sides:
            yield "side", sides[word]
        elif word in named:
            yield "name", word


class CriticalErrors:
    """Wrong, missing or invented critical words per utterance. Statistic: (errors, 1).

    The number of errors is the edit distance between the two sequences of critical words
    (rapidfuzz), so two numbers that swap places are two errors.

    Args:
        language: language of rows that don't name theirs.
        kind: the kind to count; None: all. A dose without its unit counts as one error of all
            kinds together, but as one error of doses and one of numbers separately.
    """

    unit = "per utterance"
    higher_is_better = False
    rare = True

    def __init__(self, language: str = "en", kind: CriticalKind | None = None) -> None:
        self.language = language
        self.kind = kind
        self.name = f"{kind or 'critical'} errors"
        self.meaning = f"{COUNTED[kind]} that are wrong, missing or made up."

    def observe(self, row: Row, prediction: Prediction) -> Stat:
        """The number of errors in one utterance, and 1."""
        reference, hypothesis = self._critical_words(row, prediction)
        return np.array([Levenshtein.distance(reference, hypothesis), 1.0], dtype=np.float64)

    def reduce(self, stats: Sequence[Stat] | Stat) -> float | None:
        """Errors per utterance; None without utterances."""
        matrix = np.asarray(stats, dtype=np.float64).reshape(-1, 2)
        return float(matrix[:, 0].sum() / len(matrix)) if len(matrix) else None

    def occurs(self, row: Row, prediction: Prediction) -> bool:
        """Whether a row's reference or transcript has any critical word."""
        return any(self._critical_words(row, prediction))

    def _critical_words(
        self, row: Row, prediction: Prediction
    ) -> list[list[tuple[CriticalKind, str]]]:
        """Critical words of the reference and of the transcript. Only the reference tells which
        words are names, because a transcript's capitals are the model's guess."""
        language = row_language(row, self.language)
        named = names(row.reference, language)
        return [
            [each for each in critical(text, language, named) if self.kind in (None, each[0])]
            for text in scored(row, prediction, self.language)
        ]


CRITICAL = CriticalErrors()
NUMBER, DOSE, NEGATION, SIDE, NAME = (CriticalErrors(kind=kind) for kind in KINDS)
