"""Transcripts that mmtune wrote are imported with the same words, times, speakers and language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmtune.data.check import check
from mmtune.runs.modalities import find_modality
from mmtune.speech.corpus.check_transcript import describes_sound
from mmtune.speech.corpus.importers import import_speech
from mmtune.speech.corpus.importers.joint import words_of
from mmtune.speech.corpus.importers.piece import ImportOptions
from mmtune.speech.corpus.importers.subtitles import Subtitles, read_subtitles
from mmtune.speech.transcription.transcript import (
    WRITERS,
    Transcript,
    TranscriptSegment,
    cues,
    make_transcript,
)
from mmtune.speech.whisper.word_times import Word

SPEECH = find_modality("speech")
NASTY = [
    "-->",
    *("a --> b", "00:00:01.000 --> 00:00:02.000", "<b>bold</b>", "1 < 2 & 3 > 2", "<", "&amp;"),
    *(
        "&#65;",
        "&copy",
        "{\\an8}up",
        "two\n\nlines",
        "7",
        "NOTE this",
        "WEBVTT",
        "Agent: no",
        "STYLE",
    ),
    *(">> yes", "&gt;&gt; no", "- dash", "שלום עולם", "مرحبا، كيف", "\u202babc\u202c", "東京：へ"),
    *("Remember: call us", "<v Ann>hi", "10:30", "a\u2028b", "\u0085", "…", "☎", "[", "*67#"),
]
TEXT = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30),
    st.lists(st.sampled_from(NASTY), min_size=2, max_size=3).map(" ".join),
).filter(lambda text: text.strip() and not describes_sound(" ".join(text.split())))
NAMES = st.sampled_from(
    [
        (),
        ("agent", "customer"),
        ("channel 1", "channel 2"),
        ("Ann & Bo", "D. <Lee>"),
        ("סוכן", "x: y"),
    ]
)


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    names = draw(NAMES)
    segments, now = [], 0.0
    for _ in range(draw(st.integers(1, 5))):
        start = now + draw(st.floats(0.01, 2))
        now = start + draw(st.floats(0, 6))
        name = draw(st.sampled_from(names)) if names else None
        text = draw(TEXT)
        words: tuple[Word, ...] = ()
        if draw(st.booleans()):
            parts = text.split()
            step = (now - start) / len(parts)
            words = tuple(
                Word(start + i * step, start + (i + 1) * step, f" {part}", 0.5)
                for i, part in enumerate(parts)
            )
            text = " ".join(parts)
        segments.append(TranscriptSegment(start, now, text, name, words))
    language = draw(st.sampled_from([None, "de", "yue", "jw"]))
    return make_transcript(segments, language, names, now)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(transcripts())
def test_what_is_written_is_read(tmp_path: Path, transcript: Transcript) -> None:
    meant = [
        (" ".join(cue.text.split()), cue.channel or "", cue.start, cue.end)
        for cue in cues(transcript.segments)
    ]
    for suffix in ("srt", "vtt", "json"):
        path = tmp_path / f"call.{suffix}"
        path.write_text(WRITERS[suffix](transcript), encoding="utf-8", newline="")
        found = read_subtitles(path, ImportOptions())
        assert not found.problems, suffix
        assert [(cue.text, cue.voice) for cue in found.cues] == [each[:2] for each in meant]
        for cue, (_, _, start, end) in zip(found.cues, meant, strict=True):
            assert (cue.start, cue.end) == pytest.approx((start, end), abs=0.0006)
        if suffix != "srt":  # SRT has no place for them
            assert found.language == transcript.language
            assert list(found.channels) == [name.casefold() for name in transcript.channels]
    named = bool(transcript.channels)
    said = words_of(WRITERS["txt"](transcript), ImportOptions(), labels=named, sides=named)
    plain = (), ("agent", "customer"), ("channel 1", "channel 2")
    if transcript.channels in plain and "Agent:" not in transcript.text:
        spoken = [("".join(s.text.split()), s.channel or "") for s in transcript.segments]
        for side in {name for _, name in spoken}:
            # Chinese is joined without spaces.
            own = "".join(word.text for word in said if word.speaker == side)
            assert own == "".join(text for text, name in spoken if name == side)


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A call: the agent (left) speaks at 0 to 2 s and 4 to 6 s, the customer at 2 to 4 s."""
    path = tmp_path_factory.mktemp("call") / "call.wav"
    rng = np.random.default_rng(0)
    samples = 1e-3 * rng.standard_normal((8 * 8000, 2))
    for start, side in ((0, 0), (2, 1), (4, 0), (5, 1)):
        samples[start * 8000 : (start + 2) * 8000, side] += 0.2 * rng.standard_normal(16_000)
    soundfile.write(path, samples, 8000, subtype="ULAW")
    return path


