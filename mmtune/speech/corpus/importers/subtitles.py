"""Import recordings with SRT or WebVTT subtitles, cut by the times of the cues.

A cue holds what fits on a screen, not a sentence, so neighbouring cues of one voice are joined.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from mmtune.data.manifest import scan_files
from mmtune.metrics.text.language_code import language_code
from mmtune.speech.corpus.check_recording import MAX_SECONDS, SPEECH_SUFFIXES
from mmtune.speech.corpus.importers.piece import (
    Found,
    ImportOptions,
    LeftOut,
    Piece,
    Used,
    filled,
)
from mmtune.system.inside import leads_out

SUFFIXES = (".vtt", ".srt")
MAX_BYTES = 16_000_000  # size of one subtitle file: some weeks of speech
GAP = 1.0  # seconds of silence that end a piece
ENOUGH = 15.0  # seconds after which the end of a sentence ends a piece
OVERLAP = 0.3  # seconds by which the cues of two voices may overlap
SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")
VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]*)>")  # WebVTT's voice span
TAG = re.compile(r"</?[a-zA-Z0-9][^>]*>|\{\\[^}]*\}")  # <i>, <00:01.000>, {\an8}
# Names of roles don't identify a person: each recording has another one.
ROLE = re.compile(
    r"(speaker|spk|voice|agent|operator|customer|client|caller|user|host|guest|interview(er|ee)|"
    r"doctor|patient|man|woman|unknown)[\s_#-]*\d*",
    re.IGNORECASE,
)
SOUND = re.compile(r"[\[(♪*][^\])]*[\])♪*]?")  # [music], (laughs), ♪ la la ♪


@dataclass(frozen=True)
class Cue:
    """One subtitle: start and end in seconds, its words, and the speaker ("" if unknown)."""

    start: float
    end: float
    text: str
    voice: str = ""
    count: int = 1  # cues of the file that it joins


def import_subtitles(source: Path, options: ImportOptions) -> Found:
    """Read each recording of a folder with the .vtt or .srt of its name (or NAME.LANGUAGE.vtt)."""
    used: set[Path] = set()
    for _, relative in scan_files(source, SPEECH_SUFFIXES):
        recording = source / relative
        beside = subtitles_of(recording)
        used.update(beside)
        name = relative.as_posix()
        wanted = [p for p in beside if options.language in (None, _language(recording, p))]
        if options.language is None and any(p.stem == recording.stem for p in beside):
            wanted = [p for p in beside if p.stem == recording.stem]
        languages = {_language(recording, path) for path in beside}
        if not beside:
            cure = f"write {relative.with_suffix('.vtt')}, or remove the recording"
            yield LeftOut(name, "the recording has no subtitles", cure)
        elif len(languages) > 1 and len({_language(recording, p) for p in wanted}) != 1:
            found = ", ".join(path.name for path in beside)
            cure = "name the spoken language: --language CODE; the others are translations"
            yield LeftOut(name, f"the recording has subtitles in several languages: {found}", cure)
        else:
            chosen = (wanted or beside)[0]
            yield from _recording(recording, chosen, name, options)
            for path in beside:
                if path != chosen:
                    found = f"{chosen.name} was used for {name}"
                    cure = "no action is needed, or name the language"
                    yield LeftOut(path.name, found, cure, file=str(path))
    for _, relative in scan_files(source, SUFFIXES):
        if source / relative not in used:
            yield LeftOut(
                relative.as_posix(),
                "the folder has no recording of this name",
                "add the recording to the folder",
            )


def subtitles_of(recording: Path) -> list[Path]:
    """Return the subtitle files of a recording, in its folder: of its own name first, then WebVTT.

    A file whose name begins with the name of several recordings (call.wav and call.2.wav) belongs
    to the longest.
    """
    files = [path for path in recording.parent.iterdir() if path.is_file()]
    stems = {path.stem for path in files if path.suffix.lower() in SPEECH_SUFFIXES}
    start = recording.stem + "."
    longer = tuple(f"{stem}." for stem in stems if stem.startswith(start))
    found = [
        path
        for path in files
        if path.suffix.lower() in SUFFIXES
        and path.name.startswith(start)
        and path.name.removeprefix(start).count(".") <= 1
        and not path.name.startswith(longer)
    ]

    def order(path: Path) -> tuple[bool, int, str]:
        return path.stem != recording.stem, SUFFIXES.index(path.suffix.lower()), path.name

    return sorted(found, key=order)


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


def _recording(recording: Path, path: Path, name: str, options: ImportOptions) -> Found:
    from webvtt.errors import MalformedCaptionError, MalformedFileError

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
        cues = list(_read(path))
    except (OSError, UnicodeDecodeError, MalformedCaptionError, MalformedFileError) as error:
        cure = "save it as UTF-8, in the format that its suffix names"
        found = f"it can't be read: {error or type(error).__name__}"
        yield LeftOut(path.name, found, cure, file=str(path))
        return
    if not cues:
        cure = "check that it is the right file"
        yield LeftOut(path.name, "it holds no cues", cure, file=str(path))
    yield Used(path, len(cues))
    one = partial(LeftOut, file=str(path), items=1)
    spoken: list[Cue] = []
    for cue in cues:
        where = f"{path.name} at {cue.start:.2f} s"
        if cue.end <= cue.start:
            yield one(where, f"the cue ends at {cue.end:.2f} s", "correct its times")
        elif not cue.text or SOUND.fullmatch(cue.text):
            found = f"{cue.text!r} is a sound, not speech"
            yield one(where, found, "no action is needed")
        else:
            spoken.append(cue)
    spoken.sort(key=lambda cue: (cue.start, cue.end))
    together = {
        index
        for i, (a, b) in enumerate(pairwise(spoken))
        if a.voice != b.voice and a.end - b.start > OVERLAP
        for index in (i, i + 1)
    }
    for i in sorted(together):
        yield one(
            f"{path.name} at {spoken[i].start:.2f} s",
            "another voice speaks at the same time",
            "no action is needed: a piece must hold one voice",
        )
    # A cue that is left out still separates its neighbours.
    run: list[Cue] = []
    whole: list[Cue] = []
    for i, cue in enumerate(spoken):
        if i in together:
            whole, run = whole + join(run), []
        else:
            run.append(cue)
    for cue in whole + join(run):
        named = _language(recording, path)
        yield Piece(
            recording,
            name,
            cue.text,
            f"{path.name} at {cue.start:.2f} s",
            start=cue.start,
            end=cue.end,
            row=filled(
                speaker=f"{name}: {cue.voice}" if ROLE.fullmatch(cue.voice) else cue.voice,
                language=named or options.language,
            ),
            table=str(path),
            items=cue.count,
            guessed={"language": f"the name of {path.name}"} if named else {},
        )


def _language(recording: Path, path: Path) -> str | None:
    # call.de.srt; other words before the suffix (sdh, cc, forced) name no language.
    return language_code(path.name.removeprefix(recording.stem + ".").rpartition(".")[0])


def _read(path: Path) -> Iterator[Cue]:
    import webvtt

    read = webvtt.WebVTT.from_srt if path.suffix.lower() == ".srt" else webvtt.WebVTT.read
    for caption in read(str(path), encoding="utf-8").captions:
        raw = caption.raw_text
        # One cue may hold the lines of two voices. They count as a voice of their own.
        voices = dict.fromkeys(html.unescape(name).strip() for name in VOICE.findall(raw))
        text = html.unescape(TAG.sub("", raw.replace("\n", " ")))
        yield Cue(
            _seconds(caption.start_time),
            _seconds(caption.end_time),
            " ".join(text.split()),
            " + ".join(name for name in voices if name),
        )


def _seconds(time: Any) -> float:
    hours, minutes, seconds, milliseconds = time.to_tuple()
    return float(((hours * 60 + minutes) * 60 + seconds) + milliseconds / 1000)
