"""Transcripts of two people and of long recordings, divided by speaker, channel and time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mmtune.data.check import check
from mmtune.errors import ConfigError
from mmtune.runs.modalities import find_modality
from mmtune.speech.corpus.importers import import_speech, joint, sides
from mmtune.speech.corpus.importers.joint import by_hearing, words_of
from mmtune.speech.corpus.importers.on_disk import on_disk
from mmtune.speech.corpus.importers.piece import ImportOptions, Piece
from mmtune.speech.whisper.word_times import Word
from mmtune.system.files import PARTIAL
from tests.data.pieces import write_audio

SPEECH = find_modality("speech")
AGENT = "good morning this is ann how can i help you"
CUSTOMER = "my printer is broken since yesterday evening"
AGENT_2 = "please turn it off and on again"
TURNS = [(0, 0.5, AGENT), (1, 14.0, CUSTOMER), (0, 26.0, AGENT_2), (1, 36.0, "thank you bye")]


def heard(turns: Sequence[tuple[int, float, str]]) -> list[list[Word]]:
    """What a model hears: 0.4 s for each word."""
    found: list[list[Word]] = [[], []]
    for channel, start, text in turns:
        found[channel] += [
            Word(start + 0.4 * i, start + 0.4 * i + 0.35, f" {word}", 0.9)
            for i, word in enumerate(text.split())
        ]
    return found


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A model that hears `TURNS`; the list counts the tracks of each call."""
    counts: list[int] = []

    def listen(tracks: Sequence[Any]) -> list[list[Word]]:
        counts.append(len(tracks))
        both = heard(TURNS)
        return both if len(tracks) == 2 else [sorted([*both[0], *both[1]], key=lambda w: w.start)]

    monkeypatch.setattr(joint, "open_listener", lambda options: listen)
    return counts


def call(path: Path, seconds: float = 40.0, rate: int = 8000, seed: int = 0) -> Path:
    """A stereo call, noise where `TURNS` are: 8 kHz mu-law WAV or MP3."""
    rng = np.random.default_rng(seed)
    samples = 1e-3 * rng.standard_normal((int(seconds * rate), 2)).astype(np.float32)
    for channel, start, text in TURNS:
        first = round(start * rate)
        last = min(first + round(0.4 * len(text.split()) * rate), len(samples))
        noise = rng.standard_normal(max(0, last - first)).astype(np.float32)
        samples[first:last, channel] += 0.1 * noise
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mp3":
        soundfile.write(path, samples, rate, format="MP3")
    else:
        soundfile.write(path, samples, rate, subtype="ULAW")
    return path


def rows_of(source: Path, to: Path, **options: Any) -> set[tuple[str, str, str | None]]:
    import_speech(source, to, None, {"language": "en", **options})
    if not (to / "manifest.jsonl").read_text():
        return set()
    rows = check(to, SPEECH).rows
    return {(r.group.get("recording_channel", ""), r.reference, r.speaker) for r in rows}


def lost(to: Path) -> str:
    return (to / "left_out.jsonl").read_text()


LABELLED = f"Agent: {AGENT}\nCustomer: {CUSTOMER}\nAgent: {AGENT_2}\nCustomer: thank you bye\n"
BARE = "\n".join(text for _, _, text in TURNS)
EXPECTED = {("0", AGENT), ("1", CUSTOMER), ("0", AGENT_2), ("1", "thank you bye")}


@pytest.mark.parametrize(
    ("suffix", "text", "speakers"),
    [
        (".wav", LABELLED, "agent=0,customer=1"),
        (".wav", LABELLED.replace("\n", " "), "agent=0,customer=1"),
        (".wav", BARE, "agent=0,customer=1"),
        (".wav", LABELLED, ""),
        (".wav", BARE.replace("\n", " "), ""),
        (".mp3", LABELLED, ""),
    ],
)
def test_a_long_call_with_a_joint_transcript(
    tmp_path: Path, model: list[int], suffix: str, text: str, speakers: str
) -> None:
    folder = call(tmp_path / f"calls/one{suffix}").parent
    (folder / "one.txt").write_text(text)
    given = {"speakers": speakers} if speakers else {}
    rows = rows_of(folder, tmp_path / "to", align=True, base="x", **given)
    assert {row[:2] for row in rows} == EXPECTED, lost(tmp_path / "to")
    assert model == [2]
    names = {row[2] for row in rows}
    if speakers or "Agent" in text:
        assert {str(name).casefold() for name in names} == {
            f"one{suffix}: agent",
            f"one{suffix}: customer",
        }
    else:
        assert names == {None}


