"""Other spellings of a term: what they make right, and what stays wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmtune.errors import ConfigError
from mmtune.evaluation.comparison import Comparison
from mmtune.metrics.text.normalize import normalize
from mmtune.metrics.text.term_recall import FalseInsertions, TermPrecision, TermRecall
from mmtune.metrics.text.variants import STRICT, Variants
from mmtune.metrics.text.wer import WordErrors
from mmtune.pages.report import write_report
from mmtune.predict import Prediction
from mmtune.speech.corpus.term_list import Term, read_terms
from mmtune.speech.evaluation.items import Item
from mmtune.speech.evaluation.measures import measures
from mmtune.speech.evaluation.term_slices import read_variants
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.transcription.retrieve import read_list

LIST = """esomeprazole | Esomeprazol | es omeprazole = e so me pra zole
HbA1c | haemoglobin A1c
[unseen]
apixaban
"""


@pytest.fixture
def variants(tmp_path: Path) -> Variants:
    (tmp_path / "terms.txt").write_text(LIST, encoding="utf-8")
    return read_variants(SpeechOptions(terms=tmp_path / "terms.txt"))


def test_lists_have_variants(tmp_path: Path) -> None:
    path = tmp_path / "terms.txt"
    path.write_text(LIST, encoding="utf-8")
    terms = read_terms(path)
    assert terms[0] == Term("esomeprazole", "e so me pra zole", True,
                            ("Esomeprazol", "es omeprazole"))  # fmt: skip
    assert terms[2] == Term("apixaban", "apixaban", False)
    assert read_list(path).terms == ("esomeprazole", "HbA1c", "apixaban")
    assert read_list(path).spoken == {"esomeprazole": "e so me pra zole"}
    for wrong in ("esomeprazole | ", "| esomeprazol", "a | b\nb | c", "a | b\nc\nb"):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"is no term|is not a term|repeats the term"):
            read_terms(path)


def test_variants_are_written_as_the_term(variants: Variants) -> None:
    assert variants("give esomeprazol daily") == "give esomeprazole daily"
    assert variants("give es omeprazole daily") == "give esomeprazole daily"
    assert variants("esomeprazole esomeprazols") == "esomeprazole esomeprazols"
    assert variants("no omeprazole") == "no omeprazole"
    assert not STRICT
    assert STRICT("as it is") == "as it is"
    assert STRICT.tables() == []


def test_figures_with_and_without(variants: Variants, tmp_path: Path) -> None:
    terms = {"esomeprazole", "HbA1c", "apixaban"}
    said = ["take esomeprazole now", "the haemoglobin A1c is high", "nothing else"]
    base = ["take is omeprazole now", "the HbA1c is high", "nothing else"]
    adapter = ["take esomeprazol now", "the HbA1c is high", "es omeprazole else"]
    items = []
    for place, texts in enumerate(zip(said, base, adapter, strict=True)):
        row = SpeechRow(id=str(place), audio="a", text=texts[0])
        heard = {
            m: Prediction(row.id, t) for m, t in zip(("base", "adapter"), texts[1:], strict=True)
        }
        named = frozenset([["esomeprazole"], [normalize("HbA1c")], []][place])
        items.append(Item(row, heard, ("sentence", row.text), named))
    found = {
        (m.metric, m.slice): m for m in measures(items, terms, set(), SpeechOptions(), variants)
    }
    recall = found["term recall", "seen terms"]
    assert (recall.base.value, recall.adapter.value) == (0.5, 1.0)
    strict = found["term recall, strict", "seen terms"]
    assert strict.adapter.value == 0.0  # the one that is spoken in the list's spelling
    assert found["term precision", "test"].adapter.value == pytest.approx(2 / 3)
    assert found["term precision, strict", "test"].adapter.value == 0.0
    assert found["false insertions", "test"].adapter.value == pytest.approx(1 / 3)
    assert found["WER", "test"].adapter.value < found["WER, strict", "test"].adapter.value
    for metric in (TermRecall(terms), TermPrecision(terms), FalseInsertions(terms), WordErrors()):
        without = {m.metric for m in measures(items, terms, set(), SpeechOptions())}
        assert metric.name in without
        assert f"{metric.name}, strict" not in without
    comparison = Comparison("speech", list(found.values()), "", tables=variants.tables())
    back = Comparison.from_json(json.loads(json.dumps(comparison.to_json())))
    assert back.tables == comparison.tables
    write_report(tmp_path / "report.html", [comparison])
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Spellings that count as right" in html
    assert "Esomeprazol, es omeprazole" in html


def test_the_longest_spelling_is_replaced() -> None:
    """One spelling begins with another one: "Es Omep" isn't "Es" with "Omep" behind it."""
    short, long = {"esophagus": ["es"]}, {"esomeprazole": ["es omep", "es omep razole"]}
    texts = {
        "es omep razole": "esomeprazole",
        "es omep": "esomeprazole",
        "es": "esophagus",
        "es omep es razole": "esomeprazole esophagus razole",
        "omep es": "omep esophagus",
        "esx omep": "esx omep",
    }
    for table in (short | long, long | short):
        variants = Variants(table)
        assert {text: variants(text) for text in texts} == texts
    # A term stays whole, though a part of it is another term's spelling.
    whole = Variants({"heart failure": ["hf"], "cardiac": ["heart"]})
    assert whole("heart failure of the heart hf") == ("heart failure of the cardiac heart failure")


def test_the_table_has_the_lists_order() -> None:
    [table] = Variants({"b": ["x", "y"], "a": ["z"], "c": []}).tables()
    assert table.columns == ["term", "other spellings"]
    assert table.rows == [["b", "x, y"], ["a", "z"]]
    assert STRICT.tables() == []