def rows_of(
    folder: Path, to: Path, **options: Any
) -> list[tuple[str, str | None, str, str, str | None]]:
    import_speech(folder, to, None, options)
    return sorted(
        (
            row.group.get("recording_start", ""),
            row.speaker,
            row.reference,
            row.group.get("recording_channel", ""),
            row.language,
        )
        for row in check(to, SPEECH).rows
    )


@pytest.mark.parametrize(
    "names", [("channel 1", "channel 2"), ("agent", "customer"), ("Ann", "Bo Ek")]
)
def test_a_call_is_imported_with_its_channels(
    tmp_path: Path, call: Path, names: tuple[str, str]
) -> None:
    segments = [
        TranscriptSegment(0.1, 1.9, "Good morning.", names[0]),
        TranscriptSegment(2.1, 3.9, "My name: Ann.", names[1]),
        TranscriptSegment(4.1, 5.9, "Thank you.", names[0]),
        TranscriptSegment(5.2, 6.9, "Bye.", names[1]),
    ]
    transcript = make_transcript(segments, "de", names, 8.0)
    found = {}
    for suffix in ("srt", "vtt", "json", "txt"):
        folder = tmp_path / suffix
        folder.mkdir()
        (folder / "call.wav").write_bytes(call.read_bytes())
        (folder / f"call.{suffix}").write_text(WRITERS[suffix](transcript))
        options: dict[str, Any] = {} if suffix in ("vtt", "json") else {"language": "German"}
        if suffix == "txt":
            options["speakers"] = f"{names[0]}=0,{names[1]}=1"
        found[suffix] = rows_of(folder, tmp_path / f"to-{suffix}", **options)

    def who(name: str) -> str:
        return name if name[0] in "AB" else f"call.wav: {name}"

    assert found["vtt"] == found["json"] == found["srt"]
    assert found["json"] == sorted(
        (f"{s.start:.3f}", who(s.channel or ""), s.text, str(names.index(s.channel or "")), "de")
        for s in segments
    )
    assert found["txt"] == sorted(  # without times: a row for each side
        (
            "",
            who(name),
            " ".join(s.text for s in segments if s.channel == name),
            str(channel),
            "de",
        )
        for channel, name in enumerate(names)
    )


def test_corrected_words_count(tmp_path: Path, call: Path) -> None:
    words = (Word(0.1, 0.9, " Met", 0.9), Word(1.0, 1.9, " forming", 0.9))
    segments = [TranscriptSegment(0.1, 1.9, "Met forming", "channel 1", words)]
    text = WRITERS["json"](make_transcript(segments, "en", ("channel 1", "channel 2"), 8.0))
    read = _read(tmp_path, text.replace('"text": "Met forming"', '"text": "Metformin"'))
    assert [cue.text for cue in read.cues] == ["Metformin"]
    read = _read(tmp_path, text.replace("channel 1: Met forming", "channel 1: Metformin"))
    assert [cue.text for cue in read.cues] == ["Met forming"]
    assert "segments are used" in read.problems[0].found


def _read(folder: Path, text: str) -> Subtitles:
    path = folder / "call.json"
    path.write_text(text)
    return read_subtitles(path, ImportOptions())
