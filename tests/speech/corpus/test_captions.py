"""Kinds of SRT and WebVTT: captions without numbers, with tags, that repeat themselves; names."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import webvtt

from mmtune.speech.corpus.importers import import_speech
from mmtune.speech.corpus.importers.captions import read_srt, read_vtt, without_repeats
from mmtune.speech.corpus.importers.cues import Cue, pieces_of
from mmtune.speech.corpus.importers.piece import ImportOptions
from mmtune.speech.corpus.importers.subtitle_names import SubtitleFiles, language_of
from mmtune.speech.corpus.importers.subtitles import read_subtitles
from mmtune.speech.corpus.speaker_labels import read_labels
from tests.data.pieces import write_audio
from tests.speech.corpus.layouts import left_out

T = "00:00:0{}{p}000 --> 00:00:0{}{p}000\n"


def times(first: int, last: int, point: str = ",") -> str:
    return T.format(first, last, p=point)


# Start, end and text of each caption. webvtt-py reads them too, except those without numbers.
SRT = {
    "plain": (
        "1\n" + times(1, 2) + "one\n\n2\n" + times(3, 4) + "two\n",
        [(1, 2, "one"), (3, 4, "two")],
    ),
    "crlf": ("1\r\n" + times(1, 2) + "one\r\ntwo\r\n\r\n", [(1, 2, "one\ntwo")]),
    "year": (
        "1\n" + times(1, 2) + "in\n1984\n\n2\n" + times(3, 4) + "x\n",
        [(1, 2, "in\n1984"), (3, 4, "x")],
    ),
    "blank within": (
        "1\n" + times(1, 2) + "one\n\ntwo\n\n2\n" + times(3, 4) + "x\n",
        [(1, 2, "one\ntwo"), (3, 4, "x")],
    ),
    "milliseconds": ("1\n00:00:01,5 --> 00:00:02,50\none\n", [(1.005, 2.05, "one")]),
    "point": ("1\n" + times(1, 2, ".") + "one\n", [(1, 2, "one")]),
    "no blank between": (
        "1\n" + times(1, 2) + "one\n2\n" + times(3, 4) + "two\n",
        [(1, 2, "one"), (3, 4, "two")],
    ),
    "places": ("1\n00:00:01,000 --> 00:00:02,000 X1:1 X2:2\none\n", [(1, 2, "one")]),
    "no numbers": (
        times(1, 2) + "one\n\n" + times(3, 4) + "1984\n\n" + times(5, 6) + "x",
        [(1, 2, "one"), (3, 4, "1984"), (5, 6, "x")],
    ),
    "no numbers, no blanks": (
        times(1, 2) + "one\n1984\n" + times(3, 4) + "two",
        [(1, 2, "one\n1984"), (3, 4, "two")],
    ),
}
VTT = {
    "hours": (
        "00:01.000 --> 00:02.000\none\n\n01:00:00.500 --> 01:00:01.000\nx\n",
        [(1, 2, "one"), (3600.5, 3601, "x")],
    ),
    "identifier": ("a b\n00:01.000 --> 00:02.000\none\n", [(1, 2, "one")]),
    "notes": (
        "NOTE x\ny\n\nSTYLE\n::cue{}\n\n00:01.000 --> 00:02.000 align:start\none\n\nNOTE\nz\n",
        [(1, 2, "one")],
    ),
    "no blank between": (
        "00:01.000 --> 00:02.000\none\n00:03.000 --> 00:04.000\ntwo\n",
        [(1, 2, "one"), (3, 4, "two")],
    ),
}


def by_webvtt(read: webvtt.WebVTT) -> list[tuple[float, float, str]]:
    def seconds(time: webvtt.models.Timestamp) -> float:
        hours, minutes, seconds, milliseconds = time.to_tuple()
        return float((hours * 60 + minutes) * 60 + seconds + milliseconds / 1000)

    return [(seconds(c.start_time), seconds(c.end_time), c.raw_text) for c in read.captions]


@pytest.mark.parametrize("kind", SRT)
def test_srt(kind: str) -> None:
    text, expected = SRT[kind]
    read = read_srt(text)
    assert [(c.start, c.end, "\n".join(c.lines)) for c in read.captions] == expected
    if not kind.startswith("no numbers"):
        assert by_webvtt(webvtt.from_buffer(io.StringIO(text, None), format="srt")) == expected
    assert read.unused == ()


@pytest.mark.parametrize("kind", VTT)
def test_vtt(kind: str) -> None:
    text, expected = VTT[kind]
    read = read_vtt("WEBVTT\n\n" + text)
    assert [(c.start, c.end, "\n".join(c.lines)) for c in read.captions] == expected
    assert by_webvtt(webvtt.from_string("WEBVTT\n\n" + text)) == expected
    assert read.unused == ()


def test_lines_without_times_are_listed() -> None:
    srt = "title\n\n1\n00:00:01,000 --> 00:00:0x\nlost\n\n2\n" + times(3, 4) + "kept\n"
    assert [line for _, line in read_srt(srt).unused] == [
        "title",
        "00:00:01,000 --> 00:00:0x",
        "lost",
    ]
    vtt = "WEBVTT\n\n00:01.000 --> 00:02.000\nkept\n\nlost\n\n1:x --> 2\nbad\n"
    assert read_vtt(vtt).unused == ((6, "lost"), (8, "1:x --> 2"), (9, "bad"))


REPEATS = {
    # As YouTube writes what it hears: a line is spoken, stands still, and moves up.
    "rolling": (
        [
            "one <c>two</c>",
            "one two",
            "one two\nthree<00:00:03.500> four",
            "three four",
            "three four\nfive",
        ],
        "one two three four five",
    ),
    "two lines": (["a b\nc d", "c d\ne f", "e f\ng h"], "a b c d e f g h"),
    "growing": (
        ["so we went", "so we went home", "so we went home and", "so we went home and slept"],
        "so we went home and slept",
    ),
    "people repeat themselves": (["No.", "No.", "No, no.", "Yes."], "No. No. No, no. Yes."),
    "a refrain": (["la la la", "oh", "la la la", "la la la"], "la la la oh la la la la la la"),
}


@pytest.mark.parametrize("kind", REPEATS)
def test_each_word_is_used_once(tmp_path: Path, kind: str) -> None:
    texts, expected = REPEATS[kind]
    blocks = [f"00:0{i}.000 --> 00:0{i + 1}.000\n{text}\n" for i, text in enumerate(texts)]
    path = tmp_path / "a.vtt"
    path.write_text("WEBVTT\n\n" + "\n".join(blocks))
    read = read_subtitles(path, ImportOptions())
    assert " ".join(cue.text for cue in read.cues if cue.text) == expected
    assert bool(read.problems) == (kind in ("rolling", "two lines", "growing"))


def test_the_same_words_at_the_same_time_count_once() -> None:
    read = read_srt("1\n" + times(1, 3) + "one\n\n2\n" + times(1, 3) + "one\n")
    assert without_repeats(read.captions) == ([read.captions[0]], 1)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Agent: Hello.", "Customer: Hi."], [("Agent", "Hello."), ("Customer", "Hi.")]),
        (["[AGENT]: Hello.", "more"], [("AGENT", "Hello."), ("AGENT", "more")]),
        (["- Speaker 1: a", "- Speaker 2: b"], [("Speaker 1", "a"), ("Speaker 2", "b")]),
        (["Ann Lee: a", "Bo: b", "Ann Lee: c"], [("Ann Lee", "a"), ("Bo", "b"), ("Ann Lee", "c")]),
        (["Kundin： ja", "Berater： nein"], [("Kundin", "ja"), ("Berater", "nein")]),
        (
            ["Remember: call us.", "At 10:30 we meet."],
            [("", "Remember: call us."), ("", "At 10:30 we meet.")],
        ),
        (["See https://x.org", "ok"], [("", "See https://x.org"), ("", "ok")]),
        (["Note: it rains"], [("", "Note: it rains")]),
        (["The rule is simple: never: a", "b"], [("", "The rule is simple: never: a"), ("", "b")]),
        ([""], [("", "")]),
    ],
)
def test_labels(lines: list[str], expected: list[tuple[str, str]]) -> None:
    assert read_labels(lines) == expected


@pytest.mark.parametrize(
    ("name", "text", "language"),
    [
        ("talk.srt", "x", None),
        ("talk.de.srt", "x", "de"),
        ("talk.pt-BR.srt", "x", "pt"),
        ("talk.en.sdh.srt", "x", "en"),
        ("talk.forced.fr.srt", "x", "fr"),
        ("talk.sdh.srt", "x", None),
        ("talk.cc.srt", "x", None),
        ("talk.forced.srt", "x", None),
        ("talk.default.srt", "x", None),
        ("talk.hi.srt", "hello there", None),  # for the hearing impaired
        ("talk.hi.srt", "नमस्ते दुनिया", "hi"),
        ("talk.en.hi.srt", "hello", "en"),
        ("talk.whisper.srt", "x", None),
    ],
)
def test_languages_of_names(tmp_path: Path, name: str, text: str, language: str | None) -> None:
    recording = tmp_path / "talk.wav"
    recording.touch()
    (tmp_path / name).write_text("1\n" + times(1, 2) + text)
    assert SubtitleFiles().of(recording) == [tmp_path / name]
    assert language_of(recording, tmp_path / name) == language


def test_names_that_are_of_another_recording(tmp_path: Path) -> None:
    for name in (
        "call.wav",
        "call.2.srt",
        "call-2.srt",
        "call2.srt",
        "call.2.de.srt",
        "call.part.b.srt",
    ):
        (tmp_path / name).touch()
    assert SubtitleFiles().of(tmp_path / "call.wav") == []
    for name in ("call.forced.srt", "call.en.srt", "call.en.sdh.vtt", "call.srt", "call.vtt"):
        (tmp_path / name).touch()
    order = [path.name for path in SubtitleFiles().of(tmp_path / "call.wav")]
    assert order == ["call.vtt", "call.srt", "call.en.srt", "call.en.sdh.vtt", "call.forced.srt"]


def test_files_that_are_not_used_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    write_audio(folder / "talk.wav", seconds=9.0)
    (folder / "talk.srt").write_text("1\n" + times(1, 2) + "- one\n- two\n")
    (folder / "talk.ass").touch()
    (folder / "other.srt").touch()
    (folder / "talk.sdh.srt").write_text("1\n" + times(1, 2) + "(x) one\n")
    assert import_speech(folder, tmp_path / "to").rows == 1
    assert set(left_out(tmp_path / "to")) == {"talk.ass", "other.srt", "talk.sdh.srt"}


def test_sides_of_a_call_may_speak_at_once() -> None:
    cues = [Cue(0, 4, "a", "A", 0), Cue(1, 3, "mhm", "B", 1), Cue(4.2, 6, "b", "A", 0)]
    assert pieces_of(cues) == [Cue(0, 6, "a b", "A", 0, 2), Cue(1, 3, "mhm", "B", 1)]
