"""Properties of redaction on texts that hypothesis makes of the words that the grammars read."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmtune.privacy.atoms import read_atoms
from mmtune.privacy.finder import PrivateWordFinder
from mmtune.privacy.private_span import REPLACEMENTS, replace_spans
from mmtune.privacy.spoken_words import LANGUAGES

NAMES = ("Anna Müller", "O'Brien", "王小明", "Card Birth")
FINDER = PrivateWordFinder(names=NAMES, account_words=["locker"])
WORDS = """
one two double triple oh zero twenty hundred nineteen fourth vier doppel null quatre vingt y cuatro
mil uno doble ein 4111 1111 0 7 2025550143 GB29 NWBK 1984 84 card account phone born order Konto
tarjeta née locker march Mai of the de at dot com arroba punto x g november as in apple anna Müllers
O'Brien's uh okay plus dollars since . , ? - / ( ) + @ '
"""
PIECES = st.sampled_from([
    *WORDS.split(),
    *("account number", "6016 1331 9268 19", "née le"),
    *("\n", "\u200b", "\u00a0", "٤", "４", "İ", "ß"),
    *REPLACEMENTS.values(),
])  # fmt: skip
TEXTS = st.lists(st.one_of(PIECES, PIECES, st.text(max_size=4)), max_size=25).flatmap(
    lambda pieces: st.sampled_from(["", " "]).map(lambda space: space.join(pieces))
)
SPOKEN = st.sampled_from([*LANGUAGES, None])


@settings(max_examples=40, deadline=None)
@given(TEXTS, SPOKEN)
@example("born on 3/4/1985, born, one two three four five six", "en")
@example("card 4111 1111 1111 1111 account 1234 5678 order 5555", "en")
def test_redacting_twice_changes_nothing(text: str, language: str | None) -> None:
    spans = FINDER.find(text, language)
    redacted = replace_spans(text, spans)
    assert FINDER.find(redacted, language) == []
    # Outside of the spans the text is as it was, and each span lies on one line.
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    for span in spans:
        assert not {"\n", "\r"} & set(text[span.start : span.end])
        assert text[span.start : span.end].strip() == text[span.start : span.end]


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.sampled_from([*LANGUAGES]))
def test_atoms_are_at_their_places(text: str, language: str) -> None:
    atoms = read_atoms(text, language)
    assert all(0 <= atom.start < atom.end <= len(text) for atom in atoms)
    assert all(a.end <= b.start for a, b in pairwise(atoms))
    letters = {place for place, c in enumerate(text) if c.isalnum()}
    assert letters <= {place for atom in atoms for place in range(atom.start, atom.end)}


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["L", "N", "M"]), max_size=60))
def test_a_text_without_letters_and_digits_is_not_changed(text: str) -> None:
    assert FINDER.find(text) == []


@settings(max_examples=25, deadline=None)
@given(st.lists(TEXTS, max_size=5), SPOKEN)
def test_turns_are_searched_as_one_conversation(turns: list[str], language: str | None) -> None:
    found = FINDER.find_in_turns(turns, language)
    assert len(found) == len(turns)
    redacted = [replace_spans(turn, spans) for turn, spans in zip(turns, found, strict=True)]
    whole = "\n".join(turns)
    assert "\n".join(redacted) == replace_spans(whole, FINDER.find(whole, language))
