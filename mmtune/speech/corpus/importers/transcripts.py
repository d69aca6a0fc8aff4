"""Import recordings with one transcript each, in the .txt of the same name, without times."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from mmtune.data.manifest import scan_files
from mmtune.data.text_beside import text_beside
from mmtune.speech.corpus.check_recording import SPEECH_SUFFIXES
from mmtune.speech.corpus.importers.captions import decoded
from mmtune.speech.corpus.importers.piece import Found, ImportOptions, LeftOut, Piece, Used, filled
from mmtune.system.inside import leads_out
from mmtune.system.pointers import pointer_in

MAX_BYTES = 2_000_000  # size of one transcript: some days of speech


def import_transcripts(source: Path, options: ImportOptions) -> Found:
    """Read each recording of a folder with the .txt of its name."""
    used: set[Path] = set()
    for _, relative in scan_files(source, SPEECH_SUFFIXES):
        file = source / relative
        recording = relative.as_posix()
        transcript = text_beside(file)
        used.add(transcript)
        text = _text(transcript)
        if isinstance(text, LeftOut):
            yield replace(text, file=str(transcript if os.path.lexists(transcript) else file))
            continue
        yield Used(transcript)
        yield Piece(file, recording, text, recording, row=filled(language=options.language))
    for _, relative in scan_files(source, (".txt",)):
        if source / relative not in used:
            yield LeftOut(
                relative.as_posix(),
                "the folder has no recording of this name",
                "add the recording to the folder, or give the file the recording's name",
            )


def _text(path: Path) -> str | LeftOut:
    if leads_out(path.parent, path):
        return LeftOut(path.name, "it is a link out of its folder", "put the file itself there")
    if not path.is_file():
        return LeftOut(path.name, "the recording has no transcript", f"write {path.name}")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        return LeftOut(
            path.name,
            f"more than {MAX_BYTES:,} bytes are too many for a transcript",
            "check the file",
        )
    if (pointer := pointer_in(data)) is not None:
        return LeftOut(path.name, f"it {pointer.found}", pointer.cure, "lfs-pointer")
    try:
        return decoded(data)
    except UnicodeDecodeError:
        return LeftOut(path.name, "it is not UTF-8", "save it as UTF-8")
