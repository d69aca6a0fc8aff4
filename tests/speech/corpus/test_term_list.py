"""Term lists: how long a term may be, and where lines are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.errors import ConfigError
from mmtune.speech.corpus.term_list import MAX_TERM_LENGTH, Term, read_terms
from mmtune.speech.transcription.retrieve import (
    CHANCE,
    LONG_TERM,
    MIN_SIMILARITY,
    TermIndex,
)


def written(folder: Path, text: str) -> Path:
    path = folder / "terms.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_term_has_at_most_100_characters(tmp_path: Path) -> None:
    assert MAX_TERM_LENGTH == 100  # of the format: longer lists of others must go on to be refused
    longest = "a" * 49 + " " + "b" * 50
    [term] = read_terms(written(tmp_path, longest))
    assert term == Term(longest, longest)
    spoken = read_terms(written(tmp_path, f"short = {longest} and more"))
    assert spoken == (Term("short", f"{longest} and more"),)
    for line in (longest + "c", f"short | {longest}c", f"{longest}c | short"):
        with pytest.raises(ConfigError, match=r"terms\.txt, line 2: '.*' is no term"):
            read_terms(written(tmp_path, f"metoprolol\n{line}\n"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one\n\n# three\none", 4),
        ("one | uno\ntwo | uno", 2),
        ("one\n[unseen]\ntwo\n[unseen]", 4),
        ("one\n[test]", 2),
        ("one\ntwo =", 2),
        ("one\n= two", 2),
        ("one\n\x07two", 2),
        ("one\n...", 2),
    ],
)
def test_a_line_that_is_no_term_is_named(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(ConfigError, match=f"line {line}:"):
        read_terms(written(tmp_path, text))


def test_a_list_needs_a_term_that_training_may_use(tmp_path: Path) -> None:
    for text in ("", "# nothing\n", "[unseen]\none\ntwo\n"):
        with pytest.raises(ConfigError, match="holds no term to train"):
            read_terms(written(tmp_path, text))
    found = read_terms(written(tmp_path, "one\n[unseen]\ntwo\n"))
    assert [(term.text, term.seen) for term in found] == [("one", True), ("two", False)]


def test_length_counts_up_to_twelve_letters() -> None:
    """The score of a term that is heard exactly: (1 - chance) times its letters, at most 12."""
    terms = ["abc", "metoprolol", "esomeprazoles", "hydrochlorothiazide"]
    for term in terms:
        [(found, score)] = TermIndex([term]).candidates(f"take {term} now", limit=1)
        assert found == term
        assert score == pytest.approx((1 - CHANCE) * min(len(term), LONG_TERM))
    assert LONG_TERM == 12
    index = TermIndex(terms)
    best = index.candidates("metoprolol and hydrochlorothiazide or abc")
    assert [name for name, _ in best][:3] == ["hydrochlorothiazide", "metoprolol", "abc"]
    assert [name for name, _ in index.candidates("metoprolol abc", limit=1)] == ["metoprolol"]
    assert index.candidates("") == index.candidates("ab") == []
    assert all(
        index.likeness("metropole", name) >= MIN_SIMILARITY
        for name, _ in index.candidates("metropole")
    )
