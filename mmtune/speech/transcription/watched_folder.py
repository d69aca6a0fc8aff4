"""Find the new and complete recordings of a folder that a recorder writes into.

A recording is complete if its size and its time of change stay the same for a while. What is done
is kept in a file, a line for each recording, so that a restart repeats nothing.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.data.manifest import scan_files
from mmtune.errors import MmtuneError
from mmtune.speech.corpus.check_recording import SPEECH_SUFFIXES
from mmtune.speech.corpus.importers.captions import decoded
from mmtune.speech.corpus.importers.delimited import separator_of
from mmtune.speech.corpus.importers.stored_transcript import is_transcript
from mmtune.system.files import append_text, write_text
from mmtune.system.hashing import hash_file
from mmtune.system.stored import (
    DAMAGE,
    damaged,
    intact_json_lines,
    read_bytes,
    read_json_object,
)

STATE = ".mmtune-watch.jsonl"
EARLIER_STATE = ".mmtune-watch.json"  # one object with all recordings, by earlier versions
CURE = "delete it: all recordings are then transcribed again"
MAX_METADATA = 1_000_000  # bytes of a recorder's file of metadata


@dataclass(frozen=True)
class Stamp:
    """The size of a file in bytes, and its time of change in nanoseconds."""

    size: int
    changed: int


class WatchedFolder:
    """A folder of recordings, and where their transcripts are written.

    Args:
        folder: searched recursively.
        out: folder of the transcripts, which also holds the state; may be `folder` itself.
        suffix: of the transcripts, without a dot.
        settle: seconds for which a file must stay the same to be complete.
    """

    def __init__(self, folder: Path, out: Path, suffix: str, settle: float) -> None:
        self.folder, self.out, self.suffix, self.settle = folder, out, suffix, settle
        self._seen: dict[Path, tuple[Stamp, float]] = {}
        self._state = _state_in(out)
        # Of the last scan: the names of the recordings, and how many have a name without suffix.
        self._names: set[Path] = set()
        self._stems: Counter[Path] = Counter()

    def complete(self, now: float) -> list[Path]:
        """Return the recordings that are complete and not yet transcribed.

        Args:
            now: seconds of a clock that never goes back.
        """
        found: list[Path] = []
        seen: dict[Path, tuple[Stamp, float]] = {}
        recordings = [relative for _, relative in scan_files(self.folder, SPEECH_SUFFIXES)]
        self._names = set(recordings)
        self._stems = Counter(relative.with_suffix("") for relative in recordings)
        for relative in recordings:
            path = self.folder / relative
            try:
                stamp = _stamp(path)
            except OSError:
                continue  # the recorder has just moved it
            known = self._state.get(relative.as_posix(), {})
            if known.get("format") == self.suffix and (known.get("size"), known.get("changed")) == (
                stamp.size,
                stamp.changed,
            ):
                continue
            before = self._seen.get(path)
            if before is None or before[0] != stamp:
                seen[path] = (stamp, now)
                continue
            seen[path] = before
            if now - before[1] >= self.settle and stamp.size:
                found.append(path)
        self._seen = seen
        return found

    def write(self, recording: Path, text: str) -> Path | None:
        """Write a transcript; None if its place holds a file that wasn't written here.

        A person may have corrected an earlier transcript: such a file is never replaced.
        """
        relative = recording.relative_to(self.folder)
        stem = relative.with_suffix("")
        # Beside call.wav, the transcript of call.wav.mp3 is no call.wav.vtt.
        whole = self._stems[stem] > 1 or stem in self._names
        place = self.out / relative.with_name(
            f"{recording.name if whole else recording.stem}.{self.suffix}"
        )
        known = self._state.get(relative.as_posix(), {})
        if place.exists() and place.suffix == ".json" and not is_transcript(place):
            place = place.with_suffix(".transcript.json")  # beside the recorder's metadata
        own = not place.exists() or hash_file(place) == known.get("written")
        if own:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_text(place, text, private=True)
        self._remember(recording, {"written": hash_file(place)} if own else known)
        return place if own else None

    def failed(self, recording: Path, error: str) -> None:
        """Remember a recording that can't be read; it is tried again when it changes."""
        self._remember(recording, {"error": error})

    def _remember(self, recording: Path, facts: dict[str, Any]) -> None:
        # What was transcribed is what was seen: if it has changed since, it comes again.
        stamp = self._seen[recording][0]
        name = recording.relative_to(self.folder).as_posix()
        self._state[name] = facts | {
            "size": stamp.size, "changed": stamp.changed, "format": self.suffix,
        }  # fmt: skip
        line = json.dumps({"recording": name, **self._state[name]}, ensure_ascii=False)
        append_text(self.out / STATE, f"{line}\n", private=True)


def _state_in(folder: Path) -> dict[str, dict[str, Any]]:
    """What is kept of each recording, by its place; a line that a kill cut off is left out.

    Raises:
        ConfigError: a file of the state is damaged.
    """
    found: dict[str, dict[str, Any]] = {}
    if (path := folder / EARLIER_STATE).exists():
        kept = read_json_object(path, CURE)
        with damaged(path, CURE):
            found = {name: _facts(value) for name, value in kept.items()}
    if (path := folder / STATE).exists():
        for line in intact_json_lines(path):
            with damaged(path, CURE):
                facts = _facts(line)
                found[facts.pop("recording")] = facts
    return found


def _facts(value: Any) -> dict[str, Any]:
    if not (isinstance(value, dict) and isinstance(value["size"], int)):
        raise TypeError(f"{value!r} says nothing of a recording")
    return value


def recorder_labels(recording: Path) -> dict[str, str]:
    """Return what the recorder wrote about a recording: NAME.json, or NAME.csv with one row.

    Only texts, numbers and truth values are kept. A file that can't be read gives no labels.
    """
    for suffix in (".json", ".csv"):
        path = recording.with_suffix(suffix)
        if not path.is_file() or (suffix == ".json" and is_transcript(path)):
            continue
        try:
            text = decoded(read_bytes(path, most=MAX_METADATA))
            values = json.loads(text) if suffix == ".json" else _only_row(text)
            return {
                str(key): str(value)
                for key, value in values.items()
                if isinstance(value, (str, int, float)) and str(value).strip()
            }
        except (OSError, csv.Error, MmtuneError, *DAMAGE):
            continue
    return {}


def _only_row(text: str) -> dict[str, str]:
    separator = separator_of(text.splitlines()[0])
    [row] = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    return {key: value for key, value in row.items() if key and isinstance(value, str)}


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return Stamp(status.st_size, status.st_mtime_ns)