def test_a_table_of_notes_becomes_a_manifest(tmp_path: Path, model: list[int]) -> None:
    for i in range(3):
        call(tmp_path / f"calls/{i}.wav", seed=i)
    lines = [f'{i}.wav;"{LABELLED}";Ann Lee;C{i}' for i in range(3)]
    notes = tmp_path / "calls/notes.csv"
    notes.write_text("\ufefffile;transcript;agent;customer\n" + "\n".join(lines), encoding="utf-8")
    options = {"align": True, "base": "x", "speakers": "agent=0,customer=1"}
    rows = rows_of(notes, tmp_path / "to", **options)
    assert rows == {
        (channel, text, "Ann Lee" if channel == "0" else f"C{i}")
        for channel, text in EXPECTED
        for i in range(3)
    }
    assert lost(tmp_path / "to") == ""


def test_every_layout_cuts_long_recordings(tmp_path: Path, model: list[int]) -> None:
    rate = 8000
    noise = 0.1 * np.random.default_rng(0).standard_normal(40 * rate)
    text = " ".join(text for _, _, text in TURNS)
    for layout in ("table", "audiofolder", "transcripts", "subtitles", "kaldi"):
        folder = tmp_path / layout
        folder.mkdir()
        soundfile.write(folder / "one.wav", noise, rate)
        if layout == "table":
            (folder / "list.csv").write_text(f"path,text\none.wav,{text}\n")
        elif layout == "audiofolder":
            line = json.dumps({"file_name": "one.wav", "text": text})
            (folder / "metadata.jsonl").write_text(line)
        elif layout == "transcripts":
            (folder / "one.txt").write_text(text)
        elif layout == "subtitles":
            (folder / "one.srt").write_text(f"1\n00:00:00,000 --> 00:00:40,000\n{text}\n")
        else:
            (folder / "wav.scp").write_text("one one.wav\n")
            (folder / "text").write_text(f"one {text}\n")
        result = import_speech(
            folder, tmp_path / f"to-{layout}", None, {"align": True, "base": "x"}
        )
        assert result.layout == layout
        assert result.rows > 1, result.left_out
        rows = check(tmp_path / f"to-{layout}", SPEECH).rows
        assert " ".join(row.reference for row in rows) == text


def test_without_a_model_the_finding_says_what_to_do(tmp_path: Path) -> None:
    folder = call(tmp_path / "calls/one.wav", seconds=20.0).parent
    (folder / "one.txt").write_text(LABELLED)
    assert rows_of(folder, tmp_path / "a") == set()
    assert "--speakers agent=0,customer=1" in lost(tmp_path / "a")
    assert {row[:2] for row in rows_of(folder, tmp_path / "b", speakers="agent=0,customer=1")} == {
        ("0", f"{AGENT} {AGENT_2}"),
        ("1", f"{CUSTOMER} thank you bye"),
    }
    with pytest.raises(ConfigError, match="names no speaker with a channel"):
        rows_of(folder, tmp_path / "c", speakers="agent,customer")


def test_one_channel_with_two_people_keeps_all_words(tmp_path: Path) -> None:
    samples = 0.1 * np.random.default_rng(0).standard_normal(8000)
    (tmp_path / "a").mkdir()
    soundfile.write(tmp_path / "a/one.wav", samples, 8000)
    (tmp_path / "a/one.txt").write_text("Agent: good morning\nCustomer: hello")
    assert rows_of(tmp_path / "a", tmp_path / "to") == {("", "good morning hello", None)}


def test_words_that_neither_or_both_channels_hold_are_undecided() -> None:
    said = words_of("good morning ann\nxx yy zz\nthe printer is broken", ImportOptions())
    sides = heard([(0, 0.0, "good morning ann"), (1, 5.0, "the printer is broken")])
    channels = by_hearing(said, sides)
    assert channels[:3] == [0, 0, 0]
    assert channels[6:] == [1, 1, 1, 1]
    assert by_hearing(words_of("xx yy", ImportOptions()), sides) == [None, None]
    # Crosstalk: a word of one side that the other channel heard too doesn't change the side.
    sides[1] += heard([(1, 0.5, "morning")])[1]
    assert by_hearing(said, sides)[:3] == [0, 0, 0]


def test_times_before_lines_are_no_words() -> None:
    said = words_of("[00:01] Agent: hello\n[00:12] Customer: hi there", ImportOptions())
    assert [(word.text, word.speaker) for word in said] == [
        ("hello", "Agent"),
        ("hi", "Customer"),
        ("there", "Customer"),
    ]


