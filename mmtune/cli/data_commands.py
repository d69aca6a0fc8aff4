"""Commands for data: check, import, cache."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from mmtune.errors import FINDINGS, ConfigError
from mmtune.system.arguments import Parser, add_base_config, in_help, not_negative, positive
from mmtune.system.output import say

FRAMES = "frames"  # the format for which --frames stands
OF_FRAMES = ("max_frames", "min_gap", "caption")  # options that only it has


def _modalities() -> str:
    from mmtune.runs.modalities import modality_names

    return in_help(" or ".join(modality_names()))


def check_arguments(parser: Parser) -> None:
    """Add the arguments of `mmtune check`."""
    parser.add_argument("path", type=Path, help="manifest.jsonl, or a folder of files")
    parser.add_argument(
        "--modality", help=f"{_modalities()} (default: recognised from the content)"
    )
    parser.add_argument(
        "--terms",
        type=Path,
        metavar="FILE",
        help="term list: a file, or medical, legal or broadcast; reports transcripts that spell a "
        "term differently",
    )
    parser.add_argument(
        "--base",
        help="base model for these images; reports captions that its text encoder would cut off",
    )
    add_base_config(parser)
    parser.add_argument(
        "--resolution",
        type=positive,
        metavar="PIXELS",
        help="training resolution of images, in pixels (default: the base's)",
    )
    parser.add_argument(
        "--background",
        metavar="COLOUR",
        help="colour behind transparent parts of images, such as black or #102030 (default: white)",
    )
    parser.add_argument(
        "--brand",
        "--brand_guide",
        type=Path,
        metavar="FILE",
        help="guide of the brand, such as brand.yaml; marks each of its rules kept, broken or not "
        "measurable on these images and captions",
    )
    parser.add_argument(
        "--trigger",
        metavar="PHRASE",
        help="phrase that training will put before each caption of an image",
    )
    parser.add_argument(
        "--shared",
        metavar="KIND,KIND",
        default="",
        help="what splits may share: speaker, sentence, recording or subject (default: nothing)",
    )
    parser.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="policy of consent and licence: which rows may train (default: policy.yaml beside "
        "the data)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--all", action="store_true", help="print every finding (default: 5 of each kind)"
    )


def check(options: argparse.Namespace) -> int:
    """Run `mmtune check`: report what training can't use."""
    from mmtune.data.dataset import describe
    from mmtune.runs import public_functions as public
    from mmtune.runs.import_hint import import_cure
    from mmtune.runs.modalities import find_modality

    wanted = {"resolution": options.resolution, "background": options.background}
    wanted |= {"brand_guide": options.brand, "trigger": options.trigger}
    settings = {name: value for name, value in wanted.items() if value is not None}
    shared = [kind.strip() for kind in options.shared.split(",") if kind.strip()]
    dataset = public.check(
        options.path,
        options.modality,
        terms=options.terms,
        base=options.base,
        shared=shared,
        policy=options.policy,
        **settings,
    )
    if options.json:
        import json

        say(json.dumps(dataset.to_dict(), indent=2))
    else:
        most = max(len(dataset.findings), dataset.found) if options.all else 5
        say("\n".join(describe(dataset, most)))
        if not dataset.rows and (
            hint := import_cure(options.path, find_modality(dataset.modality))
        ):
            say(f"next     {hint}")
    bad = any(finding.severity == "error" for finding in dataset.findings)
    bad |= any(rule.is_broken for rule in dataset.rules)
    return FINDINGS if bad else 0


def import__arguments(parser: Parser) -> None:
    """Add the arguments of `mmtune import`."""
    parser.add_argument("source", type=Path, metavar="SOURCE", help="file or folder to import")
    parser.add_argument(
        "--to",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder to create, or that of an earlier import",
    )
    parser.add_argument(
        "--format",
        help="kaldi, commonvoice, huggingface, audiofolder, table, subtitles, transcripts or "
        "frames (default: recognised from the content)",
    )
    parser.add_argument(
        "--frames",
        action="store_true",
        help="import frames of the video SOURCE, or of all videos in it, as pictures: one of each "
        "scene, without near-copies",
    )
    parser.add_argument(
        "--max-frames",
        type=positive,
        metavar="N",
        help="with --frames: pictures of each video, at most (default: 100)",
    )
    parser.add_argument(
        "--min-gap",
        type=not_negative,
        metavar="SECONDS",
        help="with --frames: least time between two pictures of a video (default: 1)",
    )
    parser.add_argument(
        "--caption",
        metavar="TEXT",
        help="with --frames: caption of all pictures (default: none; `mmtune caption` writes them)",
    )
    parser.add_argument(
        "--modality", help=f"{_modalities()} (default: recognised from the content)"
    )
    parser.add_argument(
        "--language",
        help="language of rows that name none: a name, code or tag, such as German, de or de-AT",
    )
    parser.add_argument(
        "--channel", help="channel to use of multi-channel recordings: 0, 1 … or mix"
    )
    parser.add_argument(
        "--align",
        action="store_true",
        help="cut long recordings into rows, by aligning the words that --base hears with the "
        "transcript",
    )
    parser.add_argument(
        "--base", help="model that --align uses: starter:NAME, a folder, or a hub id"
    )
    parser.add_argument(
        "--speakers",
        metavar="A=0,B=1",
        help="channels of the speakers of a call, such as agent=0,customer=1",
    )
    parser.add_argument(
        "--recordings",
        metavar="DIR",
        help="folder outside SOURCE from which recordings may be read, for links and paths that "
        "lead there (default: none); to look for files by name, use --audio-dir",
    )
    parser.add_argument(
        "--audio-dir",
        metavar="DIR",
        help="folder of the recordings that a table names (default: the table's folder, and clips, "
        "audio, wavs, wav and data in it)",
    )
    parser.add_argument(
        "--encoding",
        metavar="NAME",
        help="encoding of a CSV or TSV, such as cp1252 (default: from its byte order mark; without "
        "one UTF-8, or UTF-16 if it looks like it)",
    )
    parser.add_argument(
        "--text-column",
        metavar="NAME",
        help="column of the transcripts in a table, parquet file or Hugging Face data set "
        "(default: by its name, such as text or sentence)",
    )
    parser.add_argument(
        "--speaker-column",
        metavar="NAME",
        help="column of the speakers in a table, parquet file or Hugging Face data set "
        "(default: by its name, such as speaker or client_id)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="read and decode everything and print what would be written, but write nothing",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--all",
        action="store_true",
        help="print every item that is left out (default: 5 of each kind)",
    )


