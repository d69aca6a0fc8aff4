"""One finder of terms: what is a term in a text, by tables; and that training and scoring agree."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtune.metrics.text.normalize import normalize
from mmtune.metrics.text.term_finder import TermFinder, everyday_words, term_key, text_words
from mmtune.metrics.text.term_recall import FalseInsertions, TermRecall
from mmtune.predict import Prediction
from mmtune.speech.speech_row import SpeechRow


def nfd(text: str) -> str:
    return unicodedata.normalize("NFD", text)


# (terms, language, text, the places that are terms as they are written)
FOUND: list[tuple[list[str], str, str, list[str]]] = [
    # whole words in any case
    (["metoprolol"], "en", "Metoprolol, METOPROLOL and metoprolol.", ["Metoprolol", "METOPROLOL",
                                                                       "metoprolol"]),
    (["NSTEMI"], "en", "an nstemi or NSTEMI", ["nstemi", "NSTEMI"]),
    (["heart"], "en", "sweetheart, hearts, hearty", []),
    (["heart failure", "heart"], "en", "heart failure of the heart", ["heart failure", "heart"]),
    (["heart failure", "failure mode"], "en", "heart failure mode", ["heart failure"]),
    (["q.d."], "en", "take it q.d. or qd", ["q.d."]),
    # plurals and possessives
    (["metoprolol"], "en", "metoprolols but metoprolol's dose", ["metoprolol"]),
    (["Parkinson's"], "en", "Parkinson's and Parkinson\u2019s", ["Parkinson's",
                                                                "Parkinson\u2019s"]),
    # acronyms that are everyday words in another case
    (["IT"], "en", "it is his; ask IT about it", ["IT"]),
    (["WHO"], "en", "Who asked the WHO? The WHO's answer", ["WHO", "WHO"]),
    (["US", "OR", "AM"], "en", "tell us or them: I am in the US, in the OR at ten AM",
     ["US", "OR", "AM"]),
    (["AIDS"], "en", "hearing aids; an AIDS-related aid", ["AIDS"]),
    (["PET", "CAT scan"], "en", "my pet had a PET and a CAT scan, no cat scan", ["PET",
                                                                                "CAT scan"]),
    (["IT", "WHO"], "en", "IT IS THE ONE WHO CAME", []),  # capitals of the whole text tell nothing
    (["WHO"], "en", "WHO", ["WHO"]),
    (["HEART FAILURE"], "en", "a heart failure", ["heart failure"]),
    (["who", "WHO"], "en", "who is the WHO", ["who", "WHO"]),
    (["T wave"], "en", "the T WAVE is flat", ["T WAVE"]),  # only a term in capitals needs them
    (["WAR"], "de", "es war die WAR", ["WAR"]),
    (["SON"], "fr", "son frère du SON", ["SON"]),
    (["MIS"], "es", "mis datos del MIS", ["MIS"]),
    (["SI"], "it", "si dice SI", ["si", "SI"]),  # no list of everyday words: as before
    # signs behind a letter or before a word
    (["C", "C++", "C#", "F#"], "en", "C, C++ or C# and F#: vitamin c",
     ["C", "C++", "C#", "F#", "c"]),
    (["C"], "en", "C++ and C#", []),
    (["C++"], "en", "C, C++17 and \uff23\uff0b\uff0b", ["C++", "\uff23\uff0b\uff0b"]),
    (["C#"], "en", "C\u266f or C#7", ["C\u266f", "C#"]),
    ([".NET"], "en", "the net; use .NET or .net, not ASP.NET", [".NET", ".net"]),
    (["metoprolol"], "en", "He took it .Metoprolol helps", ["Metoprolol"]),
    (["Disney"], "en", "Disney+ by Disney", ["Disney"]),
    (["vitamin C"], "en", "vitamin C+E", ["vitamin C"]),  # a plus between two
    # hyphens and apostrophes
    (["beta-blocker"], "en", "a beta blocker, beta-blocker, beta\u2011blocker or betablocker",
     ["beta blocker", "beta-blocker", "beta\u2011blocker"]),
    (["O'Neil"], "en", "O'Neil O\u2019Neil O\u02bcNeil O`Neil", ["O'Neil", "O\u2019Neil",
                                                                 "O\u02bcNeil", "O`Neil"]),
    # normal forms, and characters that nobody sees
    (["café au lait"], "en", nfd("a café au lait"), [nfd("café au lait")]),
    ([nfd("naïve Bayes")], "en", "naïve Bayes", ["naïve Bayes"]),
    (["metoprolol"], "en", "meto\u00adprolol, \u200bmetoprolol", ["meto\u00adprolol",
                                                                  "\u200bmetoprolol"]),
    (["metoprolol"], "en", "meto\u200cprolol", ["meto\u200cprolol"]),
    (["می\u200cخواهم"], "fa", "من می\u200cخواهم، میخواهم", ["می\u200cخواهم"]),
    # numbers and spellings that normalization makes one
    (["COVID-19"], "en", "covid nineteen and COVID 19", ["covid nineteen", "COVID 19"]),
    (["colour blind"], "en", "color-blind", ["color-blind"]),
    (["twenty one"], "en", "he is 21 now", ["21"]),
    # Turkish and Azeri
    (["ISPARTA"], "tr", "ısparta, Isparta", ["ısparta", "Isparta"]),
    (["İzmir"], "tr", "izmir, IZMIR, İZMİR", ["izmir", "İZMİR"]),
    (["izmir"], "en", "IZMIR", ["IZMIR"]),
    # languages without spaces
    (["心電図"], "ja", "昨日心電図を取った", ["心電図"]),
    (["心電図", "心電図検査"], "ja", "心電図検査と心電図", ["心電図検査", "心電図"]),
    (["阿司匹林"], "zh", "每天吃阿司匹林。", ["阿司匹林"]),
    (["พาราเซตามอล"], "th", "กินพาราเซตามอลวันละสองเม็ด", ["พาราเซตามอล"]),
    (["MRI"], "ja", "MRIとMRIS", ["MRI"]),  # not inside a longer word
    (["क्लोपिडोग्रेल"], "hi", "रोज़ क्लोपिडोग्रेल लें", ["क्लोपिडोग्रेल"]),
    (["Нурофен"], "ru", "принял НУРОФЕН и нурофена", ["НУРОФЕН"]),
]  # fmt: skip


@pytest.mark.parametrize(("terms", "language", "text", "expected"), FOUND)
def test_a_term_is_found_where_it_is_written(
    terms: list[str], language: str, text: str, expected: list[str]
) -> None:
    finder = TermFinder(terms, language)
    found = finder.find(text)
    assert [text[each.start : each.end] for each in found] == expected
    assert finder(text) == [(each.start, each.end) for each in found]
    # Marks and counts are of one finder: training changes what scoring counts.
    counts = finder.count(text)
    assert counts.total() == len(expected)
    assert set(counts) <= {term_key(term, language) for term in terms}
    row = SpeechRow(id="a", audio="a", text=text, language=language)
    heard = Prediction("a", text)
    assert TermRecall(terms, language).observe(row, heard).tolist() == [len(expected)] * 2
    assert FalseInsertions(terms, language).observe(row, heard)[0] == 0


@pytest.mark.parametrize(
    ("term", "other", "same"),
    [
        ("C", "C++", False), ("C++", "C#", False), ("C#", "C\u266f", True), (".NET", "net", False),
        ("IT", "it", False), ("WHO", "Who", False), ("NSTEMI", "nstemi", True),
        ("beta-blocker", "beta blocker", True), ("beta-blocker", "betablocker", False),
        ("café", nfd("café"), True), ("O'Neil", "O\u02bcNeil", True), ("colour", "color", True),
    ],
)  # fmt: skip
def test_terms_that_are_one(term: str, other: str, same: bool) -> None:
    assert (term_key(term) == term_key(other)) is same


def test_other_spellings_are_found_as_the_term() -> None:
    table = {
        "beta-blocker": ["betablocker"],
        "esomeprazole": ["es omeprazole"],
        "C++": ["see plus"],
    }
    finder = TermFinder(["beta-blocker", "omeprazole", "C++"], "en", table)
    text = "a Betablocker, es omeprazole, omeprazole, see plus"
    assert [text[a:b] for a, b in finder(text)] == ["Betablocker", "omeprazole", "see plus"]
    assert finder.count(text) == {"beta blocker": 1, "omeprazole": 1, "c++": 1}


def test_a_row_has_terms_of_its_own() -> None:
    finder = TermFinder(["heart"])
    text = "heart failure and apixaban"
    assert [text[a:b] for a, b in finder(text, ["Apixaban", "heart failure"])] == [
        "heart failure", "apixaban",
    ]  # fmt: skip
    assert TermFinder([])("anything") == TermFinder(["!", ""])("anything !") == []


ORDINARY = [
    "metoprolol",
    "atrial fibrillation",
    "fibrillation",
    "COVID-19",
    "HbA1c",
    "T wave",
    "mg",
]
SAID = st.lists(
    st.sampled_from(
        [*ORDINARY, *(term.upper() for term in ORDINARY), "the", "It's", "twenty", "one", "$5",
         "Dr.", "um,", "(no)", "[noise]", "don't", "colour-blind", "3.5", "covid nineteen", "20%",
         "atrial", "wave.", "'", "metoprolols", "metoprolol's", "5mg", "a\u0301"]
    ),
    max_size=12,
).map(" ".join)  # fmt: skip


@given(SAID)
def test_ordinary_terms_count_as_they_did(text: str) -> None:
    """The count is that of whole words in the normalized text, as in earlier versions."""
    keys = sorted({normalize(term) for term in ORDINARY}, key=len, reverse=True)
    pattern = rf"(?<!\S)(?:{'|'.join(map(re.escape, keys))})(?!\S)"
    before = sorted(match.group() for match in re.finditer(pattern, normalize(text)))
    assert sorted(TermFinder(ORDINARY).count(text).elements()) == before


@given(st.text(max_size=60), st.sampled_from(["en", "de", "tr", "ja", "hi", "fa"]))
def test_words_are_those_of_the_normalized_text_in_their_order(text: str, language: str) -> None:
    words = text_words(text, language)
    plain = [word.text.rstrip("+#").lower() for word in words]
    assert plain == [w.rstrip("+#").lower() for w in normalize(text, language).split()]
    assert all(0 <= word.start <= word.end <= len(text) for word in words)
    assert [word.start for word in words] == sorted(word.start for word in words)


@pytest.mark.parametrize("language", ["en", "de", "es", "fr"])
def test_everyday_words_are_words(language: str) -> None:
    words = everyday_words(language)
    assert len(words) > 200
    assert all(word == word.lower() and word.isalpha() and len(word) > 1 for word in words)
    assert everyday_words("xx") == frozenset()
