"""Which end of a long prompt is kept, and where the ids of a row stand."""

from __future__ import annotations

import pytest

from mmtune.errors import DataError
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.whisper.labels import make_labels, prefix_ids, time_id
from tests.speech.real import TINY, loaded, needs

WORDS = " ".join(f"word{i}" for i in range(200))  # more than 223 ids, all of them different places


@needs(TINY)
def test_of_a_long_prompt_the_end_is_kept() -> None:
    """What stands next to the speech, as in openai/whisper: `prompt[-(n_ctx // 2 - 1):]`."""
    base = loaded(TINY)
    said = base.tokenizer.encode(" " + WORDS, add_special_tokens=False)
    assert len(said) > 223
    bare = prefix_ids(base, None)
    for room, most in ((None, 223), (500, 223), (223, 223), (100, 100), (1, 1)):
        ids = prefix_ids(base, None, WORDS, room=room)
        assert ids == [base.ids["startofprev"], *said[-most:], *bare]
    for room in (0, -5):
        assert prefix_ids(base, None, WORDS, room=room) == bare
    for empty in (None, "", "  \n"):
        assert prefix_ids(base, None, empty) == bare
    # openai/whisper's own helper, by transformers: one prompt id, then a space before the text.
    short = base.tokenizer.get_prompt_ids("one two", return_tensors="np").tolist()
    assert prefix_ids(base, None, " one two ") == [*short, *bare]


@needs(TINY)
@pytest.mark.parametrize("spare", [0, 1, 2, 50])
def test_a_long_text_leaves_the_prompts_end(spare: int) -> None:
    """The decoder has 448 positions; the prompt gets what text and start leave, at most 224."""
    base = loaded(TINY)
    prompt = base.tokenizer.encode(" " + WORDS, add_special_tokens=False)
    bare = prefix_ids(base, None)
    count = 448 - len(bare) - spare  # ids of the text; its end takes no position
    text = " " + " ".join(["one"] * count)
    row = SpeechRow(id="a", audio="a", text=text.strip(), prompt=WORDS)
    labels = make_labels(base, row, "en")
    assert labels.spoken == count + 1
    assert len(labels.ids) - 1 == (448 if spare != 1 else 448 - 1)
    room = max(spare - 1, 0)
    kept = [base.ids["startofprev"], *prompt[-room:]] if room else []
    assert list(labels.ids[: labels.given]) == [*kept, *bare]


@needs(TINY)
def test_times_are_steps_of_20_ms_from_0_to_30() -> None:
    base = loaded(TINY)
    first = base.ids["notimestamps"] + 1
    table = {0.0: 0, -1.0: 0, 0.009: 0, 0.011: 1, 1.0: 50, 29.98: 1499, 30.0: 1500, 31.0: 1500}
    assert {s: time_id(base, s) - first for s in table} == table


@needs(TINY)
def test_each_of_several_terms_is_marked() -> None:
    """By their characters in the text: a token counts for a term if it writes a part of it."""
    base = loaded(TINY)
    row = SpeechRow(id="a", audio="a", text="  take metoprolol and apixaban, or nothing")
    terms = ["metoprolol", "apixaban"]
    spans = [(row.text.index(term), row.text.index(term) + len(term)) for term in terms]
    labels = make_labels(base, row, "en", spans)
    written = [base.tokenizer.decode([labels.ids[at]]) for at in labels.terms]
    assert "".join(written) == " metoprolol apixaban"
    # A term that begins with the space after a word holds nothing of this word.
    spaced = make_labels(base, row, "en", [(spans[0][0] - 1, spans[0][1])]).terms
    assert "".join(base.tokenizer.decode([labels.ids[at]]) for at in spaced) == " metoprolol"
    alone = make_labels(base, row, "en", spans[1:])
    assert set(alone.terms) < set(labels.terms)
    assert make_labels(base, row, "en").terms == ()
    # With times the places move with the segments, and marks are no terms.
    times = [(0.0, 1.0, "take metoprolol"), (1.0, 2.0, "and apixaban, or nothing")]
    timed = make_labels(base, row, "en", spans, times)
    assert "".join(base.tokenizer.decode([timed.ids[at]]) for at in timed.terms) == (
        " metoprolol apixaban"
    )
    assert not set(timed.terms) & set(timed.times)
    assert len(timed.times) == 4


@needs(TINY)
def test_the_longest_text_fills_the_decoder_and_one_id_more_is_refused() -> None:
    base = loaded(TINY)
    for times in ((), [(0.0, 1.0, "")]):  # a time takes the place of <|notimestamps|>
        room = 448 - len(prefix_ids(base, None, timestamps=bool(times)))

        def made(count: int, times: object = times) -> object:
            text = " ".join(["one"] * count)
            spoken = [(0.0, 1.0, text)] if times else ()
            row = SpeechRow(id="novel", audio="a", text=text)
            return make_labels(base, row, "en", (), spoken)

        most = room - 2 * bool(times)
        assert len(made(most).ids) - 1 == 448  # type: ignore[attr-defined]
        with pytest.raises(DataError, match=r"its text has 449 tokens; .* reads at most 448"):
            made(most + 1)


@needs(TINY)
def test_the_start_is_learned_where_it_is_not_the_texts_first_id() -> None:
    base = loaded(TINY)
    row = SpeechRow(id="a", audio="a", text="one two", prompt="Before.")
    plain = make_labels(base, row, "en", start=True)
    assert plain.start is not None
    at, first = plain.start
    assert (plain.ids[at], first) == (base.ids["startoftranscript"], base.ids["notimestamps"])
    assert make_labels(base, row, "en").start is None
    # An English-only text with times begins right behind the start token.
    timed = make_labels(base, row, "en", (), [(0.0, 1.0, "one two")], start=True)
    assert timed.ids[timed.given - 1] == base.ids["startoftranscript"]
    assert timed.start is None
    # Where nobody speaks it is always learned.
    silent = SpeechRow(id="n", audio="a", text="", nonspeech=True)
    for start in (True, False):
        assert make_labels(base, silent, "en", start=start).start == (
            0, base.ids["notimestamps"] - 1,
        )  # fmt: skip
