"""The command `mmtune transcribe`: recordings of any length to text or subtitles."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmtune.errors import ERROR, ConfigError
from mmtune.speech import api
from mmtune.system.arguments import Parser, add_model, positive, text
from mmtune.system.files import write_text
from mmtune.system.output import say


def transcribe_arguments(parser: Parser) -> None:
    add_model(parser)
    parser.add_argument(
        "--language",
        type=text,
        help="language of the recordings: a name, code or tag, such as German, de or de-AT "
        "(default: the adapter's, or detected)",
    )
    parser.add_argument("--prompt", type=text, help="text that came before, or words to expect")
    parser.add_argument(
        "--terms",
        type=Path,
        metavar="FILE",
        help="text file of terms to spell correctly, one per line (up to 100,000)",
    )
    parser.add_argument(
        "--beams", type=positive, default=1, help="beams of the search; 1 is greedy (default: 1)"
    )
    parser.add_argument(
        "--words", action="store_true", help="add the time of each word to JSON output"
    )
    parser.add_argument(
        "--channels",
        choices=("auto", "split", "mix"),
        default="auto",
        help="auto transcribes channels apart if they differ, as in a call; split always does; mix "
        "takes their mean (default: auto)",
    )
    parser.add_argument(
        "--speakers", type=text, metavar="A,B", help="names of channels that are transcribed apart"
    )
    parser.add_argument("--format", choices=("txt", "json", "srt", "vtt"), default="txt")
    parser.add_argument(
        "--json", action="store_const", const="json", dest="format", help="same as --format json"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write one file for each recording into this folder"
    )
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE|DIR|MANIFEST",
        help="audio files, folders (searched recursively), or manifests (each row is transcribed)",
    )


def transcribe(options: argparse.Namespace) -> int:
    out: Path | None = options.out
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file", "name a folder: --out DIR")
    from mmtune.speech.transcription.transcript import TIMED, WRITERS

    write = WRITERS[options.format]

    def show(each: api.TranscribedFile, total: int) -> None:
        if each.transcript is None:
            say(f"error: {each.error}", error=True, flush=True)
            return
        text = write(each.transcript)
        if out is not None:
            file = out / f"{each.name}.{options.format}"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, text, private=True)
            say(file, flush=True)
        elif options.format == "json":
            say(json.dumps(each.to_dict(), ensure_ascii=False), flush=True)
        else:
            name = f"{each.label}: " if total > 1 and options.format == "txt" else ""
            say(name + text, end="", flush=True)

    found = api.transcribe(
        options.files,
        adapter=options.adapter,
        base=options.base,
        label=options.label,
        language=options.language,
        prompt=options.prompt,
        terms=options.terms,
        beams=options.beams,
        words=options.words or options.format in TIMED,
        channels=options.channels,
        speakers=[name.strip() for name in (options.speakers or "").split(",") if name.strip()],
        progress=False,
        on_each=show,
    )
    for note in found.notes:
        say(f"note: {note}", error=True)
    return ERROR if any(each.error for each in found) else 0
