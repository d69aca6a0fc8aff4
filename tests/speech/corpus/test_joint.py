"""Transcripts of two people and of long recordings, divided by speaker, channel and time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mmtune.data.check import check
from mmtune.errors import ConfigError
from mmtune.runs.modalities import find_modality
from mmtune.speech.corpus.importers import import_speech, joint
from mmtune.speech.corpus.importers.joint import by_hearing, words_of
from mmtune.speech.corpus.importers.piece import ImportOptions
from mmtune.speech.whisper.word_times import Word

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
