"""Which terms a garbled text may have meant, out of 100,000."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mmtune.errors import ConfigError
from mmtune.speech.transcription.retrieve import (
    MAX_TERMS,
    TermIndex,
    letters,
    prompt_with,
    read_list,
    sound,
)
from tests.speech.real import TINY, loaded, needs

# What Whisper tiny.en wrote where hibari-tts said the term.
HEARD = {
    "metoprolol": "The patient was given metaprolol in the morning and felt better.",
    "apixaban": "We discussed AppXabbon and its side effects at the visit today.",
    "escitalopram": "The patient was given acetallopram in the morning and felt better.",
    "levothyroxine": "We discuss love etheric sign and its side effects at the visit today.",
    "amlodipine": "The patient was given amlidopine in the morning and felt better.",
    "atorvastatin": "We discussed Adore Vastatin and its side effects at the visit today.",
    "lisinopril": "The patient was given listen-opril in the morning and felt better.",
    "losartan": "We discussed law certain and its side effects at the visit today.",
    "furosemide": "The patient was given furoseamide in the morning and felt better.",
    "enoxaparin": "We discussed in Oxiperin and its side effects at the visit today.",
    "empagliflozin": "The patient was given impagliflism in the morning and felt better.",
    "sitagliptin": "We discussed CITA GLEPTIN and its side effects at the visit today.",
    "semaglutide": "The patient was given some aggludide in the morning and felt better.",
    "pantoprazole": "We discussed Panta Presle and its side effects at the visit today.",
    "gabapentin": "The patient was given Gabby Penton in the morning and felt better.",
    "duloxetine": "We discussed dual-exiting and its side effects at the visit today.",
    "sertraline": "The patient was given search line in the morning and felt better.",
    "mirtazapine": "We discussed Murta's Appine and its side effects at the visit today.",
    "quetiapine": "The patient was given quasciapine in the morning and felt better.",
    "aripiprazole": "We discussed Aeropiprazole and its side effects at the visit today.",
    "lamotrigine": "The patient was given lambitrogen in the morning and felt better.",
    "methotrexate": "We discussed method track-sate and its side effects at the visit today.",
    "adalimumab": "The patient was given a dalamumab in the morning and felt better.",
    "tocilizumab": "We discuss Tossalismab and its side effects at the visit today.",
}
ONSETS = [*"bcdfghjklmnprstvwz", "br", "cr", "dr", "fl", "gr", "pl", "st", "tr", "sh", "ch", "th"]
VOWELS = ["a", "e", "i", "o", "u", "ai", "ea", "io", "ou", "y"]
CODAS = ["", "", "", "n", "r", "l", "s", "t", "m", "x", "nd", "st", "te", "ck"]


def made_up(count: int) -> list[str]:
    """Pronounceable words that don't exist, of two to five syllables."""
    draw = random.Random(0)
    found: dict[str, None] = {}
    while len(found) < count:
        parts = [ONSETS, VOWELS, CODAS] * draw.choice([2, 3, 3, 4, 4, 5])
        found["".join(draw.choice(part) for part in parts)] = None
    return list(found)


@pytest.fixture(scope="module")
def index() -> TermIndex:
    return TermIndex([*HEARD, *made_up(MAX_TERMS - len(HEARD))])


def test_terms_are_found_among_a_hundred_thousand(index: TermIndex) -> None:
    places = {}
    for term, text in HEARD.items():
        found = [each for each, _ in index.candidates(text)]
        places[term] = found.index(term) if term in found else None
    recall = {
        n: sum(place is not None and place < n for place in places.values()) / len(places)
        for n in (1, 10, 60)
    }
    assert recall[60] >= 0.9, places
    assert recall[10] >= 0.9, places
    assert recall[1] >= 0.8, places


def test_scores_and_limits(index: TermIndex) -> None:
    text = "The patient was given a pixaban in the morning and felt better."
    found = index.candidates(text, 20)
    scores = [score for _, score in found]
    assert len(found) == 20
    assert scores == sorted(scores, reverse=True)
    assert found == index.candidates(text)[:20]
    # A term that stands there as it is comes first: the second pass should keep it.
    assert index.candidates("He takes apixaban.", 1)[0][0] == "apixaban"
    assert index.candidates("") == index.candidates("...") == []


def test_small_lists_and_other_scripts() -> None:
    small = TermIndex(["Нурофен", "São Paulo", "NSTEMI", "!"], {"NSTEMI": "en stemmy"})
    assert small.candidates("он принял нурафен")[0][0] == "Нурофен"
    assert small.candidates("we flew to sao paolo")[0][0] == "São Paulo"
    assert small.candidates("it was an end stemmy")[0][0] == "NSTEMI"
    assert small.candidates("what a lovely day") == []
    assert TermIndex([]).candidates("anything") == []
    assert small.likeness("nurofen", "NSTEMI") < 0.5 < small.likeness("an stemmy", "NSTEMI")
    assert small.likeness("Nurofen", "Нурофен") == 0
    assert TermIndex(["C++"]).likeness("C", "C++") == 0  # too short to tell
    assert (letters("Ünit 5-Bé"), sound("нет"), sound("dapa")) == ("unit5be", "", "TP")


@needs(TINY)
def test_a_prompt_holds_what_has_room() -> None:
    base = loaded(TINY)
    terms = [(f"electroencephalography{i}", 1.0) for i in range(100)]
    prompt = prompt_with(base, terms, "About heads.")
    assert prompt is not None
    ids = base.tokenizer.encode(" " + prompt, add_special_tokens=False)
    assert 180 < len(ids) <= 223
    assert prompt.startswith("About heads. ")
    assert prompt.endswith(", electroencephalography0")  # the best is next to the speech
    assert prompt_with(base, []) is None


def test_lists(tmp_path: Path) -> None:
    path = tmp_path / "terms.txt"
    path.write_text("# drugs\nmetoprolol\n\nNSTEMI = en stemmy\n[unseen]\napixaban\nmetoprolol\n")
    listed = read_list(path)
    assert listed.terms == ("metoprolol", "NSTEMI", "apixaban")
    assert listed.spoken == {"NSTEMI": "en stemmy"}
    assert (listed.name, listed.lines) == (
        str(path), {"metoprolol": 2, "NSTEMI": 4, "apixaban": 6},
    )  # fmt: skip
    path.write_text("# nothing\n")
    with pytest.raises(ConfigError, match="holds no term"):
        read_list(path)
    path.write_text("\n".join(f"term{i}" for i in range(MAX_TERMS)))
    assert len(read_list(path).terms) == MAX_TERMS
    path.write_text("\n".join(f"term{i}" for i in range(MAX_TERMS + 1)))
    with pytest.raises(ConfigError, match="100,001 terms; the limit is 100,000"):
        read_list(path)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_list(path)
    with pytest.raises(ConfigError, match="can't read"):
        read_list(tmp_path / "none.txt")
