"""Repeating rows: what is a loop, and what people say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtune.metrics.text.repeats import COPIES, Repeats, most_copies, repeats
from mmtune.predict import Prediction
from mmtune.speech.speech_row import SpeechRow

LONG = "the ship left the harbour before the storm came up from the south and nobody saw it again"


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        ("thank you. Thank you! thank you, thank you", "", True),
        ("so so so so so so", "so", True),
        ("I am, I am, I am, I am going", "I am going", True),
        (" ".join([LONG] * 4), LONG, True),
        ("no no no no", "no no no", False),  # said almost so
        ("no no no no no no", "no no no", True),
        ("ha ha ha ha ha ha", "ha ha ha ha ha ha", False),
        ("thank you thank you thank you", "thank you", False),
        ("はいはいはいはいはい", "はい", True),  # no spaces
        ("ขอบคุณขอบคุณขอบคุณขอบคุณ", "ขอบคุณ", True),
        ("a" * 200, "a", True),  # one word: its compression tells
        (LONG, LONG, False),
        ("", "hello", False),
        ("", "", False),
        ("1 1 1 1 2 2", "1 1 1 1 2 2", False),
    ],
)
def test_what_is_a_repeat(text: str, reference: str, expected: bool) -> None:
    assert repeats(text, reference) is expected
    row = SpeechRow(id="a", audio="a.wav", text=reference or "x", language="en")
    stat = Repeats().observe(row, Prediction("a", text, {}))
    if reference:
        assert list(stat) == [float(expected), 1.0]


def by_definition(words: list[str]) -> int:
    """The most copies of a phrase in a row, tried one by one."""
    most = min(len(words), 1)
    for start in range(len(words)):
        for size in range(1, len(words) // 2 + 1):
            phrase, copies = words[start : start + size], 1
            while words[start + copies * size : start + (copies + 1) * size] == phrase:
                copies += 1
            most = max(most, copies if len(phrase) == size else 0)
    return most


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=14))
def test_copies_by_their_definition(words: list[str]) -> None:
    assert most_copies(" ".join(words)) == by_definition(words)


@given(st.lists(st.sampled_from(["one", "two", "three"]), min_size=1, max_size=6))
def test_a_phrase_in_a_loop_is_found(phrase: list[str]) -> None:
    text = " ".join(phrase * COPIES)
    assert repeats(text, " ".join(dict.fromkeys(phrase)))


def test_few_are_judged_as_rare_events() -> None:
    """Of 40 rows without a repeat the resamples are all 0; the limit of rare events isn't."""
    assert Repeats.rare
    assert not Repeats.higher_is_better


def test_the_share() -> None:
    metric = Repeats()
    rows = [SpeechRow(id=str(i), audio="a.wav", text="well then") for i in range(4)]
    texts = ["well then", "well well well well well", "", "then"]
    stats = [metric.observe(r, Prediction(r.id, t, {})) for r, t in zip(rows, texts, strict=True)]
    assert metric.reduce(stats) == 0.25
    assert metric.reduce([]) is None
