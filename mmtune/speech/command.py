"""The commands `mmtune transcribe` (recordings to text or subtitles) and `mmtune score`."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.errors import ERROR, ConfigError, DataError
from mmtune.speech import api
from mmtune.system.arguments import Parser, add_model, not_negative, positive, text
from mmtune.system.display import aligned
from mmtune.system.files import write_text
from mmtune.system.output import say

if TYPE_CHECKING:
    from mmtune.training.interrupt import StopRequest


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
        "--speakers",
        type=text,
        metavar="A,B",
        help="names of channels that are transcribed apart, such as agent,customer; or with their "
        "numbers: agent=0,customer=1",
    )
    parser.add_argument("--format", choices=("txt", "json", "srt", "vtt"), default="txt")
    parser.add_argument(
        "--json", action="store_const", const="json", dest="format", help="same as --format json"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write one file for each recording into this folder"
    )
    parser.add_argument(
        "--watch",
        type=Path,
        metavar="DIR",
        help="transcribe each recording in this folder once it is complete, until Ctrl-C or "
        "SIGTERM; transcripts are written beside the recordings, or into --out",
    )
    parser.add_argument(
        "--settle",
        type=not_negative,
        default=10.0,
        metavar="SECONDS",
        help="with --watch: a recording is complete if it has not changed for this long "
        "(default: 10)",
    )
    parser.add_argument(
        "files",
        type=Path,
        nargs="*",
        metavar="FILE|DIR|MANIFEST",
        help="audio files, folders (searched recursively), or manifests (each row is transcribed)",
    )


def transcribe(options: argparse.Namespace) -> int:
    out: Path | None = options.out
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file", "name a folder: --out DIR")
    if (options.watch is None) == (not options.files):
        raise ConfigError(
            "mmtune transcribe needs FILE … or --watch DIR, and not both",
            "name recordings, or a folder to watch; see `mmtune transcribe --help`",
        )
    if options.watch is not None:
        return _watch(options)
    from mmtune.speech.transcription.transcript import WRITERS

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

    found = api.transcribe(options.files, on_each=show, **_settings(options))
    for note in found.notes:
        say(f"note: {note}", error=True)
    return ERROR if any(each.error for each in found) else 0


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    from mmtune.speech.transcription.transcript import TIMED

    return {
        "adapter": options.adapter,
        "base": options.base,
        "label": options.label,
        "language": options.language,
        "prompt": options.prompt,
        "terms": options.terms,
        "beams": options.beams,
        "words": options.words or options.format in TIMED,
        "channels": options.channels,
        "speakers": _speakers(options.speakers or ""),
        "progress": False,
    }


def _speakers(given: str) -> list[str]:
    """The names of the channels in their order, of "agent,customer" or "customer=1,agent=0"."""
    names = [name.strip() for name in given.split(",") if name.strip()]
    if "=" not in given:
        return names
    numbers: dict[str, str] = {}
    for part in names:
        name, _, number = part.partition("=")
        numbers[number.strip()] = name.strip()
    wanted = [str(i) for i in range(len(names))]
    if sorted(numbers) != wanted or not all(numbers.values()):
        raise ConfigError(
            f"--speakers {given} doesn't name each channel once",
            "number the channels from 0: --speakers agent=0,customer=1",
        )
    return [numbers[number] for number in wanted]


def _watch(options: argparse.Namespace) -> int:
    """Transcribe new recordings of a folder until a signal comes.

    The first signal ends it after the recording that is being transcribed; the same one again ends
    it at once.
    """
    from mmtune.system.locks import locked

    folder: Path = options.watch
    if not folder.is_dir():
        raise ConfigError(f"no such folder: {folder}", "create it, or name another: --watch DIR")
    out: Path = options.out or folder
    out.mkdir(parents=True, exist_ok=True)
    settings = _settings(options)
    del settings["progress"]
    model = api.Transcriber(**settings)
    with locked(out):
        model.load()  # a wrong base is told before the first recording comes
        for note in model.model.notes:
            say(f"note: {note}", error=True)
        _transcribe_new(model, options, out)
    say("stopped", error=True)
    return 0


def _transcribe_new(model: api.Transcriber, options: argparse.Namespace, out: Path) -> None:
    from mmtune.speech.transcription.transcript import WRITERS
    from mmtune.speech.transcription.watched_folder import WatchedFolder, recorder_labels
    from mmtune.training.interrupt import StopRequest

    watched = WatchedFolder(options.watch, out, options.format, options.settle)

    def one(recording: Path) -> None:
        try:
            found = model.hear(recording)
        except DataError as error:
            watched.failed(recording, str(error))
            say(f"error: {error}", error=True, flush=True)
            return
        content = WRITERS[options.format](found)
        if options.format == "json" and (labels := recorder_labels(recording)):
            values = found.to_dict() | {"labels": labels}
            content = json.dumps(values, ensure_ascii=False) + "\n"
        place = watched.write(recording, content)
        kept = f"{recording}: its transcript was changed by hand, and is kept"
        say(place or kept, error=place is None, flush=True)

    with StopRequest() as stop:
        say(f"watching {options.watch}; Ctrl-C ends", error=True, flush=True)
        while not stop.number:
            for recording in watched.complete(time.monotonic()):
                if not stop.number:
                    one(recording)
            _wait(min(max(options.settle, 0.2), 5.0), stop)


def _wait(seconds: float, stop: StopRequest) -> None:
    end = time.monotonic() + seconds
    while not stop.number and time.monotonic() < end:
        time.sleep(0.1)


def score_arguments(parser: Parser) -> None:
    parser.add_argument(
        "references",
        type=Path,
        metavar="REFERENCES",
        help="what was spoken: a text file (one text per line), JSON lines, CSV, TSV, parquet, or "
        "a folder of .txt files; labels of its rows, such as accent, give groups",
    )
    parser.add_argument(
        "hypotheses",
        type=Path,
        metavar="HYPOTHESES",
        help="what a system wrote, in any of these formats; rows are paired by id, by recording, "
        "or by order",
    )
    parser.add_argument(
        "--terms",
        type=Path,
        metavar="FILE",
        help="text file of terms, one per line: also measure their recall and precision",
    )
    parser.add_argument(
        "--language",
        type=text,
        default="en",
        help="language of rows that name none: a name, code or tag (default: en)",
    )
    parser.add_argument(
        "--column",
        metavar="NAME",
        help="column of HYPOTHESES with the transcripts, if it has an unusual name",
    )
    parser.add_argument(
        "--encoding", metavar="NAME", help="encoding of text files and tables (default: UTF-8)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def score(options: argparse.Namespace) -> int:
    """Run `mmtune score`: compare the transcripts of any system with references."""
    from mmtune.speech.evaluation.score import score

    found = score(
        options.references,
        options.hypotheses,
        terms=options.terms,
        language=options.language,
        column=options.column,
        encoding=options.encoding,
    )
    if options.json:
        say(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        return 0
    for part in found.shown():
        say(part if isinstance(part, str) else aligned(part))
    return 0
