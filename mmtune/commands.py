"""What each command does. Each imports what it needs, so that `mmtune check` needs no torch."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.errors import AdapterError, ConfigError

if TYPE_CHECKING:
    from mmtune.adapters.card import Card

FINDINGS = 1  # exit code of a check that found something


def recipes(options: argparse.Namespace) -> int:
    from mmtune.config import read_yaml
    from mmtune.resources import recipes as names
    from mmtune.resources import resource

    for name in names():
        values = read_yaml(resource("recipes", name) / "recipe.yaml")
        page = resource("recipes", name) / "README.md"
        print(f"{name:<16} {values.get('modality', ''):<8} {_first_sentence(page)}")
    return 0


def _first_sentence(page: Path) -> str:
    if not page.exists():
        return ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            return line.strip().split(". ")[0].rstrip(".")
    return ""


def init(options: argparse.Namespace) -> int:
    import shutil

    from mmtune.resources import recipes as names
    from mmtune.resources import resource

    name: str = options.recipe
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"no recipe {name!r}", f"{hint}recipes: {', '.join(names())}")
    target: Path = options.to or Path(name)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} exists already", "name another folder: --to DIR")
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(resource("recipes", name), target, ignore=ignore, dirs_exist_ok=True)
    suite = resource("eval") / name
    if suite.is_dir():
        shutil.copytree(suite, target / "eval", ignore=ignore)
    for path in sorted(p for p in target.rglob("*") if p.is_file()):
        print(path)
    print(f"\nmmtune train {target / 'recipe.yaml'}")
    return 0


def train(options: argparse.Namespace) -> int:
    from rich.console import Console

    from mmtune import pipeline

    # Before the slow imports, so that a typo is told at once.
    config = pipeline.load_recipe(options.recipe, options.settings)
    from accelerate import PartialState

    from mmtune.console import measures_table, plain
    from mmtune.progress import RichReporter

    with RichReporter(Console(stderr=True)) as reporter:
        result = pipeline.train(config, reporter)
    if not PartialState().is_main_process:
        return 0
    console = Console()
    plain(console, result.comparison.headline)
    console.print(measures_table(result.comparison.measures))
    plain(console, f"adapter  {result.folder / 'adapter'}")
    plain(console, f"report   {result.folder / 'report.html'}")
    return 0


def guess_modality(path: Path) -> str:
    """The modality whose rows, or files, `path` holds most of.

    Raises:
        ConfigError: none of any.
    """
    import json
    from itertools import islice

    from mmtune.modality import REGISTRY, find_modality

    manifest = path / "manifest.jsonl" if path.is_dir() else path
    votes = dict.fromkeys(REGISTRY, 0)
    if manifest.is_file():
        with manifest.open(encoding="utf-8", errors="replace") as file:
            for line in islice(file, 200):
                try:
                    row = json.loads(line)
                except (json.JSONDecodeError, RecursionError):
                    continue
                for name in REGISTRY:
                    if isinstance(row, dict) and find_modality(name).row.media in row:
                        votes[name] += 1
    elif path.is_dir():
        for name in REGISTRY:
            votes[name] = sum(1 for _ in islice(find_modality(name).scan(path), 200))
    else:
        raise ConfigError(f"no such file or folder: {path}", "give a manifest.jsonl or a folder")
    best = max(votes, key=lambda name: votes[name])
    if not votes[best]:
        fields = " or ".join(repr(find_modality(name).row.media) for name in REGISTRY)
        raise ConfigError(
            f"{path} holds neither recordings nor images",
            f"give a folder of media files, or a manifest whose rows have {fields}",
        )
    return best


def check(options: argparse.Namespace) -> int:
    from mmtune.data import check as data
    from mmtune.modality import find_modality

    name = options.modality or guess_modality(options.path)
    dataset = data.check(options.path, find_modality(name), strict=False)
    splits = {s: len(dataset.split(s)) for s in ("train", "validation", "test")}
    bad = any(f.severity == "error" for f in dataset.findings)
    if options.json:
        import dataclasses
        import json

        facts = {
            "modality": name,
            "source": str(dataset.source),
            "fingerprint": dataset.fingerprint,
            "usable": splits,
            "quarantined": list(dataset.quarantined),
            "findings": [dataclasses.asdict(f) for f in dataset.findings],
        }
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return FINDINGS if bad else 0
    from rich.console import Console

    from mmtune.console import findings_table, plain

    # Piped output is not cut to 80 columns.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    counts = ", ".join(f"{n} {split}" for split, n in splits.items())
    plain(
        console,
        f"{name}: {len(dataset.rows)} rows are usable ({counts}), "
        f"{len(dataset.quarantined)} are not; fingerprint {dataset.fingerprint[:16]}",
    )
    if dataset.findings:
        most = len(dataset.findings) if options.all else 8
        console.print(findings_table(dataset.findings, most))
    else:
        plain(console, "no findings")
    return FINDINGS if bad else 0


def evaluate(options: argparse.Namespace) -> int:
    from rich.console import Console

    from mmtune import pipeline
    from mmtune.console import measures_table, plain

    run = options.run.resolve()  # it may have been moved: where it lies wins over its settings
    settings = run / "config.yaml"
    if not settings.is_file():
        raise ConfigError(f"{options.run} is no run: it holds no config.yaml", "give runs/NAME")
    config = pipeline.load_recipe(str(settings)).model_copy(
        update={"out": run.parent, "name": run.name}
    )
    comparison = pipeline.evaluate(config)
    console = Console()
    plain(console, comparison.headline)
    console.print(measures_table(comparison.measures))
    plain(console, f"report   {options.run / 'report.html'}")
    return 0


def adapter_folder(path: Path) -> Path:
    """The adapter that `path` means: itself, or the `adapter/` of a run's folder.

    Raises:
        AdapterError: neither has a card.
    """
    from mmtune.adapters.card import FILE

    for folder in (path, path / "adapter"):
        if (folder / FILE).is_file():
            return folder
    if (path / "checkpoints").is_dir():
        raise AdapterError(f"the run {path} isn't finished", "repeat its command: it resumes")
    raise AdapterError(
        f"{path} holds no adapter ({FILE})", "give a run's folder (runs/NAME) or its adapter/"
    )


def _card(options: argparse.Namespace, modality: str) -> tuple[Path, Card]:
    from mmtune.adapters.card import read_card

    folder = adapter_folder(options.adapter)
    card = read_card(folder)
    if card.modality != modality:
        raise AdapterError(
            f"{folder} is an adapter for {card.modality}, not {modality}",
            "`mmtune transcribe` takes speech adapters, `mmtune generate` image adapters",
        )
    return folder, card


def transcribe(options: argparse.Namespace) -> int:
    folder, card = _card(options, "speech")
    missing = [str(path) for path in options.files if not path.is_file()]
    if missing:
        raise ConfigError(f"no such file: {missing[0]}", "name existing audio files")
    from mmtune.speech import transcribe as speech

    for result in speech.transcribe(options.files, base=card.base, adapter=folder):
        name = f"{result.path}: " if len(options.files) > 1 else ""
        print(f"{name}{result.text}", flush=True)
    return 0


def generate(options: argparse.Namespace) -> int:
    folder, card = _card(options, "image")
    from mmtune.image import generate as image

    task = card.settings.get("task", {})
    paths = image.generate(
        [options.prompt],
        options.out,
        base=card.base,
        adapter=folder,
        weight=options.scale,
        seeds=range(options.seed, options.seed + options.count),
        **{name: task[name] for name in ("steps", "guidance") if name in task},
    )
    for path in paths:
        print(path)
    return 0


def cache(options: argparse.Namespace) -> int:
    import time

    from mmtune.data.cache import PrefixCache

    store = PrefixCache()
    gib = 2**30
    if options.action == "ls":
        found = store.ls()
        for each in found:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.last_used))
            print(f"{each.entries:>8,} entries {each.bytes / gib:>8.2f} GiB  {used}  {each.note}")
        print(f"{store.root}: {sum(e.bytes for e in found) / gib:.2f} GiB")
        return 0
    if options.action == "prune":
        if options.older_than is None and options.max_gb is None:
            raise ConfigError("nothing says what to prune", "give --older-than DAYS or --max-gb GB")
        most = None if options.max_gb is None else round(options.max_gb * gib)
        entries, size = store.prune(options.older_than, most)
        print(f"removed {entries:,} entries, {size / gib:.2f} GiB")
        return 0
    damaged = store.verify()
    for key in damaged:
        print(f"damaged, removed: {key}")
    print(f"{sum(each.entries for each in store.ls()):,} entries are sound")
    return FINDINGS if damaged else 0
