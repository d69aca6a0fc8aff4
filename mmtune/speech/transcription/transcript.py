"""`Transcript` and its segments, and writers for text, JSON, SubRip and WebVTT."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mmtune.speech.corpus.speaker_labels import read_labels
from mmtune.speech.speech_row import SENTENCE_ENDS
from mmtune.speech.whisper.word_times import Word
from mmtune.system.display import Displayed, Rows

PAUSE = 0.6  # seconds of pause between two words that end a segment
CUE_SECONDS, CUE_LETTERS = 7.0, 84  # limits of a subtitle: two lines of 42


@dataclass(frozen=True)
class PlacedTerm:
    """A term of a list that stands in place of words of the first pass.

    Attributes:
        term: the term as the list spells it.
        list: the list's file; None for terms from Python.
        line: the term's line in the list, from 1.
        original: the words of the first pass.
        score: similarity of the original words and the term, from 0 to 1.
        start, end: its first character in the segment's text, and the one after its last.
    """

    term: str
    list: str | None
    line: int
    original: str
    score: float
    start: int
    end: int


@dataclass(frozen=True)
class TranscriptSegment:
    """A part of a transcript: one window, or one sentence if words have times.

    Attributes:
        start, end: seconds from the beginning of the recording.
        text: the transcript of this part.
        channel: the channel's name, if each speaker has a channel; else None.
        words: words with times, if requested.
        log_probability: mean over the window's tokens; a text below -1 is a guess.
        no_speech: the model's probability that the window holds no speech.
        temperature: temperature of the decoding; above 0 the first attempt failed.
        terms: terms of a list that were put into the text (`--terms`).
    """

    start: float
    end: float
    text: str
    channel: str | None = None
    words: tuple[Word, ...] = ()
    log_probability: float = 0.0
    no_speech: float = 0.0
    temperature: float = 0.0
    terms: tuple[PlacedTerm, ...] = ()


@dataclass(frozen=True)
class Transcript(Displayed):
    """The transcript of a file.

    Attributes:
        text: the whole text; several channels have a line for each turn.
        language: Whisper's code; None for English-only bases.
        segments: segments in the order of time.
        channels: names of channels that were transcribed separately; empty for one.
        seconds: the recording's length.
    """

    text: str
    language: str | None
    segments: tuple[TranscriptSegment, ...]
    channels: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """All that is known as plain JSON values; numbers are rounded to four decimals."""
        values: dict[str, Any] = _rounded(asdict(self))
        return values

    def shown(self) -> Iterable[str | Rows]:
        """The text."""
        return [self.text]


def make_transcript(
    segments: Sequence[TranscriptSegment],
    language: str | None,
    channels: Sequence[str] = (),
    seconds: float = 0.0,
) -> Transcript:
    """Sort the segments of all channels by time, and join their text."""
    ordered = sorted((s for s in segments if s.text), key=lambda s: (s.start, s.end))
    turns: list[tuple[str | None, list[str]]] = []
    for segment in ordered:
        if not turns or turns[-1][0] != segment.channel:
            turns.append((segment.channel, []))
        turns[-1][1].append(" ".join(segment.text.split()))  # a line is a turn
    joiner = "" if ordered and _unspaced(language) else " "
    named = bool(channels)
    lines = [(f"{name}: " if named else "") + joiner.join(texts) for name, texts in turns]
    text = "\n".join(lines) if named else joiner.join(lines)
    return Transcript(text, language, tuple(ordered), tuple(channels), seconds)


def _unspaced(language: str | None) -> bool:
    from mmtune.metrics.text.normalize import UNSPACED

    return language in UNSPACED


def split(segment: TranscriptSegment) -> list[TranscriptSegment]:
    """Split a window into segments after each sentence and each pause; needs word times."""
    groups: list[list[Word]] = []
    for word in segment.words:
        last = groups[-1][-1] if groups else None
        if last is None or word.start - last.end >= PAUSE or last.text.endswith(SENTENCE_ENDS):
            groups.append([])
        groups[-1].append(word)
    found: list[TranscriptSegment] = []
    at = len(_joined(segment.words).lstrip()) - len(_joined(segment.words))  # spaces before it
    for words in groups:
        part, joined = _of_words(segment, words), _joined(words)
        shift = at + len(joined) - len(joined.lstrip())
        terms = tuple(
            replace(t, start=t.start - shift, end=min(t.end - shift, len(part.text)))
            for t in segment.terms
            if at <= t.start < at + len(joined)
        )
        found.append(replace(part, terms=terms))
        at += len(joined)
    return found or [segment]


def cues(segments: Sequence[TranscriptSegment]) -> list[TranscriptSegment]:
    """Split segments into pieces short enough for subtitles; segments without words stay."""
    result: list[TranscriptSegment] = []
    for segment in segments:
        words: list[Word] = []
        for word in segment.words:
            letters = len(_joined([*words, word]).strip())
            long = words and word.end - words[0].start > CUE_SECONDS
            if words and (long or letters > CUE_LETTERS):
                result.append(_of_words(segment, words))
                words = []
            words.append(word)
        result.append(_of_words(segment, words) if words else segment)
    return result


def _of_words(segment: TranscriptSegment, words: Sequence[Word]) -> TranscriptSegment:
    text = _joined(words).strip()
    return replace(segment, start=words[0].start, end=words[-1].end, text=text, words=tuple(words))


def _joined(words: Sequence[Word]) -> str:
    return "".join(word.text for word in words)


def as_txt(transcript: Transcript) -> str:
    """Format only the text, without times."""
    return transcript.text + "\n"


def as_json(transcript: Transcript) -> str:
    """Format everything as one line of JSON, with times in seconds, rounded to milliseconds."""
    return json.dumps(transcript.to_dict(), ensure_ascii=False) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return value


def as_srt(transcript: Transcript) -> str:
    """Format as SubRip: numbered cues, with the channel's name before its text.

    Words that a reader would take for markup, for times or for a speaker's name are written as HTML
    entities, so that `mmtune import` reads the same words.
    """
    shown = cues(transcript.segments)
    texts = [_plain_markup(cue.text) for cue in shown]
    names = ["" if cue.channel is None else " ".join(cue.channel.split()) for cue in shown]
    lines = [f"{name}: {text}" if name else text for name, text in zip(names, texts, strict=True)]
    if read_labels(lines) != list(zip(names, texts, strict=True)):  # such as a name of five words
        if any(names):
            lines = [_voice(name) + text for name, text in zip(names, texts, strict=True)]
        else:
            lines = _unlabelled(texts)
    blocks = [
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{line}\n"
        for number, (cue, line) in enumerate(zip(shown, lines, strict=True), start=1)
    ]
    return "\n".join(blocks)


def as_vtt(transcript: Transcript) -> str:
    """Format as WebVTT; a channel is a voice (https://www.w3.org/TR/webvtt1/).

    The header has the language and the channels' names, as "Language: en" and "Channel 0: agent".
    """
    shown = cues(transcript.segments)
    texts = [_escaped(cue.text) for cue in shown]
    if any(cue.channel for cue in shown):
        texts = [_voice(cue.channel) + text for cue, text in zip(shown, texts, strict=True)]
    else:
        texts = _unlabelled(texts)
    facts = [f"Language: {transcript.language}"] if transcript.language else []
    facts += [f"Channel {i}: {_escaped(name)}" for i, name in enumerate(transcript.channels)]
    blocks = ["\n".join(["WEBVTT", *facts]) + "\n"]
    for cue, text in zip(shown, texts, strict=True):
        blocks.append(f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{text}\n")
    return "\n".join(blocks)


def _voice(name: str | None) -> str:
    return f"<v {_escaped(name)}>" if name else ""


def _escaped(text: str) -> str:
    plain = html.escape(" ".join(text.split()), quote=False)
    return _unchanged(plain.replace("{\\", "&#123;\\"))


def _plain_markup(text: str) -> str:
    """SubRip has no escapes of its own: only what would be misread is escaped."""
    text = " ".join(text.split())
    if html.unescape(text) != text:
        text = text.replace("&", "&amp;")
    text = re.sub(r"<(?=/?[a-zA-Z0-9])", "&lt;", text).replace("{\\", "&#123;\\")
    return _unchanged(text.replace("-->", "--&gt;"))


def _unchanged(text: str) -> str:
    """Escape a beginning that marks another speaker in captions: ">> "."""
    marks = re.match(r"(?:>|&gt;){2,}", text)
    return (
        text
        if marks is None
        else marks[0].replace("&gt;", ">").replace(">", "&#62;") + (text[marks.end() :])
    )


def _unlabelled(texts: Sequence[str]) -> list[str]:
    """Escape the colons that would make first words the names of speakers."""
    if not any(name for name, _ in read_labels(texts)):
        return list(texts)
    return [re.sub(r"[:：]", lambda colon: f"&#{ord(colon[0])};", text, count=1) for text in texts]


def _clock(seconds: float, point: str) -> str:
    whole = round(seconds * 1000)
    hours, rest = divmod(whole, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": as_txt,
    "json": as_json,
    "srt": as_srt,
    "vtt": as_vtt,
}
TIMED = ("srt", "vtt")  # formats that need word times
