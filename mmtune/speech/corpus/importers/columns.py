"""Which columns of a table hold which field, and what the times in them mean."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import soundfile

from mmtune.data.ledger import Guess
from mmtune.speech.corpus.importers.cells import seconds
from mmtune.speech.corpus.importers.places import Places

# The names of a field's column (`SpeechRow.synonyms` and a few more), the surest first: a table of
# transcripts may also have a label or a description.
NAMES: dict[str, tuple[str, ...]] = {
    "audio": ("audio", "audio_filepath", "audio_path", "wav", "wav_path", "file_name", "filename",
              "filepath", "path", "file", "clip", "recording"),
    "text": ("text", "transcript", "transcription", "sentence", "txt", "words", "normalized_text",
             "caption", "captions", "label", "description"),
    "speaker": ("speaker", "speaker_id", "spk", "client_id"),
    "language": ("language", "lang", "locale"),
    "duration_s": ("duration_s", "duration", "length"),
    "start": ("start", "start_time", "begin", "begin_time", "offset"),
    "end": ("end", "end_time", "stop"),
    "id": ("id", "utt_id", "utterance_id", "uid", "key", "name"),
    "split": ("split", "subset", "partition"),
    "channel": ("channel",),
    "prompt": ("prompt",),
    "terms": ("terms",),
    "subject": ("subject", "subject_id", "data_subject"),
    "consent": ("consent", "consent_purpose", "consent_purposes"),
    "consent_until": ("consent_until", "consent_end", "consent_expires"),
    "licence": ("licence", "license"),
    "source": ("source",),
}  # fmt: skip
UNSURE = ("caption", "captions", "label", "description")  # columns that may hold no transcript
NONE_GIVEN: Mapping[str, str] = {}
SLACK = 0.25  # seconds by which stated times and the length of a clip may differ
BOOK_TIMES = {"begin_time", "end_time"}  # names that MLS, GigaSpeech and AMI give such times


def names_of_files(
    lines: Iterable[tuple[str, Mapping[str, Any]]],
    places: Places,
    given: Mapping[str, str] = NONE_GIVEN,
) -> dict[Path, set[str]]:
    """Return the names by which the rows of a table name each file; `given` as for `columns`.

    Returns:
        The names as they are written, for each file that was found.
    """
    found: dict[Path, set[str]] = {}
    for _, values in lines:
        column = columns(values, given).get("audio")
        audio = values.get(column) if column else None
        if isinstance(audio, Mapping):
            held = isinstance(audio.get("bytes"), bytes) or audio.get("array") is not None
            audio = None if held else audio.get("path")
        if isinstance(audio, str) and audio and (path := places.find(audio).path):
            found.setdefault(path, set()).add(audio)
    return found


def columns(values: Mapping[str, Any], given: Mapping[str, str] = NONE_GIVEN) -> dict[str, str]:
    """Map each field of a row to the column that holds it.

    Args:
        values: the row.
        given: columns that the user names, by field; a field whose column isn't there has none.
    """
    return dict(_chosen(tuple(values), tuple(given.items()))[0])


def guessed_columns(
    values: Mapping[str, Any], given: Mapping[str, str] = NONE_GIVEN
) -> Iterator[Guess]:
    """Tell which columns were chosen among several, or may hold something else."""
    named, others = _chosen(tuple(values), tuple(given.items()))
    for name, column in named.items():
        if name in given:
            continue
        what = f"column of {name}"
        if more := others.get(name):
            also = ", ".join(more[:5])
            yield Guess(what, column, f"the first of its usual names; the table also has {also}")
        elif name == "text" and column.strip().casefold() in UNSURE:
            yield Guess(what, column, "no column has a name such as text or transcript")


def also_possible(values: Mapping[str, Any], given: Mapping[str, str]) -> set[str]:
    """The columns that `guessed_columns` names as passed over."""
    named, others = _chosen(tuple(values), tuple(given.items()))
    return {each for name in named if name not in given for each in others[name][:5]}


def folded(values: Mapping[str, Any]) -> dict[str, str]:
    """The columns by name, without case and spaces; of equal ones the first."""
    return {name: same[0] for name, same in _folded(tuple(values)).items()}


@lru_cache(64)
def _folded(keys: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key in keys:
        found.setdefault(str(key).strip().casefold(), []).append(key)
    for name in list(found):  # `read_delimited` calls a second column "text" text.1, as pandas does
        if (base := re.sub(r"\.\d+$", "", name)) != name and base in found:
            found[base] += found.pop(name)
    return found


@lru_cache(64)
def _chosen(
    keys: tuple[str, ...], given: tuple[tuple[str, str], ...]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The column of each field, and the other columns that it might be."""
    known = _folded(keys)
    named: dict[str, str] = {}
    for name, wanted in given:
        if found := known.get(wanted.strip().casefold()):
            named[name] = wanted if wanted in found else found[0]
    for name, words in NAMES.items():
        if name in dict(given):
            continue
        word = next((w for w in words if w in known and known[w][0] not in named.values()), None)
        if word is not None:
            named[name] = known[word][0]
    taken = set(named.values())
    others = {
        name: [each for word in NAMES[name] for each in known.get(word, ()) if each not in taken]
        for name in named
    }
    return named, others


def times_of_original(
    head: Sequence[tuple[str, Mapping[str, Any]]],
    places: Places,
    given: Mapping[str, str] = NONE_GIVEN,
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
    for where, values in head:
        named = columns(values, given)
        if not {"audio", "start", "end"} <= named.keys():
            continue
        audio = values.get(named["audio"])
        own = isinstance(audio, Mapping) and (
            isinstance(audio.get("bytes"), bytes) or audio.get("array") is not None
        )
        name = audio.get("path") if isinstance(audio, Mapping) else audio
        files[where if own else str(name)] += 1
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
        if isinstance(data, bytes):
            source: io.BytesIO | Path | None = io.BytesIO(data)
        else:
            source = places.find(str(name)).path
            if source is not None and not places.may_read(source):
                return None
        return float(soundfile.info(source).duration)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError):
        return None