# The speaker of each run of words, in a recording without sides and in a call; "" is nobody.
LABELS: dict[str, tuple[str, list[tuple[str, str]], list[tuple[str, str]] | None]] = {
    "dictated": (
        "Patient: 45 years old, no fever.",
        [("", "Patient: 45 years old, no fever.")],
        [("Patient", "45 years old, no fever.")],
    ),
    "dictated in lines": (
        "Patient: 45 years old,\nno fever.",
        [("", "Patient: 45 years old, no fever.")],
        [("Patient", "45 years old, no fever.")],
    ),
    "sides of a body": (
        "Left: clear. Right: small effusion.",
        [("", "Left: clear. Right: small effusion.")],
        [("Left", "clear. Right: small effusion.")],
    ),
    "sides in lines": (
        "Left: clear.\nRight: small effusion.",
        [("", "Left: clear. Right: small effusion.")],
        [("Left", "clear."), ("Right", "small effusion.")],
    ),
    "headings": (
        "Findings: clear.\nImpression: normal.",
        [("", "Findings: clear. Impression: normal.")],
        [("Findings", "clear."), ("Impression", "normal.")],
    ),
    "a heading and sides": (
        "Indication: cough.\nLeft: clear.\nRight: clear.",
        [("", "Indication: cough. Left: clear. Right: clear.")],
        [("", "Indication: cough."), ("Left", "clear."), ("Right", "clear.")],
    ),
    "two in a line": (
        "Agent: Good morning. Customer: Hello.",
        [("Agent", "Good morning."), ("Customer", "Hello.")],
        None,
    ),
    "one that speaks twice": (
        "Agent: Good morning. Agent: Bye.",
        [("Agent", "Good morning. Bye.")],
        None,
    ),
    "two in lines": ("Doctor: a\nPatient: b", [("Doctor", "a"), ("Patient", "b")], None),
    "numbered": ("Speaker 1: hello you", [("Speaker 1", "hello you")], None),
    "a channel": ("channel 2: hello you", [("channel 2", "hello you")], None),
    "named by the user": ("Ann Lee: hello", [("Ann Lee", "hello")], None),
    "within": ("We heard.\nHost: none came.", [("", "We heard. Host: none came.")], None),
    "a sentence": ("Remember: call us", [("", "Remember: call us")], None),
}


@pytest.mark.parametrize("kind", LABELS)
def test_a_single_label_needs_a_second_one_or_a_known_name(kind: str) -> None:
    text, alone, call_ = LABELS[kind]
    options = ImportOptions.model_validate({"speakers": "ann lee=0"})
    for is_call, expected in ((False, alone), (True, call_ or alone)):
        runs = [
            (name, " ".join(word.text for word in run))
            for name, run in groupby(words_of(text, options, sides=is_call), lambda w: w.speaker)
        ]
        assert runs == expected, is_call


@pytest.mark.parametrize(
    ("text", "columns", "speakers", "expected", "guessed"),
    [
        ("Patient: no fever.", {"speaker": "Dr Ann Lee"}, "", "Dr Ann Lee", ""),
        ("Agent: hello. Agent: bye.", {"speaker": "Ann Lee"}, "", "Ann Lee", ""),
        ("Agent: hello. Agent: bye.", {"speaker": "N/A"}, "", "0.wav: Agent", "speaker"),
        ("Agent: hello. Agent: bye.", {}, "", "0.wav: Agent", "speaker"),
        ("Agent: hello. Agent: bye.", {}, "agent=0,customer=1", "0.wav: Agent", ""),
        ("Agent: hello", {}, "agent=0,customer=1", "0.wav: Agent", ""),
        ("Agent: hello. Agent: bye.", {"agent": "Bo Ek"}, "", "Bo Ek", ""),
        ("Agent: hello. Agent: bye.", {"agent": "Bo", "speaker": "Ann"}, "", "Bo", ""),
        ("Agent: hello. Customer: bye.", {"speaker": "Ann Lee"}, "", "Ann Lee", ""),
        ("Agent: hello. Customer: bye.", {}, "", None, ""),
        ("Agent: hello", {}, "", None, ""),
    ],
)
def test_a_stated_speaker_is_kept_and_a_label_is_a_guess(
    tmp_path: Path,
    text: str,
    columns: dict[str, str],
    speakers: str,
    expected: str | None,
    guessed: str,
) -> None:
    write_audio(tmp_path / "a/0.wav", seconds=2.0)
    row = {"audio": "0.wav", "text": text, **columns}
    (tmp_path / "a/list.jsonl").write_text(json.dumps(row))
    options = {"speakers": speakers} if speakers else {}
    result = import_speech(tmp_path / "a/list.jsonl", tmp_path / "to", None, options)
    [found] = check(tmp_path / "to", SPEECH).rows
    assert found.speaker == expected
    sources = {each.what: each.source for each in result.guesses if each.what != "format"}
    assert set(sources) == ({guessed} if guessed else set())
    assert all("label" in source for source in sources.values())


