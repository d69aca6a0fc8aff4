"""Kinds of SRT and WebVTT: captions without numbers, with tags, that repeat themselves; names."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import webvtt

from mmtune.speech.corpus.importers import import_speech
from mmtune.speech.corpus.importers.captions import read_srt, read_vtt, without_repeats
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


# Captions, and the voice and the words of each cue that is left.
VOICED: dict[str, tuple[list[str], list[tuple[str, str]]]] = {
    "growing": (
        ["<v Ann Lee>we are in", "<v Ann Lee>we are in New York", "<v Ann Lee>we are in New York "
         "City now", "<v Ann Lee>we are in New York City now and then"],
        [("Ann Lee", "we are in"), ("Ann Lee", "New York"), ("Ann Lee", "City now"),
         ("Ann Lee", "and then")],
    ),
    "growing, with other tags": (
        ["<v.loud Ann><i>we are</i> in", "<v.loud Ann><i>we are</i> in <c>New</c> York",
         "<v.loud Ann>we<00:02.000> are in New York <b>City</b>",
         "<v.loud Ann>we are in New York City<c> now</c>"],
        [("Ann", "we are in"), ("Ann", "New York"), ("Ann", "City"), ("Ann", "now")],
    ),
    "growing, over lines": (
        ["<v Ann>one two three", "<v Ann>one two\nthree four", "<v Ann>one two\nthree four\nfive",
         "<v Ann>one two\nthree four\nfive six"],
        [("Ann", "one two three"), ("Ann", "four"), ("Ann", "five"), ("Ann", "six")],
    ),
    "growing, another voice goes on": (
        ["<v Ann>one two three", "<v Ann>one two three <v Bo>four",
         "<v Ann>one two three</v> <v Bo>four five",
         "<v Ann>one two three</v> <v Bo>four five six"],
        [("Ann", "one two three"), ("Bo", "four"), ("Bo", "five"), ("Bo", "six")],
    ),
    "growing, the voice has ended": (
        ["<v Ann>one two three</v>", "<v Ann>one two three</v> four",
         "<v Ann>one two three</v> four five", "<v Ann>one two three</v> four five six"],
        [("Ann", "one two three"), ("", "four"), ("", "five"), ("", "six")],
    ),
    "growing, placed": (
        ["{\\an8}one two three", "{\\an8}one two three four", "one two three four five",
         "{\\an8}one two three four five six"],
        [("", "one two three"), ("", "four"), ("", "five"), ("", "six")],
    ),
    "growing, with labels": (
        ["Agent: one two three", "Agent: one two three four", "Agent: one two three four five",
         "Agent: one two three four five six"],
        [("Agent", "one two three"), ("Agent", "four"), ("Agent", "five"), ("Agent", "six")],
    ),
    "scrolling": (
        ["<v Ann>a b\nc d", "<v Ann>c d\ne f", "<v Ann>e f\ng h"],
        [("Ann", "a b c d"), ("Ann", "e f"), ("Ann", "g h")],
    ),
    "scrolling, another voice goes on": (
        ["<v Ann>a b\n<v Bo>c d", "<v Bo>c d\ne f", "<v Bo>e f\n<v Ann>g h"],
        [("Ann + Bo", "a b c d"), ("Bo", "e f"), ("Ann", "g h")],
    ),
    "scrolling, with labels": (
        ["Ann: a b\nBo: c d", "Bo: c d\ne f", "Ann: g h\nBo: i j", "Bo: i j\nAnn: k l"],
        [("Ann + Bo", "a b c d"), ("Bo", "e f"), ("Ann + Bo", "g h i j"), ("Ann", "k l")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", VOICED)
def test_what_is_left_of_repeated_captions_keeps_its_voice(tmp_path: Path, kind: str) -> None:
    texts, expected = VOICED[kind]
    blocks = [f"00:0{i}.000 --> 00:0{i + 1}.000\n{text}\n" for i, text in enumerate(texts)]
    path = tmp_path / "a.vtt"
    path.write_text("WEBVTT\n\n" + "\n".join(blocks))
    read = read_subtitles(path, ImportOptions())
    assert [(cue.voice, cue.text) for cue in read.cues] == expected
    words = sum(len(re.sub(r"<[^>]*>|\{[^}]*\}|\w+:", "", text).split()) for text in texts)
    if "labels" not in kind:  # a label counts as a word
        kept = sum(len(text.split()) for _, text in expected)
        assert f"repeat {words - kept} words" in read.problems[0].found
    assert read.problems[0].level == "note"


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
        (
            ["We heard this.", "Patient: 45 years old.", "No fever."],
            [("", "We heard this."), ("", "Patient: 45 years old."), ("", "No fever.")],
        ),
        (["x", "Agent: a", "Customer: b"], [("", "x"), ("Agent", "a"), ("Customer", "b")]),
        (["x", "Agent: a", "Agent: b"], [("", "x"), ("Agent", "a"), ("Agent", "b")]),
        (["Left: a", "Right: b"], [("Left", "a"), ("Right", "b")]),
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


# Subtitles of each recording, the one that is used first, as `mmtune transcribe` names them: with
# the suffix of the recording where two have one name.
BESIDE: dict[str, dict[str, list[str]]] = {
    "one name": {
        "call.wav": ["call.wav.vtt"],
        "call.flac": ["call.flac.vtt", "call.flac.srt"],
    },
    "shared and own": {
        "call.wav": ["call.wav.vtt", "call.vtt"],
        "call.flac": ["call.vtt"],
    },
    "marks": {
        "call.wav": ["call.wav.de.srt", "call.wav.en.sdh.vtt"],
        "call.mp3": ["call.mp3.corrected.srt"],
        "call.2.mp3": ["call.2.mp3.srt", "call.2.srt"],
    },
    "suffix as a name": {
        "call.wav": ["call.wav.vtt", "call.vtt"],
        "call.wav.mp3": ["call.wav.mp3.vtt"],
    },
    "name with a point": {"call.wav.mp3": ["call.wav.vtt", "call.wav.en.srt"]},
    "suffix of the film": {"call.wav": ["call.mp4.srt"]},
    "capitals": {"call.WAV": ["call.WAV.SRT", "call.srt"]},
    "three": {
        "a.wav": ["a.wav.srt"],
        "a.flac": [],
        "a.ogg": ["a.ogg.de.srt"],
        "b.wav": ["b.vtt", "b.forced.srt"],
    },
    "numbers": {"call.wav": [], "call.flac": [], "1.wav": ["1.wav.srt"]},
}
OTHERS = {"numbers": ["call.wav.2.srt", "call.3.srt", "call.flac.1.vtt", "call.wav.x.y.srt"]}


@pytest.mark.parametrize("kind", BESIDE)
def test_subtitles_lie_beside_their_recording(tmp_path: Path, kind: str) -> None:
    expected = BESIDE[kind]
    for name in {*expected, *(name for names in expected.values() for name in names)}:
        (tmp_path / name).touch()
    for name in OTHERS.get(kind, ()):
        (tmp_path / name).touch()
    files = SubtitleFiles()
    found = {name: [path.name for path in files.of(tmp_path / name)] for name in expected}
    assert found == expected


def test_a_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(20):
        (tmp_path / f"{i}.wav").touch()
        (tmp_path / f"{i}.srt").touch()
    listed: list[Path] = []
    real = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: listed.append(path) or real(path))
    files = SubtitleFiles()
    assert [len(files.of(tmp_path / f"{i}.wav")) for i in range(20)] == [1] * 20
    assert listed == [tmp_path]


@pytest.mark.parametrize(
    ("language", "names", "used"),
    [
        ("en", ["talk.de.srt"], None),
        ("en", ["talk.de.srt", "talk.fr.srt"], None),
        ("en", ["talk.de.srt", "talk.wav.fr.sdh.vtt"], None),
        ("en", ["talk.de.srt", "talk.en.srt"], "talk.en.srt"),
        ("en", ["talk.de.srt", "talk.sdh.srt"], "talk.sdh.srt"),
        ("en", ["talk.de.srt", "talk.srt"], "talk.srt"),
        ("German", ["talk.deu.srt"], "talk.deu.srt"),
        ("yue", ["talk.zh.srt"], None),
        (None, ["talk.de.srt"], "talk.de.srt"),
        (None, ["talk.de.srt", "talk.de.sdh.srt"], "talk.de.srt"),
        (None, ["talk.de.srt", "talk.fr.srt"], None),
        (None, ["talk.de.srt", "talk.wav.srt", "talk.srt"], "talk.wav.srt"),
    ],
)
def test_a_translation_is_never_the_transcript(
    tmp_path: Path, language: str | None, names: list[str], used: str | None
) -> None:
    folder = tmp_path / "a"
    write_audio(folder / "talk.wav", seconds=3.0)
    for name in names:
        head = "WEBVTT\n\n" if name.endswith(".vtt") else "1\n"
        (folder / name).write_text(head + times(1, 2, "." if head[0] == "W" else ",") + name)
    options = {"language": language} if language else {}
    result = import_speech(folder, tmp_path / "to", "subtitles", options)
    found = {each.file: each for each in result.left_out if each.file in names}
    assert set(found) == set(names) - {used}
    assert result.rows == (used is not None)
    if used is None:
        assert "languages" in left_out(tmp_path / "to")["talk.wav"]
        assert "--language" in result.left_out[0].cure
        assert {each.level for each in found.values()} == {"warning"}
    else:
        assert f'"text": "{used}"' in (tmp_path / "to/manifest.jsonl").read_text()
        assert {each.level for each in found.values()} <= {"note"}


def test_files_that_are_not_used_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    write_audio(folder / "talk.wav", seconds=9.0)
    (folder / "talk.srt").write_text("1\n" + times(1, 2) + "- one\n- two\n")
    (folder / "talk.ass").touch()
    (folder / "other.srt").touch()
    (folder / "talk.sdh.srt").write_text("1\n" + times(1, 2) + "(x) one\n")
    assert import_speech(folder, tmp_path / "to").rows == 1
    assert set(left_out(tmp_path / "to")) == {"talk.ass", "other.srt", "talk.sdh.srt"}
