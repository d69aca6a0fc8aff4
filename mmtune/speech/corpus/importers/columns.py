"""Which columns of a table hold which field, and what the times in them mean."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile

from mmtune.speech.corpus.importers.places import Places
from mmtune.speech.speech_row import SpeechRow

FIELDS = (
    "audio",
    "text",
    "speaker",
    "language",
    "duration_s",
    "start",
    "end",
    "id",
    "split",
    "channel",
    "prompt",
    "terms",
)
SLACK = 0.25  # seconds by which stated times and the length of a clip may differ
BOOK_TIMES = {"begin_time", "end_time"}  # names that MLS, GigaSpeech and AMI give such times
EXTRA = {"audio": {"audio", "wav_path", "clip", "recording"}, "text": {"normalized_text"}}


def names_of_files(
    lines: Iterable[tuple[str, Mapping[str, Any]]], places: Places
) -> dict[Path, set[str]]:
    """Return the names by which the rows of a table name each file.

    Returns:
        The names as they are written, for each file that was found.
    """
    found: dict[Path, set[str]] = {}
    for _, values in lines:
        column = columns(values).get("audio")
        name = values.get(column) if column else None
        if isinstance(name, str) and name and (path := places.find(name).path):
            found.setdefault(path, set()).add(name)
    return found


def columns(values: Mapping[str, Any]) -> dict[str, str]:
    """Map each field of a row to the column that holds it."""
    lower = {str(key).strip().casefold(): key for key in values}
    found: dict[str, str] = {}
    for name in FIELDS:
        same = next((group for group in SpeechRow.synonyms if name in group), frozenset())
        for word in [name, *sorted(same | EXTRA.get(name, set()))]:
            if word in lower and lower[word] not in found.values():
                found[name] = lower[word]
                break
    return found


def times_of_original(
    head: Sequence[tuple[str, Mapping[str, Any]]], places: Places
) -> tuple[str, ...]:
    """Tell whether start and end are places in the recordings that a table's clips were cut from.

    They are if every row has a file of its own, and spans that would fit into the clips lie beyond
    their ends: in more rows than those whose clip is longer than its span; in at least as many for
    the columns of corpora that are known to have such times.

    Returns:
        The names of the two columns; empty if they are places in the clips, or can't be told.
    """
    files: Counter[str] = Counter()
    beyond = inside = 0
    found: tuple[str, ...] = ()
    for _, values in head:
        named = columns(values)
        if not {"audio", "start", "end"} <= named.keys():
            continue
        audio = values.get(named["audio"])
        name = str(audio.get("path") if isinstance(audio, Mapping) else audio)
        files[name] += 1
        try:
            start, end = (seconds(values.get(named[each])) for each in ("start", "end"))
        except ValueError:
            continue
        length = _length(audio, places)
        if start is None or end is None or length is None:
            continue
        found = (named["start"], named["end"])
        beyond += end > length + SLACK and end - start <= length + SLACK
        inside += end <= length + SLACK and end - start < length - SLACK
    shared = any(count > 1 for count in files.values())
    few = inside if set(found) == BOOK_TIMES else 3 * inside
    return found if beyond and not shared and beyond >= few else ()


def _length(audio: Any, places: Places) -> float | None:
    """The length of a cell's sound in seconds; None if it can't be read."""
    data = audio.get("bytes") if isinstance(audio, Mapping) else None
    name = audio.get("path") if isinstance(audio, Mapping) else audio
    try:
        source = io.BytesIO(data) if isinstance(data, bytes) else places.find(str(name)).path
        return float(soundfile.info(source).duration)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError):
        return None


def seconds(value: Any) -> float | None:
    """Read a time, such as 12.5, "12,5" or "0:12.5", in seconds; None if the cell is empty.

    Raises:
        ValueError: it is no time.
    """
    word = str("" if value is None else value).strip()
    if not word:
        return None
    total = 0.0
    for part in word.replace(",", ".").split(":"):
        try:
            total = total * 60 + float(part)
        except ValueError:
            raise ValueError(f"{word!r} is not a time") from None
    if not 0 <= total < 1e7:
        raise ValueError(f"{word!r} is not a time")
    return total
