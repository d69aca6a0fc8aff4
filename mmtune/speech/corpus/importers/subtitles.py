"""Import recordings with SRT, WebVTT or mmtune's JSON, cut by the times of the cues."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mmtune.data.manifest import scan_files
from mmtune.errors import MmtuneError
from mmtune.metrics.text.language_code import language_code
from mmtune.speech.corpus.check_recording import SPEECH_SUFFIXES
from mmtune.speech.corpus.check_transcript import describes_sound
from mmtune.speech.corpus.importers.captions import (
    TAG,
    VOICE,
    Caption,
    decoded,
    read_srt,
    read_vtt,
    without_repeats,
)
from mmtune.speech.corpus.importers.cues import Cue, Together, pieces_of
from mmtune.speech.corpus.importers.piece import (
    Found,
    Guess,
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
from mmtune.speech.corpus.importers.stored_transcript import (
    MAX_BYTES,
    is_transcript,
    read_transcript,
)
from mmtune.speech.corpus.importers.subtitle_names import (
    SUFFIXES,
    SubtitleFiles,
    language_of,
    marks_of,
)
from mmtune.speech.corpus.speaker_labels import FROM_LABEL, read_labels
from mmtune.speech.sound.read import AudioFault, probe
from mmtune.system.inside import leads_out
from mmtune.system.pointers import require_content
from mmtune.system.stored import read_bytes, reason_of

UNREAD = (".ass", ".ssa", ".sbv", ".lrc", ".ttml", ".dfxp", ".stl", ".smi")  # other subtitles
CHANGE = re.compile(r"^\s*(?:>|&gt;){2,3}\s*")  # ">> ": another person speaks
DASH = re.compile(r"\s*[-–—]\s*(?=\S)")


@dataclass(frozen=True)
class Subtitles:
    """What a file of subtitles says: cues, the channels of its voices, language and problems.

    Attributes:
        cues: in the order of the file.
        channels: number of the channel of each voice by its case-folded name, if the file says so.
        language: Whisper's code, if the file says so.
        problems: lines and words that aren't used.
        labelled: the voices are read from labels in the text ("Agent: …"), not stated.
    """

    cues: tuple[Cue, ...]
    channels: Mapping[str, int]
    language: str | None = None
    problems: tuple[LeftOut, ...] = ()
    labelled: bool = False


def import_subtitles(source: Path, options: ImportOptions) -> Found:
    """Read each recording of a folder with the .vtt, .srt or .json of its name.

    The name may also hold the language and marks: call.de.vtt, call.en.sdh.srt. `source` may be one
    file of subtitles too.
    """
    folder = source if source.is_dir() else source.parent
    files = SubtitleFiles()
    used: set[Path] = set()
    for _, relative in scan_files(folder, SPEECH_SUFFIXES):
        recording = folder / relative
        beside = files.of(recording)
        if source != folder:
            beside = [path for path in beside if path == source]
            if not beside:
                continue
        used.update(beside)
        name = relative.as_posix()
        says = {path: language_of(recording, path) for path in beside}
        if options.language is None:
            wanted = [path for path in beside if not marks_of(recording, path)] or beside
        else:
            wanted = [path for path in beside if says[path] == options.language]
            wanted = wanted or [path for path in beside if says[path] is None]
        names = ", ".join(path.name for path in beside)
        if not beside:
            cure = f"write {relative.with_suffix('.vtt')}, or remove the recording"
            yield LeftOut(name, "the recording has no subtitles", cure)
        elif not wanted:
            others = " or ".join(sorted({str(language) for language in says.values()}))
            cure = f"add subtitles in {options.language}; or, if {others} is spoken in {name}, "
            cure += f"name it: --language {says[beside[0]]}"
            found = f"the recording has subtitles only in other languages than {options.language}"
            yield LeftOut(name, f"{found}: {names}", cure)
            for path in beside:
                found = f"its name says {says[path]}, so for --language {options.language} it is "
                yield LeftOut(path.name, f"{found}a translation", cure, file=str(path))
        elif len({says[path] for path in wanted}) > 1:
            cure = "name the spoken language: --language CODE; the others are translations"
            yield LeftOut(name, f"the recording has subtitles in several languages: {names}", cure)
            for path in beside:
                found = f"{name} has subtitles in several languages"
                yield LeftOut(path.name, found, cure, file=str(path))
        else:
            yield from _recording(recording, wanted[0], name, options)
            for path in beside:
                if path != wanted[0]:
                    found = f"{wanted[0].name} was used for {name}"
                    cure = "no action is needed, or name the language"
                    yield LeftOut(path.name, found, cure, level="note", file=str(path))
    for _, relative in scan_files(folder, (*SUFFIXES, *UNREAD)):
        path = folder / relative
        if path in used or (source != folder and path != source):
            continue
        if path.suffix.lower() in UNREAD:
            cure = "save the subtitles as .srt or .vtt"
            yield LeftOut(relative.as_posix(), f"{path.suffix} files aren't read", cure)
        elif path.suffix.lower() != ".json" or is_transcript(path, folder):
            yield LeftOut(
                relative.as_posix(),
                "the folder has no recording of this name",
                "add the recording to the folder, or give the file the recording's name",
            )


def read_subtitles(path: Path, options: ImportOptions) -> Subtitles:
    """Read a file of subtitles.

    Raises:
        OSError: it can't be read.
        DataError: it has more than `MAX_BYTES`, or is a pointer of Git LFS.
        ValueError: it isn't in the format that its suffix names, or neither UTF-8 nor UTF-16.
    """
    require_content(path)
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
        problems.append(LeftOut(path.name, found, cure, level="note", file=str(path), items=whole))
    channels = {
        html.unescape(name).casefold(): int(key.removeprefix("channel "))
        for key, name in read.header.items()
        if re.fullmatch(r"channel \d{1,2}", key)
    }
    language = language_code(read.header.get("language", ""))
    marked = any(VOICE.search(line) for each in captions for line in each.lines)
    cues = _cues(captions, None if marked else options.speaker_names)
    return Subtitles(tuple(cues), channels, language, tuple(problems), labelled=not marked)


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


def _cues(captions: Sequence[Caption], names: Collection[str] | None) -> list[Cue]:
    """The cues of captions with their voices.

    Args:
        captions: of a file.
        names: known speakers, of a file whose lines may begin with their names; None: its voices
            are marked (<v Name>).
    """
    said: list[list[tuple[str, str]]]  # of each line: voices and their words
    lines = [line for each in captions for line in each.lines]
    if names is None:
        said = [_marked(line) for line in lines]
    else:
        said = [[each] for each in read_labels([_plain(line) for line in lines], names)]
    cues, place = [], 0
    for each in captions:
        own = [part for line in said[place : place + len(each.lines)] for part in line]
        place += len(each.lines)
        spoken = [part for part in own if part[1]] or own
        if len(spoken) > 1 and all(DASH.match(text) for _, text in spoken):
            spoken = [(voice, DASH.sub("", text, count=1)) for voice, text in spoken]
        texts: dict[str, list[str]] = {}
        for voice, text in spoken:
            texts.setdefault(voice, []).append(text)
        voices = [voice for voice in texts if voice]
        text = _joined(text for _, text in spoken)
        parts = tuple((voice, _joined(texts[voice])) for voice in texts) if len(voices) > 1 else ()
        cues.append(Cue(each.start, each.end, text, " + ".join(voices), parts=parts))
    return cues


def _joined(texts: Iterable[str]) -> str:
    return " ".join(html.unescape(" ".join(texts)).split())


def _marked(line: str) -> list[tuple[str, str]]:
    before, *rest = VOICE.split(line)
    pairs = [("", before), *zip(rest[::2], rest[1::2], strict=True)]
    return [(html.unescape(voice).strip(), _plain(text)) for voice, text in pairs]


def _plain(text: str) -> str:
    return CHANGE.sub("", TAG.sub("", text), count=1)


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
    except (OSError, ValueError, MmtuneError) as error:
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
        elif describes_sound(cue.text):
            yield _sound(cue, path)
        elif cue.text:
            spoken.append(cue)
        else:
            yield one(where, "the cue holds no words", "no action is needed", level="note")
    spoken.sort(key=lambda cue: (cue.start, cue.end))
    placed, undecided = _placed(spoken, read, recording, path, options)
    yield from undecided
    named = language_of(recording, path)
    language = named or read.language or options.language
    for cue in pieces_of(placed):
        where = f"{path.name} at {cue.start:.2f} s"
        if isinstance(cue, Together):
            cure = "no action is needed: a piece must hold one voice"
            found = "another voice speaks at the same time"
            yield one(where, found, cure, level="note", items=cue.count)
            continue
        if cue.end <= cue.start:
            found = f"the cue ends at {cue.end:.2f} s"
            yield one(where, found, "correct its times", items=cue.count)
            continue
        voice = "" if cue.parts else cue.voice or options.name_of(cue.channel)
        guessed = {"language": f"the name of {path.name}"} if named else {}
        if read.labelled and voice == cue.voice and voice.casefold() not in options.speakers:
            guessed["speaker"] = FROM_LABEL
        if cue.heard:
            found = "the channel that is the loudest while it is said"
            yield Guess("channel", str(cue.channel), found, first=where)
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
            guessed=guessed,
        )


def _placed(
    cues: Sequence[Cue], read: Subtitles, recording: Path, path: Path, options: ImportOptions
) -> tuple[list[Cue], list[LeftOut]]:
    """Give each cue its channel, if the recording is a call with a channel for each side."""
    known = {**read.channels, **options.speakers}

    def stated(cue: Cue) -> int | None:
        return known.get(cue.voice.casefold(), numbered(cue.voice))

    single = [part for cue in cues for part in cue.by_voice()]
    named = [stated(cue) for cue in single]
    try:
        if probe(recording).channels == 1 or (
            options.channel is not None and not any(each is not None for each in named)
        ):
            return list(cues), []
        unsure = None in named or len(single) > len(cues)
        energy = loudness_of(recording) if unsure else None
    except AudioFault:
        return list(cues), []  # reading the pieces gives the error
    if unsure and energy is None:  # its channels hold the same
        return [replace(cue, channel=stated(cue)) for cue in cues], []
    spans: dict[str, list[tuple[float, float]]] = {}
    for cue, number in zip(single, named, strict=True):
        if cue.voice and number is None:
            spans.setdefault(cue.voice, []).append((cue.start, cue.end))
    heard = {} if energy is None else channels_by_loudness(spans, energy)
    placed: list[Cue] = []
    left_out: list[LeftOut] = []
    for cue, number in zip(single, named, strict=True):
        told = None
        if number is None and energy is not None:
            told = heard[cue.voice] if cue.voice else loudest(energy, (cue.start, cue.end))
        if describes_sound(cue.text):
            left_out.append(_sound(cue, path))
        elif number is not None or told is not None:
            channel = told if number is None else number
            placed.append(replace(cue, channel=channel, heard=number is None))
        else:
            who = f"of {cue.voice!r} " if cue.voice else ""
            left_out.append(
                LeftOut(
                    f"{path.name} at {cue.start:.2f} s",
                    f"the channel {who}can't be told by its loudness: {cue.text[:60]!r}",
                    "name the channels of the speakers: --speakers agent=0,customer=1",
                    file=str(path),
                    items=cue.count,
                )
            )
    return placed, left_out


def _sound(cue: Cue, path: Path) -> LeftOut:
    return LeftOut(
        f"{path.name} at {cue.start:.2f} s",
        f"{cue.text!r} is a sound, not speech",
        "no action is needed",
        level="note",
        file=str(path),
        items=cue.count,
    )
