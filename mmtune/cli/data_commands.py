"""What looks at data, makes it, and keeps what is computed from it."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmtune.errors import FINDINGS, ConfigError
from mmtune.system.arguments import Parser, in_help, positive


def _modalities() -> str:
    from mmtune.runs.modalities import modality_names

    return in_help(" or ".join(modality_names()))


def check_arguments(parser: Parser) -> None:
    parser.add_argument("path", type=Path, help="manifest.jsonl, or a folder of files")
    parser.add_argument("--modality", help=f"{_modalities()} (default: what the content is)")
    parser.add_argument("--terms", type=Path, help="term list to compare the spelling with")
    parser.add_argument("--base", help="what images are for: how much of a caption does it read?")
    parser.add_argument(
        "--resolution", type=positive, metavar="PIXELS", help="of images (default: the base's)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--all", action="store_true", help="print every finding")


def check(options: argparse.Namespace) -> int:
    from mmtune.data.dataset import describe
    from mmtune.runs import public_functions as public

    settings = {} if options.resolution is None else {"resolution": options.resolution}
    dataset = public.check(
        options.path, options.modality, terms=options.terms, base=options.base, **settings
    )
    if options.json:
        import json

        print(json.dumps(dataset.to_dict(), indent=2))
    else:
        most = len(dataset.findings) if options.all else 5
        print("\n".join(describe(dataset, most)))
    bad = any(finding.severity == "error" for finding in dataset.findings)
    return FINDINGS if bad else 0


def import__arguments(parser: Parser) -> None:
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a file or folder")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="the new folder")
    parser.add_argument(
        "--format",
        help="kaldi, commonvoice, huggingface, audiofolder, table, subtitles or transcripts "
        "(default: by the content)",
    )
    parser.add_argument("--modality", help=f"{_modalities()} (default: what the content is)")
    parser.add_argument("--language", help="code, such as en, of rows that name none")
    parser.add_argument("--channel", help="0, 1 … or mix, of recordings with several channels")
    parser.add_argument(
        "--align", action="store_true", help="cut long recordings by the words that --base hears"
    )
    parser.add_argument("--base", help="for --align: starter:NAME, a folder, or a hub id")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--all", action="store_true", help="print everything that is left out")


def import_(options: argparse.Namespace) -> int:
    from mmtune.runs.modalities import MODALITIES, find_modality, modality_names
    from mmtune.system.progress import counted

    source: Path = options.source
    if not source.exists():
        raise ConfigError(f"no such file or folder: {source}", "name the data to import")
    if options.modality:
        fitting = [find_modality(options.modality)]
    else:
        known = (modality for _, modality in MODALITIES.usable())
        fitting = [m for m in known if m.recognise(source, options.format)]
    if len(fitting) != 1:
        found = " or ".join(m.name for m in fitting) or "in no layout that is known"
        if options.format and not fitting:
            found = f"to be read as {options.format!r}, which is no layout that is known"
        raise ConfigError(
            f"{source} is {found}",
            f"say --modality {'|'.join(modality_names())}, or another --format; "
            "`mmtune import --help` lists them",
        )
    names = ["language", "channel", "align", "base"]
    given = {name: value for name in names if (value := getattr(options, name))}
    with counted("importing") as count:
        result = fitting[0].import_data(
            source, options.to, options.format, given, lambda done: count(done, None)
        )
    if options.json:
        import dataclasses
        import json

        print(json.dumps(dataclasses.asdict(result) | {"folder": str(result.folder)}, indent=2))
    else:
        print("\n".join(result.describe(len(result.left_out) if options.all else 5)))
    return 0 if result.rows else FINDINGS


def cache_arguments(parser: Parser) -> None:
    actions = parser.add_subparsers(
        dest="action", metavar="ls|prune|verify", required=True, parser_class=Parser
    )
    actions.add_parser("ls", help="list what is stored")
    prune = actions.add_parser("prune", help="delete what no living run uses")
    prune.add_argument("--older-than", type=float, metavar="DAYS", help="not used for so long")
    prune.add_argument("--max-gb", type=float, metavar="GB", help="keep at most this, newest first")
    actions.add_parser("verify", help="remove damaged entries; exit code 1 if there were any")


def cache(options: argparse.Namespace) -> int:
    import time

    from mmtune.prefix.cache import PrefixCache

    store = PrefixCache()
    mib = 2**20
    if options.action == "ls":
        found = store.ls()
        for each in found:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.last_used))
            size = f"{each.entries:>8,} entries {each.bytes / mib:>10,.1f} MiB"
            print(f"{size}  {used}  {each.note[:24]}")
        print(f"{store.root}: {sum(e.bytes for e in found) / mib:,.1f} MiB")
        return 0
    if options.action == "prune":
        if options.older_than is None and options.max_gb is None:
            raise ConfigError("nothing says what to prune", "give --older-than DAYS or --max-gb GB")
        most = None if options.max_gb is None else round(options.max_gb * 1024 * mib)
        entries, freed = store.prune(options.older_than, most)
        print(f"removed {entries:,} entries, {freed / mib:,.1f} MiB")
        return 0
    damaged = store.verify()
    for key in damaged:
        print(f"damaged, removed: {key}")
    print(f"{sum(each.entries for each in store.ls()):,} entries are sound")
    return FINDINGS if damaged else 0
