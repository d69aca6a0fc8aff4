"""Import recordings with SRT, WebVTT or mmtune's JSON, cut by the times of the cues.

A cue holds what fits on a screen, not a sentence, so neighbouring cues of one voice are joined.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path

from mmtune.data.manifest import scan_files
from mmtune.metrics.text.language_code import language_code
from mmtune.speech.corpus.check_recording import MAX_SECONDS, SPEECH_SUFFIXES
from mmtune.speech.corpus.importers.captions import (
    Captions,
    decoded,
    read_srt,
    read_vtt,
    without_repeats,
)
from mmtune.speech.corpus.importers.piece import (
    Found,
    ImportOptions,
    LeftOut,
    Piece,
    Used,
    filled,
)
from mmtune.speech.corpus.importers.sides import (
    channels_by_loudness,
    loudest,
    loudness_of,
    numbered,
    person,
)
from mmtune.speech.corpus.importers.stored_transcript import is_transcript, read_transcript
from mmtune.speech.corpus.importers.subtitle_names import (
    MAX_BYTES,
    SUFFIXES,
    language_of,
    subtitles_of,
)
from mmtune.speech.corpus.speaker_labels import read_labels
from mmtune.speech.sound.read import AudioFault, probe
from mmtune.system.inside import leads_out
from mmtune.system.stored import read_bytes, reason_of

UNREAD = (".ass", ".ssa", ".sbv", ".lrc", ".ttml", ".dfxp", ".stl", ".smi")  # other subtitles
GAP = 1.0  # seconds of silence that end a piece
ENOUGH = 15.0  # seconds after which the end of a sentence ends a piece
OVERLAP = 0.3  # seconds by which the cues of two voices may overlap
SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")
VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]*)>")  # WebVTT's voice span
TAG = re.compile(r"</?[a-zA-Z0-9][^>]*>|\{\\[^}]*\}")  # <i>, <00:01.000>, {\an8}
CHANGE = re.compile(r"^\s*(?:>|&gt;){2,3}\s*")  # ">> ": another person speaks
DASH = re.compile(r"\s*[-–—]\s*(?=\S)")
SOUND = re.compile(r"\[[^\]]*\]|\([^)]*\)|[♪♫][^♪♫]*[♪♫]?|\*[^*]*\*")  # [music], (laughs), ♪ la ♪


@dataclass(frozen=True)
class Cue:
    """One subtitle: start and end in seconds, its words, the speaker ("" if unknown), the channel.

    A channel that is None is the recording's only one.
    """

    start: float
    end: float
    text: str
    voice: str = ""
    channel: int | None = None
    count: int = 1  # cues of the file that it joins


@dataclass(frozen=True)
class Subtitles:
    """What a file of subtitles says: cues, the channels of its voices, language and problems.

    Attributes:
        cues: in the order of the file.
        channels: number of the channel of each voice by its case-folded name, if the file says so.
        language: Whisper's code, if the file says so.
        problems: lines and words that aren't used.
    """

    cues: tuple[Cue, ...]
    channels: Mapping[str, int]
    language: str | None = None
    problems: tuple[LeftOut, ...] = ()


def import_subtitles(source: Path, options: ImportOptions) -> Found:
    """Read each recording of a folder with the .vtt, .srt or .json of its name.

    The name may also hold the language and marks: call.de.vtt, call.en.sdh.srt. `source` may be one
    file of subtitles too.
    """
    folder = source if source.is_dir() else source.parent
    used: set[Path] = set()
    for _, relative in scan_files(folder, SPEECH_SUFFIXES):
        recording = folder / relative
        beside = subtitles_of(recording)
        if source != folder:
            beside = [path for path in beside if path == source]
            if not beside:
                continue
        used.update(beside)
        name = relative.as_posix()
        wanted = [p for p in beside if options.language in (None, language_of(recording, p))]
        if options.language is None and any(p.stem == recording.stem for p in beside):
            wanted = [p for p in beside if p.stem == recording.stem]
        if not wanted:  # their names say no language
            wanted = [p for p in beside if language_of(recording, p) is None]
        languages = {language_of(recording, path) for path in beside}
        if not beside:
            cure = f"write {relative.with_suffix('.vtt')}, or remove the recording"
            yield LeftOut(name, "the recording has no subtitles", cure)
        elif len(languages) > 1 and len({language_of(recording, p) for p in wanted}) != 1:
            found = ", ".join(path.name for path in beside)
            cure = "name the spoken language: --language CODE; the others are translations"
            yield LeftOut(name, f"the recording has subtitles in several languages: {found}", cure)
            for path in beside:
                found = f"{name} has subtitles in several languages"
                yield LeftOut(path.name, found, cure, file=str(path))
        else:
            chosen = (wanted or beside)[0]
            yield from _recording(recording, chosen, name, options)
            for path in beside:
                if path != chosen:
                    found = f"{chosen.name} was used for {name}"
                    cure = "no action is needed, or name the language"
                    yield LeftOut(path.name, found, cure, file=str(path))
    for _, relative in scan_files(folder, (*SUFFIXES, *UNREAD)):
        path = folder / relative
        if path in used or (source != folder and path != source):
            continue
        if path.suffix.lower() in UNREAD:
            cure = "save the subtitles as .srt or .vtt"
            yield LeftOut(relative.as_posix(), f"{path.suffix} files aren't read", cure)
        elif path.suffix.lower() != ".json" or is_transcript(path):
            yield LeftOut(
                relative.as_posix(),
                "the folder has no recording of this name",
                "add the recording to the folder, or give the file the recording's name",
            )


def join(cues: Sequence[Cue], longest: float = MAX_SECONDS) -> list[Cue]:
    """Join neighbouring cues of one voice, up to `longest` seconds each.

    A piece ends if the voice changes, at a gap of more than `GAP`, or at the end of a sentence
    once the piece is `ENOUGH` long.
    """
    joined: list[Cue] = []
    for cue in cues:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.voice == cue.voice
            and cue.start - last.end <= GAP
            and max(last.end, cue.end) - last.start <= longest
            and not (last.end - last.start >= ENOUGH and last.text.endswith(SENTENCE_ENDS))
        ):
            joined[-1] = replace(
                last,
                end=max(last.end, cue.end),
                text=f"{last.text} {cue.text}",
                count=last.count + cue.count,
            )
        else:
            joined.append(cue)
    return joined


def read_subtitles(path: Path, options: ImportOptions) -> Subtitles:
    """Read a file of subtitles.

    Raises:
        OSError: it can't be read.
        ValueError: it isn't in the format that its suffix names, or neither UTF-8 nor UTF-16.
    """
    data = read_bytes(path, most=MAX_BYTES)
    if path.suffix.lower() == ".json":
        return _of_transcript(path, data)
    text = decoded(data)
    read = read_srt(text) if path.suffix.lower() == ".srt" else read_vtt(text)
    problems = [
        LeftOut(
            f"{path.name} line {number}",
            f"the line belongs to no cue: {line[:60]!r}",
            "correct the times above it, or remove the blank line before it",
            file=str(path),
        )
        for number, line in read.unused
    ]
    captions, repeated = without_repeats(read.captions)
    if repeated:
        found = f"its captions repeat {repeated} words of the captions before them"
        cure = "no action is needed: each word is used once"
        whole = len(read.captions) - len(captions)
        problems.append(LeftOut(path.name, found, cure, file=str(path), items=whole))
    channels = {
        html.unescape(name).casefold(): int(key.removeprefix("channel "))
        for key, name in read.header.items()
        if re.fullmatch(r"channel \d{1,2}", key)
    }
    language = language_code(read.header.get("language", ""))
    cues = _cues(replace(read, captions=tuple(captions)), options)
    return Subtitles(tuple(cues), channels, language, tuple(problems))


def _of_transcript(path: Path, data: bytes) -> Subtitles:
    stored = read_transcript(data)
    cues = [
        Cue(each.start, each.end, " ".join(each.text.split()), each.channel or "")
        for each in stored.segments
    ]
    problems = []
    if stored.changed:
        problems.append(
            LeftOut(
                path.name,
                "its text has other words than its segments; the segments are used",
                "correct the texts of the segments",
                file=str(path),
            )
        )
    channels = {name.casefold(): i for i, name in enumerate(stored.channels)}
    return Subtitles(tuple(cues), channels, stored.language, tuple(problems))


def _cues(read: Captions, options: ImportOptions) -> list[Cue]:
    marked = [VOICE.findall(line) for each in read.captions for line in each.lines]
    lines = [
        CHANGE.sub("", TAG.sub("", line), count=1) for each in read.captions for line in each.lines
    ]
    if any(marked):
        labelled = [("", line) for line in lines]
    else:
        labelled = read_labels(lines, options.speaker_names)
    cues, place = [], 0
    for each in read.captions:
        part = slice(place, place + len(each.lines))
        place += len(each.lines)
        names = [name for found in marked[part] for name in found]
        voices = dict.fromkeys(html.unescape(name).strip() for name in names)
        voices |= dict.fromkeys(name for name, _ in labelled[part])
        spoken = [text for _, text in labelled[part]]
        if len(spoken) > 1 and all(DASH.match(line) for line in spoken):
            spoken = [DASH.sub("", line, count=1) for line in spoken]
        text = html.unescape(" ".join(spoken))
        # One cue may hold the lines of two voices. They count as a voice of their own.
        voice = " + ".join(name for name in voices if name)
        cues.append(Cue(each.start, each.end, " ".join(text.split()), voice))
    return cues


def _recording(recording: Path, path: Path, name: str, options: ImportOptions) -> Found:
    if leads_out(path.parent, path):
        found = "it is a link out of its folder"
        yield LeftOut(path.name, found, "put the file itself there", file=str(path))
        return
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            yield LeftOut(
                path.name,
                f"{size:,} bytes are too many for subtitles; the limit is {MAX_BYTES:,}",
                "check the file",
                file=str(path),
            )
            return
        read = read_subtitles(path, options)
    except (OSError, ValueError) as error:
        cure = "save it as UTF-8, in the format that its suffix names"
        found = f"it can't be read: {reason_of(error)}"
        yield LeftOut(path.name, found, cure, file=str(path))
        return
    yield from read.problems
    if not read.cues:
        if not read.problems:
            cure = "check that it is the right file"
            yield LeftOut(path.name, "it holds no cues", cure, file=str(path))
        return
    yield Used(path, len(read.cues) + sum(problem.items for problem in read.problems))
    one = partial(LeftOut, file=str(path), items=1)
    spoken: list[Cue] = []
    for cue in read.cues:
        where = f"{path.name} at {cue.start:.2f} s"
        if cue.end < cue.start:
            yield one(where, f"the cue ends at {cue.end:.2f} s", "correct its times")
        elif SOUND.fullmatch(cue.text):
            yield one(where, f"{cue.text!r} is a sound, not speech", "no action is needed")
        elif cue.text:
            spoken.append(cue)
        else:
            yield one(where, "the cue holds no words", "no action is needed")
    spoken.sort(key=lambda cue: (cue.start, cue.end))
    placed, undecided = _placed(spoken, read, recording, path, options)
    yield from undecided
    named = language_of(recording, path)
    language = named or read.language or options.language
    for cue in pieces_of(placed):
        where = f"{path.name} at {cue.start:.2f} s"
        if isinstance(cue, Together):
            cure = "no action is needed: a piece must hold one voice"
            yield one(where, "another voice speaks at the same time", cure)
            continue
        if cue.end <= cue.start:
            found = f"the cue ends at {cue.end:.2f} s"
            yield one(where, found, "correct its times", items=cue.count)
            continue
        voice = cue.voice or options.name_of(cue.channel)
        yield Piece(
            recording,
            name,
            cue.text,
            where,
            start=cue.start,
            end=cue.end,
            channel=cue.channel,
            row=filled(speaker=person(voice, name), language=language),
            table=str(path),
            items=cue.count,
            guessed={"language": f"the name of {path.name}"} if named else {},
        )


def _placed(
    cues: Sequence[Cue], read: Subtitles, recording: Path, path: Path, options: ImportOptions
) -> tuple[list[Cue], list[LeftOut]]:
    """Give each cue its channel, if the recording is a call with a channel for each side."""
    known = {**read.channels, **options.speakers}
    named = [known.get(cue.voice.casefold(), numbered(cue.voice)) for cue in cues]
    try:
        if probe(recording).channels == 1 or (
            options.channel is not None and not any(each is not None for each in named)
        ):
            return list(cues), []
        energy = loudness_of(recording) if None in named else None
    except AudioFault:
        return list(cues), []  # reading the pieces gives the error
    if None in named and energy is None:
        return [replace(c, channel=n) for c, n in zip(cues, named, strict=True)], []
    spans: dict[str, list[tuple[float, float]]] = {}
    for cue, number in zip(cues, named, strict=True):
        if cue.voice and number is None:
            spans.setdefault(cue.voice, []).append((cue.start, cue.end))
    heard = {} if energy is None else channels_by_loudness(spans, energy)
    placed: list[Cue] = []
    left_out: list[LeftOut] = []
    for cue, number in zip(cues, named, strict=True):
        if number is None and energy is not None:
            number = heard[cue.voice] if cue.voice else loudest(energy, (cue.start, cue.end))
        if number is not None:
            placed.append(replace(cue, channel=number))
            continue
        who = f"of {cue.voice!r} " if cue.voice else ""
        left_out.append(
            LeftOut(
                f"{path.name} at {cue.start:.2f} s",
                f"the channel {who}can't be told by its loudness: {cue.text[:60]!r}",
                "name the channels of the speakers: --speakers agent=0,customer=1",
                file=str(path),
                items=1,
            )
        )
    return placed, left_out


class Together(Cue):
    """A cue during which another voice speaks."""


def pieces_of(cues: Sequence[Cue]) -> list[Cue]:
    """Join the cues of each channel; cues at the same time as another voice's are `Together`.

    Args:
        cues: in the order of time.
    """
    result: list[Cue] = []

    def channel(cue: Cue) -> int:
        return -1 if cue.channel is None else cue.channel

    for _, group in groupby(sorted(cues, key=channel), key=channel):
        own = list(group)
        together = {
            index
            for i, (a, b) in enumerate(pairwise(own))
            if a.voice != b.voice and a.end - b.start > OVERLAP
            for index in (i, i + 1)
        }
        # A cue that is left out still separates its neighbours.
        run: list[Cue] = []
        for i, cue in enumerate(own):
            if i in together:
                result += [*join(run), Together(**vars(cue))]
                run = []
            else:
                run.append(cue)
        result += join(run)
    return sorted(result, key=lambda cue: (cue.start, cue.end))
