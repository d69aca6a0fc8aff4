"""Cues of subtitles: those at the same time as another voice's, and those of several voices."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mmtune.data.check import check
from mmtune.data.importing import Imported
from mmtune.runs.modalities import find_modality
from mmtune.speech.corpus.check_transcript import describes_sound
from mmtune.speech.corpus.importers import import_speech
from mmtune.speech.corpus.importers.captions import VOICE, Caption, without_repeats
from mmtune.speech.corpus.importers.cues import Cue, Together, pieces_of
from mmtune.speech.corpus.importers.sides import person
from tests.data.pieces import write_audio
from tests.speech.corpus.test_joint import call

SPEECH = find_modality("speech")

# Voice, start and end of cues in their order; then the texts that are kept (a cue's text is its
# place), and the places of those that are left out. By hand: a cue is left out if it shares more
# than 0.3 s with one of another voice in its channel, or lies within such a cue of its own voice.
OVERLAPS: dict[str, tuple[list[tuple[str, float, float]], list[str], list[int]]] = {
    "none": ([("X", 0, 2), ("Y", 2.5, 4), ("X", 5, 6)], ["0", "1", "2"], []),
    "joined": ([("X", 0, 2), ("X", 2.5, 4), ("Y", 4, 5)], ["0 1", "2"], []),
    "neighbours": ([("X", 0, 2), ("Y", 1, 4)], [], [0, 1]),
    "a little": ([("X", 0, 2), ("Y", 1.8, 4)], ["0", "1"], []),
    "beyond a neighbour": ([("X", 0, 20), ("X", 5, 6), ("Y", 8, 10)], [], [0, 1, 2]),
    "beyond two": ([("X", 0, 20), ("Z", 1, 2), ("Z", 3, 4), ("Y", 21, 22)], ["3"], [0, 1, 2]),
    "a long one ends": ([("X", 0, 9), ("Y", 1, 2), ("Y", 9, 10), ("Y", 10, 11)], ["2 3"], [0, 1]),
    "own voice goes on": ([("X", 0, 4), ("X", 3, 9), ("Y", 8, 10)], ["0"], [1, 2]),
    "three voices": ([("X", 0, 5), ("Y", 4, 9), ("Z", 8, 12), ("Z", 12, 14)], ["3"], [0, 1, 2]),
    "the same time": ([("X", 1, 2), ("Y", 1, 2), ("X", 3, 4)], ["2"], [0, 1]),
    "unknown and known": ([("", 0, 10), ("X", 2, 3), ("", 11, 12)], ["2"], [0, 1]),
    "the longest was first": (
        [("X", 0, 30), ("Y", 1, 3), ("Y", 4, 6), ("Z", 7, 9), ("X", 31, 32)],
        ["4"],
        [0, 1, 2, 3],
    ),
    "begins with it": ([("X", 0, 2), ("X", 0, 20), ("Y", 8, 10)], [], [0, 1, 2]),
}


@pytest.mark.parametrize("kind", OVERLAPS)
def test_voices_at_the_same_time(kind: str) -> None:
    given, kept, apart = OVERLAPS[kind]
    cues = [Cue(start, end, str(i), voice) for i, (voice, start, end) in enumerate(given)]
    found = pieces_of(cues)
    assert [cue.text for cue in found if not isinstance(cue, Together)] == kept
    assert sorted(int(cue.text) for cue in found if isinstance(cue, Together)) == apart


def test_sides_of_a_call_may_speak_at_once() -> None:
    cues = [Cue(0, 4, "a", "A", 0), Cue(1, 3, "mhm", "B", 1), Cue(4.2, 6, "b", "A", 0)]
    assert pieces_of(cues) == [Cue(0, 6, "a b", "A", 0, 2), Cue(1, 3, "mhm", "B", 1)]


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        *((text, True) for text in (
            "[music]", "(laughs)", "<noise>", "♪ la la ♪", "♫ la", "*beep*", "[music] [laughter]",
            "(a door) (steps)", "[music], [laughter].", "[music] - (he sings) ♪ la", "（拍手）",
            "【音楽】 ♪～", " [x] ", "♪♪",
        )),
        *((text, False) for text in (
            "", "…", "-", "[music] Hello", "Hello (laughs)", "♪ la ♪ Hello you", "(555) 123",
            "*67#", "[", "see [1] and (b)", "♪ la ♪ Hello ♪ la ♪",
        )),
    ],
)  # fmt: skip
def test_texts_that_describe_sounds(text: str, sound: bool) -> None:
    assert describes_sound(text) == sound


@pytest.mark.parametrize(
    ("voice", "role"),
    [
        *((name, True) for name in (
            "Agent", "speaker 2", "Agent + Customer", "Agent/Customer", "AGENT & CLIENT",
            "Doctor and patient", "Kundin und Berater", "Speaker 1, Speaker 2",
        )),
        *((name, False) for name in (
            "Ann Lee", "Ann & Bo", "Agent Smith", "Agent & Bo", "Andy", "Hyde", "",
        )),
    ],
)  # fmt: skip
def test_roles_are_other_people_in_each_recording(voice: str, role: bool) -> None:
    assert person(voice, "a.wav") == (f"a.wav: {voice}" if role else voice)


@pytest.mark.parametrize("tag", ["<a", "<v ", "{\\an8", "[music", "♪ "])
def test_tags_that_never_end_take_no_time_squared(tag: str) -> None:
    began = time.process_time()
    lines = (tag * 20_000,)
    without_repeats([Caption(0, 1, lines), Caption(0, 1, lines)])
    VOICE.split(lines[0])
    describes_sound(lines[0])
    assert time.process_time() - began < 2


TWO = "00:00.500 --> 00:04.000\n<v Agent>hello {0}\n<v Customer>hi {0}\n"


def with_cues(folder: Path, names: str, blocks: str, stereo: bool = False) -> Path:
    for name in names:
        if stereo:
            call(folder / f"{name}.wav", seed=ord(name))
        else:
            write_audio(folder / f"{name}.wav", seed=ord(name), seconds=20.0)
        (folder / f"{name}.vtt").write_text("WEBVTT\n\n" + blocks.format(name))
    return folder


def told(folder: Path, to: Path, **options: Any) -> tuple[Imported, dict[str, Any]]:
    result = import_speech(folder, to, None, options)
    return result, {row.reference: row for row in check(to, SPEECH).rows}


def test_a_cue_of_two_voices_names_no_speaker(tmp_path: Path) -> None:
    single = "00:05.000 --> 00:06.000\n<v Agent>bye {0}\n"
    folder = with_cues(tmp_path / "calls", "ab", f"{TWO}\n{single}")
    _, rows = told(folder, tmp_path / "to")
    speakers = {text: row.speaker for text, row in rows.items()}
    assert speakers == {
        "hello a hi a": None,
        "hello b hi b": None,
        "bye a": "a.wav: Agent",
        "bye b": "b.wav: Agent",
    }


def test_a_cue_of_two_voices_is_divided_among_the_channels_of_a_call(tmp_path: Path) -> None:
    sound = "00:05.000 --> 00:06.000\n<v Agent>(coughs)\n<v Customer>yes {0}\n"
    folder = with_cues(tmp_path / "calls", "a", f"{TWO}\n{sound}", stereo=True)
    result, rows = told(folder, tmp_path / "to", speakers="agent=0,customer=1")
    assert {(text, row.group["recording_channel"], row.speaker) for text, row in rows.items()} == {
        ("hello a", "0", "a.wav: Agent"),
        ("hi a yes a", "1", "a.wav: Customer"),
    }
    assert result.lines == {"a.vtt": {"found": 2, "used": 1, "left_out": 1}}
    assert [each.level for each in result.left_out] == ["note"]
    assert not [guess for guess in result.guesses if guess.what == "channel"]


def test_two_voices_of_one_sound_in_two_channels_stay_together(tmp_path: Path) -> None:
    folder = with_cues(tmp_path / "calls", "a", TWO)
    samples, rate = soundfile.read(folder / "a.wav")
    soundfile.write(folder / "a.wav", np.stack([samples, samples], 1), rate)
    _, rows = told(folder, tmp_path / "to", speakers="agent=0,customer=1")
    assert {text: row.speaker for text, row in rows.items()} == {"hello a hi a": None}


def test_what_is_told_by_loudness_or_by_labels_is_a_guess(tmp_path: Path) -> None:
    labelled = (
        "00:00.500 --> 00:04.000\nAgent: good morning\n\n00:14.000 --> 00:17.000\nCustomer: hi"
    )
    folder = with_cues(tmp_path / "calls", "a", labelled, stereo=True)
    result, rows = told(folder, tmp_path / "to")
    assert {text: row.group["recording_channel"] for text, row in rows.items()} == {
        "good morning": "0",
        "hi": "1",
    }
    loud, label = "the channel that is the loudest", "the label at the beginning"
    found = {
        (each.what, each.value)
        for each in result.guesses
        if each.source.startswith((loud, label)) and each.first
    }
    assert found == {
        ("channel", "0"),
        ("channel", "1"),
        ("speaker", "a.wav: Agent"),
        ("speaker", "a.wav: Customer"),
    }
    result, _ = told(folder, tmp_path / "two", speakers="agent=0,customer=1")
    assert {each.what for each in result.guesses} == {"format"}  # the user names them
