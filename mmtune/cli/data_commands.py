"""What looks at data, makes it, and keeps what is computed from it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from mmtune.data.rows import Split
from mmtune.errors import FINDINGS, ConfigError
from mmtune.system.arguments import Parser, positive

if TYPE_CHECKING:
    from rich.progress import Progress


def check_arguments(parser: Parser) -> None:
    parser.add_argument("path", type=Path, help="manifest.jsonl, or a folder of files")
    parser.add_argument("--modality", help="speech or image (default: what the content is)")
    parser.add_argument("--terms", type=Path, help="term list to compare the spelling with")
    parser.add_argument("--base", help="what images are for: how much of a caption does it read?")
    parser.add_argument(
        "--resolution", type=positive, metavar="PIXELS", help="of images (default: the base's)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--all", action="store_true", help="print every finding")


def check(options: argparse.Namespace) -> int:
    from mmtune.data import check as data
    from mmtune.data.dataset import describe
    from mmtune.runs.modalities import find_modality, guess_modality

    source: Path = options.path
    if not source.exists():
        raise ConfigError(f"no such file or folder: {source}", "give a manifest.jsonl or a folder")
    given = options.modality
    modality = find_modality(given) if given else guess_modality(source)
    settings = None
    # Only what has a resolution is compared with a base.
    if "resolution" not in modality.options.model_fields:
        for name in ("base", "resolution"):
            if getattr(options, name) is not None:
                raise ConfigError(f"--{name} changes nothing for {modality.name}", "leave it out")
    if options.resolution is not None:
        settings = modality.options.model_validate({"resolution": options.resolution})
    with _opened() as bar:
        task = bar.add_task("opening files", total=None)
        dataset = data.check(
            source,
            modality,
            strict=False,
            terms=options.terms,
            base=options.base,
            settings=settings,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    splits = {name: len(dataset.split(name)) for name in get_args(Split)}
    bad = any(f.severity == "error" for f in dataset.findings)
    if options.json:
        import dataclasses
        import json

        facts = {
            "modality": modality.name,
            "source": str(dataset.source),
            "fingerprint": dataset.fingerprint,
            "usable": splits,
            "quarantined": list(dataset.quarantined),
            "findings": [dataclasses.asdict(f) for f in dataset.findings],
        }
        print(json.dumps(facts, indent=2))
        return FINDINGS if bad else 0
    most = len(dataset.findings) if options.all else 5
    print("\n".join(describe(dataset, most)))
    return FINDINGS if bad else 0


def _opened() -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def import__arguments(parser: Parser) -> None:
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a file or folder")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="the new folder")
    parser.add_argument(
        "--format",
        help="kaldi, commonvoice, huggingface, audiofolder, table, subtitles or transcripts "
        "(default: by the content)",
    )
    parser.add_argument("--modality", help="speech or image (default: what the content is)")
    parser.add_argument("--language", help="code, such as en, of rows that name none")
    parser.add_argument("--channel", help="0, 1 … or mix, of recordings with several channels")
    parser.add_argument(
        "--align", action="store_true", help="cut long recordings by the words that --base hears"
    )
    parser.add_argument("--base", help="for --align: starter:NAME, a folder, or a hub id")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--all", action="store_true", help="print everything that is left out")


def import_(options: argparse.Namespace) -> int:
    from mmtune.runs.modalities import find_modality, modality_names

    source: Path = options.source
    if not source.exists():
        raise ConfigError(f"no such file or folder: {source}", "name the data to import")
    if options.modality:
        fitting = [find_modality(options.modality)]
    else:
        known = [find_modality(name) for name in modality_names()]
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
    with _opened() as bar:
        task = bar.add_task("importing", total=None)
        result = fitting[0].import_data(
            source,
            options.to,
            options.format,
            given,
            lambda done: bar.update(task, completed=done),
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
