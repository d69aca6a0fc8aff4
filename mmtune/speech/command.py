"""The command `mmtune transcribe`: recordings of any length to text or subtitles."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmtune.data.check import usable_rows
from mmtune.data.rows import Row
from mmtune.errors import ERROR, ConfigError, DataError
from mmtune.speech.corpus.speech_reader import READER
from mmtune.system.arguments import Parser, add_model, positive
from mmtune.system.files import unique_name


def transcribe_arguments(parser: Parser) -> None:
    add_model(parser)
    parser.add_argument(
        "--language", help="language code, such as en (default: the adapter's language)"
    )
    parser.add_argument(
        "--prompt", help="text before the recording, or words to expect in it; guides the spelling"
    )
    parser.add_argument(
        "--terms",
        type=Path,
        metavar="FILE",
        help="text file of terms to spell correctly, one per line (up to 100,000)",
    )
    parser.add_argument(
        "--beams",
        type=positive,
        default=1,
        help="number of beams in beam search (default: 1, greedy decoding)",
    )
    parser.add_argument(
        "--words", action="store_true", help="add the time of each word to json output"
    )
    parser.add_argument(
        "--channels",
        choices=("auto", "split", "mix"),
        default="auto",
        help="split: transcribe each channel by itself; mix: transcribe their mean; auto "
        "(default): split channels that differ, as in a call",
    )
    parser.add_argument(
        "--speakers", metavar="A,B", help="names of the speakers on split channels, in order"
    )
    parser.add_argument(
        "--format",
        choices=("txt", "json", "srt", "vtt"),
        default="txt",
        help="output format (default: txt)",
    )
    parser.add_argument(
        "--json",
        action="store_const",
        const="json",
        dest="format",
        help="the same as --format json",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder that gets one output file per input (default: print the output)",
    )
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE|DIR|MANIFEST",
        help="recordings; folders are searched recursively, and of a manifest.jsonl each row is "
        "transcribed with its labels",
    )


def transcribe(options: argparse.Namespace) -> int:
    import sys

    from mmtune.adapters.resolve import resolve_adapters

    given = {options.adapter: 1.0} if options.adapter is not None else {}
    model = resolve_adapters("speech", given, base=options.base, label=options.label)
    inputs, failed = _inputs(options.files)
    out: Path | None = options.out
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file", "name a folder: --out DIR")
    names = [name.strip() for name in (options.speakers or "").split(",") if name.strip()]
    from mmtune.speech.transcription import predictor as models
    from mmtune.speech.transcription import transcribe as speech
    from mmtune.speech.transcription.retrieve import TermIndex, read_list
    from mmtune.speech.transcription.transcript import TIMED, WRITERS
    from mmtune.system.quiet import quiet_libraries

    terms = None
    if options.terms is not None:
        listed = read_list(options.terms)
        terms = TermIndex(listed.terms, listed.spoken)
    quiet_libraries()
    predictor = models.open_predictor(
        model.base, model.adapters, language=options.language, beams=options.beams
    )
    if model.note and any(each.row is None for each in inputs):
        print(f"note: {model.note}", file=sys.stderr)
    write = WRITERS[options.format]
    for each in inputs:
        try:
            found = speech.transcribe(
                each.path if each.row is None else each.row,
                predictor,
                weights=model.choose(each.row),
                prompt=options.prompt,
                words=options.words or options.format in TIMED,
                channels=options.channels,
                names=names,
                terms=terms,
            )
        except DataError as error:
            if len(inputs) == 1:
                raise
            # One bad file of a folder doesn't keep the others from being heard.
            print(f"error: {error}", file=sys.stderr, flush=True)
            failed = True
            continue
        text = write(found)
        if out is not None:
            file = out / f"{each.name}.{options.format}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            print(file, flush=True)
        elif options.format == "json":
            import json

            head = {"file": str(each.path)} | ({"id": each.row.id} if each.row is not None else {})
            print(json.dumps(head, ensure_ascii=False)[:-1] + ", " + text[1:], end="", flush=True)
        else:
            name = f"{each.shown}: " if len(inputs) > 1 and options.format == "txt" else ""
            print(name + text, end="", flush=True)
    return ERROR if failed else 0


@dataclass(frozen=True)
class _Input:
    """A recording to transcribe: a file, or what a row of a manifest names."""

    path: Path
    name: str  # of what is written for it, without suffix
    row: Row | None = None

    @property
    def shown(self) -> str:
        """How it is called on the terminal."""
        return str(self.path) if self.row is None else self.row.id


def _inputs(paths: Sequence[Path]) -> tuple[list[_Input], bool]:
    """What to transcribe, and whether some rows of manifests can't be.

    Raises:
        ConfigError: a file is missing, or a folder holds no recording.
        DataError: a manifest can't be used.
    """
    manifests = [path for path in paths if path.suffix == ".jsonl" and path.is_file()]
    found = _recordings([path for path in paths if path not in manifests])
    inputs = [_Input(path, name) for path, name in found.items()]
    taken, lost = set(found.values()), False
    for manifest in manifests:
        rows, bad = usable_rows(manifest, READER)
        lost = lost or bad
        for row in rows:
            words = [re.sub(r"[^\w.-]", "_", part).strip(".") for part in row.id.split("/")]
            name = unique_name("/".join(filter(None, words)) or "row", taken)
            taken.add(name)
            inputs.append(_Input(row.path, name, row))
    return inputs, lost


def _recordings(paths: Sequence[Path]) -> dict[Path, str]:
    """The files to transcribe, and the name (without suffix) of what is written for each.

    Raises:
        ConfigError: one is missing, or a folder holds no recording.
    """
    from mmtune.data.manifest import scan_files
    from mmtune.speech.corpus.check_recording import SPEECH_SUFFIXES

    found: dict[Path, str] = {}
    for path in paths:
        if path.is_dir():
            files = list(scan_files(path, SPEECH_SUFFIXES))
            if not files:
                raise ConfigError(f"{path} holds no recording", "name a folder of audio files")
            found |= {path / relative: name for name, relative in files}
        elif path.is_file():
            found[path] = path.stem
        else:
            raise ConfigError(f"no such file: {path}", "name existing audio files")
    counts = Counter(found.values())
    # Files of one name from several places keep their suffix or, if that is the same, a number.
    taken: set[str] = set()
    for path, name in found.items():
        found[path] = unique_name(name if counts[name] == 1 else path.name, taken)
        taken.add(found[path])
    return found
