"""Scoring sees no difference that a reader can't see, and all that a reader can."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtune.metrics.text import normalize as module
from mmtune.metrics.text.normalize import normalize

SAME = [
    ("en", "hello\u200b world", "hello world"),
    ("en", "co\u00adoperate today", "cooperate today"),
    ("en", "\ufeffhello world", "hello world"),
    ("en", "hello\u2060 world\u200e", "hello world"),
    ("en", "e\u200dmail", "email"),
    ("de", "Donau\u00addampf", "Donaudampf"),
    ("ar", "كـــتاب جديد", "كتاب جديد"),
    ("ar", "\u200fمرحبا بك", "مرحبا بك"),
    ("he", "\u202bשלום\u202c עולם", "שלום עולם"),
    ("uk", "м\u02bcята", "м'ята"),
    ("uk", "м\u2019ята", "м'ята"),
    ("en", "don\u02bct do it", "don't do it"),
    ("en", "don`t do it", "don't do it"),
    ("en", "don\u00b4t do it", "don't do it"),
    ("fr", "l\u2019école", "l'école"),
    ("fr", unicodedata.normalize("NFD", "l'école"), "l'école"),
    ("tr", "Işık açık. İstanbul'da", "ışık açık istanbul'da"),
    ("tr", "IŞIK", "ışık"),
    ("tr", "İyi günler", "iyi günler"),
    ("az", "İndi", "indi"),
    ("az", "QIZIL", "qızıl"),
    ("ja", "ﾃｽﾄ", "テスト"),
]
DIFFERENT = [
    ("tr", "ısı", "isi"),
    ("fa", "می\u200cخواهم بروم", "میخواهم بروم"),  # the joiner's absence changes the word's form
    ("hi", "क\u094d\u200dष", "क्ष"),
    ("en", "cafe latte", "cafes latte"),
    ("uk", "м'ята", "мята"),
]


@pytest.mark.parametrize(("language", "one", "other"), SAME)
def test_what_looks_alike_is_the_same(language: str, one: str, other: str) -> None:
    assert normalize(one, language) == normalize(other, language) != ""


@pytest.mark.parametrize(("language", "one", "other"), DIFFERENT)
def test_what_reads_differently_differs(language: str, one: str, other: str) -> None:
    assert normalize(one, language) != normalize(other, language)


@given(
    st.text(alphabet=st.characters(categories=["Ll", "Zs", "Nd"], max_codepoint=0x24F)), st.data()
)
def test_invisible_characters_anywhere_change_nothing(text: str, data: st.DataObject) -> None:
    hidden = data.draw(
        st.sampled_from("\u200b\u00ad\ufeff\u2060\u200e\u200f\u202a\u202c\u200d\u200c")
    )
    place = data.draw(st.integers(0, len(text)))
    assert normalize(text[:place] + hidden + text[place:], "en") == normalize(text, "en")


@pytest.mark.parametrize("language", ["en", "sv"])
@pytest.mark.parametrize("text", ["(" * 60_000, "[)]" + "(" * 60_000, " " * 60_000 + "'"])
def test_a_long_row_of_brackets_or_spaces_takes_no_long_time(text: str, language: str) -> None:
    begun = time.process_time()
    assert normalize(f"{text} a", language) == "a"
    assert time.process_time() - begun < 2  # 8 s before


@given(st.text(alphabet="[]()<> a'5.", max_size=14), st.sampled_from(["en", "sv"]))
def test_brackets_that_nothing_closes_give_the_same_words(text: str, language: str) -> None:
    expected = normalize.__wrapped__(text, language)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MANY", 0)
        assert normalize.__wrapped__(text, language) == expected
