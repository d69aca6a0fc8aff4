"""A second pass changes a transcript only where a term of the list sounds like what stood there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtune.metrics.text.term_finder import TermFinder
from mmtune.speech.transcription.retrieve import MIN_SIMILARITY, TermIndex
from mmtune.speech.transcription.splice import SURE, splice, spliced_words
from mmtune.speech.transcription.transcript import PlacedTerm

SPOKEN = {"NSTEMI": "en stemmy", "C++": "see plus plus"}
LISTED = [
    *("metoprolol", "losartan", "atrial fibrillation", "NSTEMI", "HbA1c", "WHO", "C++"),
    *("beta-blocker", "Momentally", "Prysm", "São Paulo", "Нурофен", "アスピリン"),
]  # fmt: skip
INDEX = TermIndex(LISTED, SPOKEN)

# (first pass, second pass, expected)
SPLICED = [
    # one word, several words for one, part of a term
    ("He was given metaprolol today.", "He was given metoprolol to-day.",
     "He was given metoprolol today."),
    ("We discussed law certain and its side effects.", "We discussed losartan and it's a defect.",
     "We discussed losartan and its side effects."),
    ("She has atrial fabulation now.", "She had atrial fibrillation now.",
     "She has atrial fibrillation now."),
    ("It was an end stemmy, he said.", "It was a NSTEMI.", "It was an NSTEMI, he said."),
    ("write it in C plus plus again", "write it in C++ again", "write it in C++ again"),
    # punctuation, possessives and capitals stay
    ("Metaprolol, please: metaprolol!", "metoprolol please metoprolol",
     "Metoprolol, please: metoprolol!"),
    ("metaprolol's dose", "metoprolol's dosage", "metoprolol's dose"),
    ("the \u201cmetaprolol\u201d dose", "the metoprolol dose", "the \u201cmetoprolol\u201d dose"),
    ("non-metaprolol days", "non metoprolol days", "non-metoprolol days"),
    # the writing alone
    ("an nstemi with hba1c", "an NSTEMI with HbA1c", "an NSTEMI with HbA1c"),
    ("a beta blocker a day", "a beta-blocker a day", "a beta blocker a day"),
    ("Metoprolol helps", "metoprolol helped", "Metoprolol helps"),
    # other scripts
    ("we flew to sao paolo", "we flew to São Paulo", "we flew to São Paulo"),
    ("он принял нурафен вчера", "он принял Нурофен", "он принял Нурофен вчера"),
    # what the second pass makes up stays out
    ("It is cold and wet.", "It is cold and wet. metoprolol", "It is cold and wet."),
    ("It is cold and wet.", "metoprolol is cold and wet.", "It is cold and wet."),
    ("I ordered a big pizza there.", "I ordered a metoprolol there.",
     "I ordered a big pizza there."),
    ("who asked us about it", "WHO asked US about it", "who asked us about it"),
    ("a price in C", "a price in C++", "a price in C"),
    ("It is cold.", "", "It is cold."),
    ("", "metoprolol", ""),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "expected"), SPLICED)
def test_only_what_sounds_like_the_term_is_replaced(first: str, second: str, expected: str) -> None:
    text, placed = splice(first, second, INDEX, LISTED)
    assert text == expected
    assert bool(placed) == (first != expected)


def test_a_language_without_spaces() -> None:
    text, placed = splice("毎日アズピリンを飲む", "毎日アスピリンをのむ", INDEX, LISTED, "ja")
    assert text == "毎日アスピリンを飲む"
    assert [each.original for each in placed] == ["アズピリン"]


def test_a_placed_term_says_where_it_comes_from() -> None:
    lines = {term: 10 + i for i, term in enumerate(LISTED)}
    index = TermIndex(LISTED, SPOKEN, "drugs.txt", lines)
    first = "Losartin was changed to metaprolol."
    text, placed = splice(first, "losartan was changed to metoprolol", index, LISTED)
    assert text == "Losartan was changed to metoprolol."
    assert placed == (
        PlacedTerm("losartan", "drugs.txt", 11, "Losartin", 0.9375, 0, 8),
        PlacedTerm("metoprolol", "drugs.txt", 10, "metaprolol", 0.95, 24, 34),
    )
    assert [text[each.start : each.end] for each in placed] == ["Losartan", "metoprolol"]
    assert splice(first, text, TermIndex(LISTED), LISTED)[1][1].line == 1


@pytest.mark.parametrize(
    ("chance", "expected"),
    [(SURE, "The monthly price rose."), (SURE - 0.1, "The Momentally Prysm rose.")],
)
def test_words_that_the_first_pass_is_sure_of_stay(chance: float, expected: str) -> None:
    first = "The monthly price rose."
    words = [["The", 0.99], [" monthly", chance], [" price", chance], [" rose", 0.99], [".", 0.5]]
    text, placed = splice(first, "Momentally Prysm rose", INDEX, LISTED, "en", words)
    assert text == expected
    after = spliced_words(words, text, placed, 0.25)
    assert "".join(str(word) for word, _ in after) == text
    assert [score for word, score in after if word in LISTED] == [0.25] * len(placed)
    assert after[-1] == [".", 0.5]


WORDS = st.sampled_from(
    ["the", "Metaprolol", "metoprolol", "monthly", "price", "Prysm", "Momentally", "atrial", "who",
     "fabulation", "fibrillation", "end stemmy", "NSTEMI", "WHO", "law", "certain", "losartan",
     "twenty one", "21", "isn't", "a-b", "C plus plus", "C++", "hba1c", "HbA1c", "São", "Paulo",
     "sao paolo", "...", "(um)", "東京", "é"]
)  # fmt: skip
TEXTS = st.lists(st.tuples(WORDS, st.sampled_from([" ", ", ", ". ", "-", "\u2019s "]))).map(
    lambda parts: "".join(word + sign for word, sign in parts).strip()
)


@given(TEXTS, TEXTS, st.sampled_from(["en", "ja", "ru", None]), st.floats(0, 1))
def test_all_but_the_placed_terms_is_the_first_pass(
    first: str, second: str, language: str | None, chance: float
) -> None:
    confidences = [[first[i : i + 5], chance] for i in range(0, len(first), 5)]
    text, placed = splice(first, second, INDEX, LISTED, language, confidences)
    back, done = "", 0
    for each in placed:
        assert each.start >= done
        assert text[each.start : each.end].lower() == each.term.lower()
        assert each.term in LISTED
        assert each.score >= MIN_SIMILARITY
        assert each.term in second or TermFinder([each.term], language).find(second)
        back += text[done : each.start] + each.original
        done = each.end
    assert back + text[done:] == first
    if chance >= SURE and placed:
        assert all(each.score == 1.0 for each in placed)  # only its writing changed
    words = spliced_words(confidences, text, placed, 0.5)
    assert "".join(str(word) for word, _ in words) == text
    assert splice(first, first, INDEX, LISTED, language) == (first, ())


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_may_be_spliced(first: str, second: str) -> None:
    text, placed = splice(first, f"{second} metoprolol {second}", INDEX, LISTED)
    assert (text == first) or placed


@pytest.mark.parametrize(
    ("monthly", "price", "expected"),
    [
        (0.99, 0.99, "The monthly price rose."),
        (0.99, SURE - 0.1, "The monthly Prysm rose."),
        (SURE - 0.1, SURE - 0.1, "The Momentally Prysm rose."),
    ],
)
def test_each_word_is_sure_or_not_for_itself(monthly: float, price: float, expected: str) -> None:
    first = "The monthly price rose."
    words = [["The", 0.99], [" monthly", monthly], [" pr", price], ["ice", 0.99], [" rose.", 0.99]]
    assert splice(first, "Momentally Prysm rose", INDEX, LISTED, "en", words)[0] == expected


def test_several_words_are_replaced_unless_all_of_them_are_sure() -> None:
    first, second = "We discussed law certain and more.", "We discussed losartan and more."
    for law, certain, replaced in ((0.99, 0.2, True), (0.2, 0.99, True), (0.99, 0.99, False)):
        words = [["We", 0.9], [" discussed", 0.9], [" law", law], [" certain", certain]]
        words += [[" and", 0.9], [" more.", 0.9]]
        text, placed = splice(first, second, INDEX, LISTED, "en", words)
        assert bool(placed) == replaced
        assert text == ("We discussed losartan and more." if replaced else first)


def test_the_space_before_the_first_word_belongs_to_no_text() -> None:
    """Whisper's first word begins with a space, which the text lacks."""
    words = [[" He", 0.9], [" had", 0.8], [" metaprolol", 0.2], [" today. ", 0.7]]
    text, placed = splice(
        "He had metaprolol today.", "He had metoprolol", INDEX, LISTED, "en", words
    )
    assert text == "He had metoprolol today."
    after = spliced_words(words, text, placed, 0.25)
    assert ["metoprolol", 0.25] in [[str(word).strip(), score] for word, score in after]
    assert (str(after[0][0]).strip(), after[0][1]) == ("He", 0.9)