def import_(options: argparse.Namespace) -> int:
    """Run `mmtune import`: convert data of another format."""
    from mmtune.image.pictures.suffixes import VIDEO_SUFFIXES
    from mmtune.runs.data_versions import with_version
    from mmtune.runs.modalities import MODALITIES, find_modality, modality_names
    from mmtune.system.progress import counted

    source: Path = options.source
    if not source.exists():
        raise ConfigError(f"no such file or folder: {source}", "give the data to import")
    _settle_frames(options)
    if options.modality:
        fitting = [find_modality(options.modality)]
    else:
        known = (modality for _, modality in MODALITIES.usable())
        fitting = [m for m in known if m.recognise(source, options.format)]
    if len(fitting) != 1:
        if fitting:
            found = f"{source} may be {' or '.join(m.name for m in fitting)}"
        elif options.format:
            found = f"--format {options.format}: no such format"
        else:
            found = f"the format of {source} was not recognised"
            if source.suffix.lower() in VIDEO_SUFFIXES:
                whole = f"mmtune import {shlex.quote(str(source))} --frames --to "
                raise ConfigError(
                    f"{source} is a video",
                    f"import its frames as pictures: {whole}{shlex.quote(str(options.to))}",
                )
        raise ConfigError(
            found,
            f"give --modality {'|'.join(modality_names())} or another --format; "
            "`mmtune import --help` lists the formats",
        )
    names = ["language", "channel", "align", "base", "speakers"]
    names += ["recordings", "audio_dir", "encoding", "text_column", "speaker_column"]
    given = {name: value for name in names if (value := getattr(options, name))}
    given |= {name: value for name in OF_FRAMES if (value := getattr(options, name)) is not None}
    with counted("importing") as count:
        result = fitting[0].import_data(
            source,
            options.to,
            options.format,
            given,
            lambda done: count(done, None),
            options.dry_run,
        )
        result = with_version(result, source, fitting[0])
    if options.json:
        import dataclasses
        import json

        say(json.dumps(dataclasses.asdict(result) | {"folder": str(result.folder)}, indent=2))
    else:
        say("\n".join(result.describe(len(result.left_out) if options.all else 5)))
    return 0 if result.rows else FINDINGS


def _settle_frames(options: argparse.Namespace) -> None:
    """Let --frames stand for its format; refuse options that have no effect without it."""
    from mmtune.data.importing import FRAMES

    if options.frames:
        if options.format not in (None, FRAMES):
            raise ConfigError(
                f"--frames and --format {options.format} exclude each other",
                "leave one of them out",
            )
        options.format = FRAMES
    for name in OF_FRAMES if options.format != FRAMES else ():
        if getattr(options, name) is not None:
            raise ConfigError(
                f"--{name.replace('_', '-')} has no effect without --frames", "add --frames"
            )


def cache_arguments(parser: Parser) -> None:
    """Add the arguments of `mmtune cache`."""
    actions = parser.add_subparsers(
        dest="action", metavar="ls|prune|verify", required=True, parser_class=Parser
    )
    actions.add_parser("ls", help="list the stored entries by stage and model")
    prune = actions.add_parser("prune", help="delete entries that no running command uses")
    prune.add_argument(
        "--older-than",
        type=not_negative,
        metavar="DAYS",
        help="delete entries that were not used for this many days",
    )
    prune.add_argument(
        "--max-gb",
        type=not_negative,
        metavar="GB",
        help="delete the least recently used entries until this much is left",
    )
    actions.add_parser("verify", help="remove damaged entries; exit with 1 if there were any")


def cache(options: argparse.Namespace) -> int:
    """Run `mmtune cache`: list, prune or verify the cache of precomputed features."""
    import time

    from mmtune.prefix.cache import PrefixCache

    store = PrefixCache()
    mib = 2**20
    if options.action == "ls":
        found = store.ls()
        for each in found:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.last_used))
            size = f"{each.entries:>8,} entries {each.bytes / mib:>10,.1f} MiB"
            say(f"{size}  {used}  {each.note[:24]}")
        say(f"{store.root}: {sum(e.bytes for e in found) / mib:,.1f} MiB")
        return 0
    if options.action == "prune":
        if options.older_than is None and options.max_gb is None:
            raise ConfigError(
                "mmtune cache prune needs a limit", "give --older-than DAYS or --max-gb GB"
            )
        most = None if options.max_gb is None else round(options.max_gb * 1024 * mib)
        entries, freed = store.prune(options.older_than, most)
        say(f"removed {entries:,} entries, {freed / mib:,.1f} MiB")
        return 0
    damaged = store.verify()
    for key in damaged:
        say(f"removed a damaged entry: {key}")
    say(f"{sum(each.entries for each in store.ls()):,} entries are undamaged")
    return FINDINGS if damaged else 0
