"""Which subtitles belong to a recording, and the language that a file's name says."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from mmtune.errors import MmtuneError
from mmtune.metrics.text.language_code import language_code
from mmtune.speech.corpus.check_recording import SPEECH_SUFFIXES
from mmtune.speech.corpus.importers.captions import decoded
from mmtune.speech.corpus.importers.stored_transcript import MAX_BYTES, is_transcript
from mmtune.system.stored import read_bytes

SUFFIXES = (".vtt", ".srt", ".json")
# Words of a file's name that say how subtitles were made, and no language.
FORCED = "forced"  # only what is said in another language
MARKS = frozenset({
    "asr", "auto", "caption", "captions", "cc", "clean", "commentary", "corrected", "default",
    "dub", "edited", "final", "fixed", FORCED, "foreign", "full", "generated", "hi", "hoh", "orig",
    "original", "sdh", "signs", "sub", "subs", "subtitle", "subtitles", "transcript", "whisper",
})  # fmt: skip


class SubtitleFiles:
    """The subtitle files of recordings, told by their names. Each folder is listed once.

    A file belongs to the recording whose name is the longest beginning of its own, with or without
    the recording's suffix: call.2.srt to call.2.wav, and call.flac.vtt to call.flac. A number after
    the recording's name names another recording.
    """

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[Path]]] = {}

    def of(self, recording: Path) -> list[Path]:
        """Return the subtitle files beside a recording: of its own name first, then WebVTT."""
        folder = recording.parent
        if folder not in self._folders:
            self._folders[folder] = _by_recording(folder)

        def order(path: Path) -> tuple[bool, bool, bool, int, int, str]:
            words = marks_of(recording, path)
            whole = path.name.startswith(f"{recording.name}.")
            kind = SUFFIXES.index(path.suffix.lower())
            return bool(words), FORCED in words, not whole, len(words), kind, path.name

        return sorted(self._folders[folder].get(recording.name, ()), key=order)


def _by_recording(folder: Path) -> dict[str, list[Path]]:
    files = [path for path in folder.iterdir() if path.is_file()]
    # The names of the recordings that a beginning of a file's name means.
    meant: dict[str, list[str]] = {}
    recordings = [path for path in files if path.suffix.lower() in SPEECH_SUFFIXES]
    for path in recordings:
        meant.setdefault(path.stem, []).append(path.name)
    meant |= {path.name: [path.name] for path in recordings}
    found: dict[str, list[Path]] = {}
    for path in files:
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            continue
        parts = path.name.split(".")
        owners: list[str] = []
        for count in range(len(parts) - 1, 0, -1):
            if owners := meant.get(".".join(parts[:count]), []):
                break
        if (
            owners
            and _of_this([part.casefold() for part in parts[count:-1]])
            and (suffix != ".json" or is_transcript(path, path.parent))
        ):
            for name in owners:
                found.setdefault(name, []).append(path)
    return found


def marks_of(recording: Path, path: Path) -> list[str]:
    """Return the words between the recording's name and the suffix: "de" of call.de.srt."""
    whole = path.name.startswith(f"{recording.name}.")
    begin = recording.name if whole else recording.stem
    return path.name.removeprefix(f"{begin}.").casefold().split(".")[:-1]


def language_of(recording: Path, path: Path) -> str | None:
    """Return the language that a subtitle file's name says: call.de.srt is German.

    `.hi` marks subtitles for the hearing impaired, as `.sdh` does. It is Hindi only if no other
    word names a language and the text is written in Devanagari.
    """
    words = marks_of(recording, path)
    codes = [code for word in words if word not in MARKS and (code := language_code(word))]
    if codes:
        return codes[0]
    return "hi" if "hi" in words and _devanagari(path) else None


def _of_this(words: Sequence[str]) -> bool:
    # One word may be anything but a number; two or more must each be a mark or a language.
    if len(words) == 1:
        return not words[0].isdigit()
    return all(word in MARKS or language_code(word) is not None for word in words)


def _devanagari(path: Path) -> bool:
    try:
        text = decoded(read_bytes(path, most=MAX_BYTES))
    except (OSError, ValueError, MmtuneError):
        return False
    letters = [char for char in text[:20_000] if char.isalpha()]
    own = sum("DEVANAGARI" in unicodedata.name(char, "") for char in letters)
    return 2 * own > len(letters)
