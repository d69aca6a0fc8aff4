"""Other speech, which must not get worse: the rows on which that is measured."""

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
    """`task.retention_rows` or fewer of each language in the retention manifest, always the same.

    Args:
        part: "test" is what `compare` scores; "validation" are others.

    Raises:
        DataError: it can't be used.
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
