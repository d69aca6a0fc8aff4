"""Choose the retention rows: other speech, on which the adapter must not be worse."""

from __future__ import annotations

from typing import Literal

from mmtune.data.check import check
from mmtune.speech.corpus.speech_reader import READER
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow, speech_rows
from mmtune.system.hashing import hash_text


def retention_rows(
    options: SpeechOptions, part: Literal["test", "validation"] = "test"
) -> list[SpeechRow]:
    """Return up to `task.retention_rows` rows of each language of the retention manifest.

    The choice is by hash, so it is always the same.

    Args:
        options: with `retention`, the manifest; without it there are no rows.
        part: "test" is what `compare` scores; "validation" are other rows.

    Raises:
        DataError: the manifest can't be used.
    """
    if options.retention is None:
        return []
    found = speech_rows(check(options.retention, READER).rows)
    languages: dict[str, list[SpeechRow]] = {}
    for row in sorted(found, key=lambda row: hash_text(row.id)):
        languages.setdefault(row.language or options.language, []).append(row)
    most = options.retention_rows
    start = 0 if part == "test" else most
    return [row for rows in languages.values() for row in rows[start : start + most]]
