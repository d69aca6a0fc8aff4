"""Which subtitles belong to a recording, and the language that a file's name says."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from mmtune.metrics.text.language_code import language_code
from mmtune.speech.corpus.check_recording import SPEECH_SUFFIXES
from mmtune.speech.corpus.importers.captions import decoded
from mmtune.speech.corpus.importers.stored_transcript import is_transcript
from mmtune.system.stored import read_bytes

SUFFIXES = (".vtt", ".srt", ".json")
MAX_BYTES = 16_000_000  # size of one subtitle file: some weeks of speech
# Words of a file's name that say how subtitles were made, and no language.
FORCED = "forced"  # only what is said in another language
MARKS = frozenset({
    "asr", "auto", "caption", "captions", "cc", "clean", "commentary", "corrected", "default",
    "dub", "edited", "final", "fixed", FORCED, "foreign", "full", "generated", "hi", "hoh", "orig",
    "original", "sdh", "signs", "sub", "subs", "subtitle", "subtitles", "transcript", "whisper",
})  # fmt: skip


def subtitles_of(recording: Path) -> list[Path]:
    """Return the subtitle files of a recording, in its folder: of its own name first, then WebVTT.

    A file whose name begins with the name of several recordings (call.wav and call.2.wav) belongs
    to the longest. A number after the recording's name names another recording.
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
        and _of_this(_words(recording, path))
        and not path.name.startswith(longer)
        and (path.suffix.lower() != ".json" or is_transcript(path))
    ]

    def order(path: Path) -> tuple[bool, bool, int, int, str]:
        words = _words(recording, path)
        kind = SUFFIXES.index(path.suffix.lower())
        return bool(words), FORCED in words, len(words), kind, path.name

    return sorted(found, key=order)


def language_of(recording: Path, path: Path) -> str | None:
    """Return the language that a subtitle file's name says: call.de.srt is German.

    `.hi` marks subtitles for the hearing impaired, as `.sdh` does. It is Hindi only if no other
    word names a language and the text is written in Devanagari.
    """
    words = _words(recording, path)
    codes = [code for word in words if word not in MARKS and (code := language_code(word))]
    if codes:
        return codes[0]
    return "hi" if "hi" in words and _devanagari(path) else None


def _words(recording: Path, path: Path) -> list[str]:
    # call.de.srt; the words between the recording's name and the suffix.
    return path.name.removeprefix(recording.stem + ".").casefold().split(".")[:-1]


def _of_this(words: Sequence[str]) -> bool:
    # One word may be anything but a number; several must all say something.
    if len(words) == 1:
        return not words[0].isdigit()
    return all(word in MARKS or language_code(word) is not None for word in words)


def _devanagari(path: Path) -> bool:
    try:
        text = decoded(read_bytes(path, most=MAX_BYTES))
    except (OSError, ValueError):
        return False
    letters = [char for char in text[:20_000] if char.isalpha()]
    own = sum("DEVANAGARI" in unicodedata.name(char, "") for char in letters)
    return 2 * own > len(letters)
