"""Whole calls: cpWER by hand-worked cases, numbers, and a comparison from calls to figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mmtune.errors import DataError
from mmtune.metrics.text.number_recall import NumberRecall
from mmtune.metrics.text.speaker_errors import REFERENCES, STREAMS, SpeakerWordErrors
from mmtune.metrics.text.variants import STRICT
from mmtune.predict import Prediction
from mmtune.speech.evaluation.measures import measures
from mmtune.speech.evaluation.whole_calls import (
    BY_SPEAKER,
    CALLS,
    is_calls,
    read_calls,
    whole_calls,
)
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow
from tests.speech.corpus.test_joint import AGENT, AGENT_2, CUSTOMER, LABELLED, call


# (errors, words) as MeetEval defines cpWER (meeteval.wer.cp_word_error_rate): the best assignment
# of the transcript's streams to the speakers, with empty ones where one side has fewer.
@pytest.mark.parametrize(
    ("spoken", "heard", "errors", "words"),
    [
        (["a b c", "d e"], ["a b c", "d e"], 0, 5),
        (["a b c", "d e"], ["d e", "a b c"], 0, 5),  # the order of streams doesn't count
        (["a b c", "d e"], ["a b c d e"], 4, 5),  # one stream: c is (0 + 2 inserted) + 2 deleted
        (["a b c", "d e"], ["a b c d", "e"], 2, 5),  # a word with the wrong speaker: twice wrong
        (["a b c"], ["a b", "c"], 2, 3),
        (["a b", "c d", "e f"], ["c x", "e f", "a b"], 1, 6),
        (["a b", ""], ["", ""], 2, 2),
    ],
)
def test_cpwer(spoken: list[str], heard: list[str], errors: int, words: int) -> None:
    letters = {c: f"word{chr(97 + i)}" for i, c in enumerate("abcdefx")}

    def long(text: str) -> str:  # normalization drops or joins single letters
        return " ".join(letters[c] for c in text.split())

    details = {REFERENCES: list(map(long, spoken)), STREAMS: list(map(long, heard))}
    row = SpeechRow(id="a", audio="a.wav", text="x")
    stat = SpeakerWordErrors().observe(row, Prediction("a", "", details))
    assert (stat[:3].sum(), stat[3]) == (errors, words)
    assert SpeakerWordErrors().reduce([stat]) == pytest.approx(errors / words)


@pytest.mark.parametrize(
    ("spoken", "heard", "all_hits", "long_hits"),
    [
        ("account 4711 0815 please", "account 47110815 please", (1, 1), (1, 1)),
        ("account 4711 0815 please", "account 4711 0816 please", (0, 1), (0, 1)),
        ("I pay 15 euros on the 3rd", "I pay 50 euros on the 3rd", (1, 2), (0, 0)),
        ("call 030-123456 now", "call 030 12 34 56 now", None, (1, 1)),
        ("no digits", "no digits", (0, 0), (0, 0)),
    ],
)
def test_numbers(
    spoken: str, heard: str, all_hits: tuple[int, int] | None, long_hits: tuple[int, int]
) -> None:
    row = SpeechRow(id="a", audio="a.wav", text=spoken, language="de")
    said = Prediction("a", heard, {})
    if all_hits is not None:
        assert tuple(NumberRecall("de").observe(row, said)) == all_hits
    found = NumberRecall("de", long=True).observe(row, said)
    assert tuple(found) == long_hits
    value = NumberRecall("de", long=True).reduce([found])
    assert value == (long_hits[0] / long_hits[1] if long_hits[1] else None)


class Heard:
    """A stored predictor that hears the agent right, and the customer one word wrong."""

    def variant(self, name: str) -> Heard:
        return self

    def predict(self, requests: Any) -> list[Prediction]:
        found = []
        for request in requests:
            text = request.row.reference
            if request.row.channel == 1 and not request.adapters:
                text = text.replace("printer", "printing")
            found.append(Prediction(request.row.id, text, {"words": []}))
        return found


def calls(folder: Path, count: int = 3) -> SpeechOptions:
    for i in range(count):
        call(folder / f"{i}.wav", seconds=36.0, seed=i)
        (folder / f"{i}.txt").write_text(LABELLED)
    return SpeechOptions(calls=folder, call_speakers="agent=0,customer=1")


def test_calls_become_figures(tmp_path: Path) -> None:
    options = calls(tmp_path / "calls")
    found = read_calls(options)
    assert [each.name for each in found] == ["0.wav", "1.wav", "2.wav"]
    assert [row.channel for row in found[0].sides] == [0, 1]
    assert found[0].speakers == (f"{AGENT} {AGENT_2}", f"{CUSTOMER} thank you bye")
    active = {"base": {}, "adapter": {"adapter": 1.0}}
    items = whole_calls(Heard(), active, {"printer"}, options, STRICT)  # type: ignore[arg-type]
    assert [item.kind for item in items] == [CALLS, CALLS, BY_SPEAKER] * 3
    # A comparison has test rows beside them.
    rows = [replace(item, kind="test") for item in items if item.kind == CALLS]
    every = [*items, *rows]
    figures = {(m.metric, m.slice): m for m in measures(every, {"printer"}, set(), options)}
    words = len(f"{AGENT} {AGENT_2} {CUSTOMER} thank you bye".split())
    for key in (("cpWER", "calls"), ("WER", "calls")):
        assert figures[key].base.value == pytest.approx(1 / words)
        assert figures[key].adapter.value == 0
    assert figures["WER", "calls, agent"].base.value == 0
    assert figures["WER", "calls, customer"].base.value > 0
    assert figures["term recall", "calls"].base.value == 0
    assert figures["term recall", "calls"].adapter.value == 1
    assert ("number recall", "calls") not in figures  # nobody says a number
    assert np.isfinite(figures["WER", "calls"].difference.low)
    assert "calls (3 of" in figures["WER", "calls"].few


def test_sides_have_the_names_of_their_channels(tmp_path: Path) -> None:
    call(tmp_path / "calls/a.wav", seconds=36.0)
    (tmp_path / "calls/notes.csv").write_text(f'file;text;agent\na.wav;"{LABELLED}";Ann Lee\n')
    options = SpeechOptions(calls=tmp_path / "calls", call_speakers="agent=0,customer=1")
    [found] = read_calls(options)
    assert [row.group["side"] for row in found.sides] == ["agent", "customer"]


def test_a_call_without_channels_is_an_error_with_the_cure(tmp_path: Path) -> None:
    options = calls(tmp_path / "calls", count=1)
    with pytest.raises(DataError, match=r"0\.wav.*have no channel"):
        read_calls(options.model_copy(update={"call_speakers": ""}))


def tone(path: Path, seconds: float = 1.0, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.zeros((int(seconds * 8000), channels), dtype=np.float32)
    soundfile.write(path, samples + 0.01, 8000)
    path.with_suffix(".txt").write_text("take one\n")


CUES = "WEBVTT\n\n00:00.000 --> 00:01.000\ntake one\n"


@pytest.mark.parametrize(
    ("what", "calls"),
    [
        ("manifest", False),
        ("folder with a manifest", False),
        ("short clips", False),
        ("a long recording", True),
        ("stereo", True),
        ("subtitles", True),
        ("table", True),
        ("jsonl of NeMo", True),
        ("no such folder", False),
        ("pictures", False),
    ],
)
def test_calls_are_told_from_rows(tmp_path: Path, what: str, calls: bool) -> None:
    source = tmp_path / "source"
    row = json.dumps({"audio": "a.wav", "text": "take one"}) + "\n"
    if what not in ("no such folder", "pictures"):
        tone(source / "a.wav", 31.0 if "long" in what else 1.0, 2 if what == "stereo" else 1)
    if "manifest" in what:
        (source / "manifest.jsonl").write_text(row)
        source = source if "folder" in what else source / "manifest.jsonl"
    elif what == "subtitles":
        (source / "a.vtt").write_text(CUES)
    elif what == "table":
        source = source / "notes.csv"
        source.write_text("file,text\na.wav,take one\n")
    elif what == "jsonl of NeMo":
        source = source / "nemo.jsonl"
        source.write_text(row.replace('"audio"', '"audio_filepath"'))
    elif what == "pictures":
        source.mkdir()
        (source / "a.png").write_bytes(b"")
    assert is_calls(source) is calls