@pytest.mark.parametrize(
    ("text", "source"), [(LABELLED, "words of its speaker"), (BARE, "its words were heard")]
)
def test_the_channel_in_which_words_were_heard_is_a_guess(
    tmp_path: Path, model: list[int], text: str, source: str
) -> None:
    folder = call(tmp_path / "calls/one.wav").parent
    (folder / "one.txt").write_text(text)
    options = {"align": True, "base": "x"}
    result = import_speech(folder, tmp_path / "to", None, options)
    channels = {each.value: each for each in result.guesses if each.what == "channel"}
    assert set(channels) == {"0", "1"}
    assert all(source in each.source for each in channels.values())
    assert sum(each.rows for each in channels.values()) == result.rows
    options["speakers"] = "agent=0,customer=1"
    stated = import_speech(folder, tmp_path / "two", None, options)
    assert ("channel" in {each.what for each in stated.guesses}) == (text == BARE)


def test_a_call_is_decoded_once_to_compare_its_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = call(tmp_path / "calls/one.wav")
    decoded: list[Path] = []
    real = sides.decode
    monkeypatch.setattr(
        sides, "decode", lambda path, info: decoded.append(path) or real(path, info)
    )
    lines = [f"one.wav,Agent: words {i},{i},{i + 1}\n" for i in range(5)]
    (recording.parent / "list.csv").write_text("audio,text,start,end\n" + "".join(lines))
    options = {"speakers": "agent=0,customer=1"}
    assert import_speech(recording.parent, tmp_path / "to", None, options).rows == 5
    assert decoded == [recording]
    call(recording, seed=7)  # a file that has changed is decoded again
    import_speech(recording.parent, tmp_path / "to", None, options)
    assert decoded == [recording, recording]


def test_bytes_of_a_table_are_a_file_for_a_while(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        for name, suffix in (("a.wav", ".wav"), ("b", ""), ("c.m4a", ".m4a"), ("d.x/y", "")):
            with on_disk(Piece(b"sound", name, "text", "row 1"), folder) as path:
                assert path.read_bytes() == b"sound"
                assert path.suffix == suffix
                # What a killed import leaves behind is removed by its name.
                assert path.name.startswith(PARTIAL)
                assert folder in (None, path.parent)
            assert not path.exists()
    whole = tmp_path / "whole.wav"
    with on_disk(Piece(whole, "whole.wav", "text", "row 1")) as path:
        assert path == whole


def test_a_divided_row_counts_once(tmp_path: Path, model: list[int]) -> None:
    """One row gives four pieces, one gives none, one a piece and words without a channel."""
    folder = call(tmp_path / "calls/0.wav").parent
    call(folder / "1.wav", seed=1)
    some = f"{LABELLED}Customer: seven words that the model never heard at all today\n"
    rows = [{"audio": "0.wav", "text": LABELLED}, {"audio": "1.wav", "text": "nobody said this"}]
    rows.append({"audio": "0.wav", "text": some})
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"align": True, "base": "x", "speakers": "agent=0,customer=1"}
    result = import_speech(folder, tmp_path / "to", None, options)
    assert result.rows > 4
    assert result.lines == {"list.jsonl": {"found": 3, "used": 2, "left_out": 1}}
    assert sum(each.items for each in result.left_out) == 1
    assert {each.file for each in result.left_out} <= {"list.jsonl", "1.wav"}
    assert result.files == {"found": 3, "used": 2, "left_out": 1}


def test_each_cue_of_a_call_is_counted(tmp_path: Path) -> None:
    folder = call(tmp_path / "calls/one.wav").parent
    cues = [
        ("0.500", "4.000", "<v Agent>good morning"),
        ("0.500", "4.000", "<v Customer>mhm"),
        ("4.200", "5.000", "<v Agent>this is ann"),
        ("4.200", "5.000", "<v Agent>this is ann"),  # repeated
        ("6.000", "7.000", "<v Agent>[music]"),
        ("8.000", "9.000", "<v Agent></v>"),
        ("12.000", "11.000", "<v Agent>backwards"),
        ("14.000", "18.000", "<v Customer>my printer is broken"),
    ]
    blocks = [f"00:{a:0>6} --> 00:{b:0>6}\n{text}\n" for a, b, text in cues]
    (folder / "one.vtt").write_text("WEBVTT\n\n" + "\n".join(blocks))
    (folder / "two.vtt").write_text("WEBVTT\n")
    call(folder / "two.wav", seconds=2.0)
    options = {"speakers": "agent=0,customer=1"}
    result = import_speech(folder, tmp_path / "to", None, options)
    assert result.rows == 3
    assert result.lines == {"one.vtt": {"found": 8, "used": 4, "left_out": 4}}
    assert sum(each.items for each in result.left_out) == 4
    assert {each.file for each in result.left_out} == {"one.vtt", "two.vtt", "two.wav"}
    again = import_speech(folder, tmp_path / "to", None, options)
    assert not again.new
    assert not again.removed
