"""Segments, and the files that they are written to."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.speech.transcription.transcript import (
    CUE_LETTERS,
    CUE_SECONDS,
    WRITERS,
    PlacedTerm,
    TranscriptSegment,
    as_json,
    as_srt,
    as_vtt,
    cues,
    make_transcript,
    split,
)
from mmtune.speech.whisper.word_times import Word


def words(*texts: str, step: float = 0.5) -> tuple[Word, ...]:
    return tuple(Word(i * step, i * step + 0.4, " " + text, 0.9) for i, text in enumerate(texts))


def test_a_segment_ends_with_a_sentence_and_at_a_pause() -> None:
    spoken = words("Yes.", "We", "met", "then", "left")
    spoken = (*spoken[:3], *(Word(w.start + 2, w.end + 2, w.text, 0.9) for w in spoken[3:]))
    found = split(TranscriptSegment(0, 9, "whole", "agent", spoken, log_probability=-0.2))
    assert [(s.text, s.start, s.end) for s in found] == [
        ("Yes.", 0.0, 0.4),
        ("We met", 0.5, 1.4),
        ("then left", 3.5, 4.4),
    ]
    assert {(s.channel, s.log_probability) for s in found} == {("agent", -0.2)}
    bare = TranscriptSegment(0, 1, "no words")
    assert split(bare) == [bare]


def test_a_term_goes_with_its_sentence() -> None:
    text = "Take it. Then metoprolol, or heart failure again."
    terms = [PlacedTerm(t, None, 1, "", 1.0, text.index(t), text.index(t) + len(t))
             for t in ("metoprolol", "heart failure")]  # fmt: skip
    spoken = words(*text.split())
    spoken = (*spoken[:6], *(replace(w, start=w.start + 2, end=w.end + 2) for w in spoken[6:]))
    found = split(TranscriptSegment(0, 9, text, None, spoken, terms=tuple(terms)))
    assert [s.text for s in found] == ["Take it.", "Then metoprolol, or heart", "failure again."]
    placed = [[s.text[t.start : t.end] for t in s.terms] for s in found]
    assert placed == [[], ["metoprolol", "heart"], []]


def test_turns_are_lines_in_the_order_of_time() -> None:
    segments = [
        TranscriptSegment(0.0, 1.0, "Hello.", "agent"),
        TranscriptSegment(4.0, 5.0, "I see.", "agent"),
        TranscriptSegment(1.2, 2.0, "My printer", "customer"),
        TranscriptSegment(2.1, 3.0, "is on fire.", "customer"),
        TranscriptSegment(6.0, 7.0, "", "customer"),
    ]
    found = make_transcript(segments, "en", ["agent", "customer"], 8.0)
    assert found.text == "agent: Hello.\ncustomer: My printer is on fire.\nagent: I see."
    assert [s.start for s in found.segments] == [0.0, 1.2, 2.1, 4.0]
    assert make_transcript(segments[:2], "en").text == "Hello. I see."
    parts = [TranscriptSegment(0, 1, "東京"), TranscriptSegment(1, 2, "へ")]
    assert make_transcript(parts, "ja").text == "東京へ"


def test_subtitles() -> None:
    segments = [
        TranscriptSegment(0.0, 1.2346, "a < b & c --> d", "Ann & Bo"),
        TranscriptSegment(3661.9996, 3663.0, "later"),
    ]
    transcript = make_transcript(segments, "en")
    assert as_srt(transcript) == (
        "1\n00:00:00,000 --> 00:00:01,235\n<v Ann &amp; Bo>a < b & c --&gt; d\n\n"
        "2\n01:01:02,000 --> 01:01:03,000\nlater\n"
    )
    assert as_vtt(transcript) == (
        "WEBVTT\nLanguage: en\n\n"
        "00:00:00.000 --> 00:00:01.235\n<v Ann &amp; Bo>a &lt; b &amp; c --&gt; d\n\n"
        "01:01:02.000 --> 01:01:03.000\nlater\n"
    )
    empty = make_transcript([], None)
    assert [write(empty) for name, write in WRITERS.items() if name != "json"] == [
        "\n",
        "",
        "WEBVTT\n",
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=60))
def test_a_cue_can_be_read(texts: list[str]) -> None:
    spoken = words(*texts)
    whole = TranscriptSegment(0, spoken[-1].end, " ".join(texts), None, spoken)
    found = cues([whole])
    assert " ".join(cue.text for cue in found) == whole.text
    for cue in found:
        assert len(cue.text) <= CUE_LETTERS
        assert cue.end - cue.start <= CUE_SECONDS
    for before, after in pairwise(found):
        assert before.end <= after.start


def test_json_carries_all() -> None:
    term = PlacedTerm("hé", "terms.txt", 3, "hay", 0.75, 0, 2)
    segment = TranscriptSegment(0.123456, 1, "hé", "agent", words("hé"), -0.25, 0.01, 0.2, (term,))
    line = as_json(make_transcript([segment], "fr", ["agent", "x"], 2.5))
    assert line.count("\n") == 1
    assert re.search("hé", line)
    assert json.loads(line) == {
        "text": "agent: hé",
        "language": "fr",
        "channels": ["agent", "x"],
        "seconds": 2.5,
        "segments": [
            {
                "start": 0.1235,
                "end": 1,
                "text": "hé",
                "channel": "agent",
                "words": [{"start": 0.0, "end": 0.4, "text": " hé", "probability": 0.9}],
                "log_probability": -0.25,
                "no_speech": 0.01,
                "temperature": 0.2,
                "terms": [
                    {
                        "term": "hé",
                        "list": "terms.txt",
                        "line": 3,
                        "original": "hay",
                        "score": 0.75,
                        "start": 0,
                        "end": 2,
                    }
                ],
            }
        ],
    }
