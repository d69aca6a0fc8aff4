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
    """Return the rows of each language of the retention manifest that measure, or that choose.

    There are up to `task.retention_rows` for the comparison and up to `task.choose_rows` for the
    choice of the strength, which has at most a quarter of all. The choice is by hash, so it is
    always the same.

    Args:
        options: with `retention`, the manifest; without it there are no rows.
        part: "test" is what `compare` scores; "validation" are other rows.

    Raises:
        DataError: the manifest can't be used.
    """
    if options.retention is None:
        return []
    found = speech_rows(check(options.retention, READER, divide=False).rows)
    languages: dict[str, list[SpeechRow]] = {}
    for row in sorted(found, key=lambda row: hash_text(row.id)):
        languages.setdefault(row.language or options.language, []).append(row)
    chosen: list[SpeechRow] = []
    for rows in languages.values():
        choose = min(options.choose_rows, len(rows) // 4)
        measure = min(options.retention_rows, len(rows) - choose)
        chosen += rows[:measure] if part == "test" else rows[measure : measure + choose]
    return chosen
