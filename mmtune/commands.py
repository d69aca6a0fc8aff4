"""What each command does. Each imports what it needs, so that `mmtune check` needs no torch."""

from __future__ import annotations

import argparse
import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from mmtune.data.rows import Split
from mmtune.errors import AdapterError, ConfigError, DataError

if TYPE_CHECKING:
    from rich.progress import Progress

ERROR = 2  # exit code of a command that could not do all of its work
FINDINGS = 1  # exit code of a check that found something, an export that isn't the same, a gate


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
    suite, recipe = f"{name}.yaml", target / "recipe.yaml"
    if (resource("eval") / suite).is_file() and recipe.is_file():
        shutil.copyfile(resource("eval", suite), target / "suite.yaml")
        text = recipe.read_text(encoding="utf-8")
        own = text.replace(f"\nsuite: {name}\n", "\nsuite: suite.yaml\n")
        recipe.write_text(own, encoding="utf-8")
    for path in sorted(p for p in target.rglob("*") if p.is_file()):
        print(path)
    print(f"\nmmtune train {target / 'recipe.yaml'}")
    return 0


def train(options: argparse.Namespace) -> int:
    from rich.console import Console

    from mmtune import pipeline

    # Before the slow imports, so that a typo is told at once.
    config = pipeline.load_recipe(options.recipe, options.settings)
    if options.show:
        print(f"settings of {options.recipe}, as they would be:\n\n{config.dump()}", end="")
        return 0
    from accelerate import PartialState

    from mmtune.console import measures_table, output, plain, quiet_libraries
    from mmtune.progress import RichReporter

    quiet_libraries()
    with RichReporter(Console(stderr=True)) as reporter:
        result = pipeline.train(config, reporter)
    if not PartialState().is_main_process:
        return 0
    console = output()
    plain(console, result.comparison.headline)
    console.print(measures_table(result.comparison.measures))
    plain(console, f"adapter  {result.folder / 'adapter'}")
    plain(console, f"report   {result.folder / 'report.html'}")
    for line in result.verdict.lines() if result.verdict is not None else ():
        plain(console, line)
    return 0


def check(options: argparse.Namespace) -> int:
    from mmtune.data import check as data
    from mmtune.data.manifest import guess_modality
    from mmtune.modality import find_modality

    source: Path = options.path
    if not source.exists():
        raise ConfigError(f"no such file or folder: {source}", "give a manifest.jsonl or a folder")
    given = options.modality
    modality = find_modality(given) if given else guess_modality(source)
    settings = None
    if options.resolution is not None:
        if "resolution" not in modality.options.model_fields:
            raise ConfigError(f"{modality.name} has no resolution", "leave out --resolution")
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
    print("\n".join(data.describe(dataset, most)))
    return FINDINGS if bad else 0


def _opened() -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def import_(options: argparse.Namespace) -> int:
    from mmtune.modality import REGISTRY, find_modality

    source: Path = options.source
    if not source.exists():
        raise ConfigError(f"no such file or folder: {source}", "name the data to import")
    if options.modality:
        fitting = [find_modality(options.modality)]
    else:
        known = [find_modality(name) for name in REGISTRY]
        fitting = [m for m in known if m.recognise(source, options.format)]
    if len(fitting) != 1:
        found = " or ".join(m.name for m in fitting) or "in no layout that is known"
        if options.format and not fitting:
            found = f"to be read as {options.format!r}, which is no layout that is known"
        raise ConfigError(
            f"{source} is {found}",
            f"say --modality {'|'.join(REGISTRY)}, or another --format; "
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


def caption(options: argparse.Namespace) -> int:
    import sys

    from mmtune.data.check import printable
    from mmtune.image import caption as image

    if options.prompt is not None and options.model is None:
        raise ConfigError("--prompt is for a model", "name one: --model, or leave out --prompt")
    captioner: image.Captioner = image.by_name
    if options.model is not None:
        from mmtune.console import quiet_libraries

        quiet_libraries()
        captioner = image.ModelCaptioner(options.model, options.prompt)
    counts: Counter[str] = Counter()
    for each in image.propose(options.folder, captioner, write=not options.dry_run):
        counts[each.outcome] += 1
        if each.outcome == "new":
            print(printable(f"{each.file}: {each.caption}"), flush=True)
        elif each.outcome == "nothing":
            print(printable(f"{each.image}: nothing to say"), flush=True)
        elif each.outcome == "failed":
            print(f"error: {each.caption}", file=sys.stderr, flush=True)
    done = "would be written" if options.dry_run else "written"
    print(
        f"{counts['new']} {done}, {counts['kept']} had one already, {counts['nothing']} without"
        + (f", {counts['failed']} can't be read" if counts["failed"] else "")
    )
    if counts["new"]:
        print(f"next: read them, and mmtune check {options.folder}")
    return ERROR if counts["failed"] else 0


def evaluate(options: argparse.Namespace) -> int:
    from mmtune import pipeline
    from mmtune.console import measures_table, output, plain, quiet_libraries
    from mmtune.evaluate.verdict import read_verdict

    run: Path = options.run
    if run.name in {"", ".."}:  # `mmtune evaluate .`
        run = run.resolve()
    settings = run / "config.yaml"
    if not settings.is_file():
        raise ConfigError(f"{options.run} is no run: it holds no config.yaml", "give runs/NAME")
    # It may have been moved: where it lies wins over what it was told.
    config = pipeline.load_recipe(str(settings)).model_copy(
        update={"out": run.parent, "name": run.name}
    )
    quiet_libraries()
    comparison = pipeline.evaluate(config, options.suite, options.fresh)
    verdict = read_verdict(config.folder)
    console = output()
    plain(console, comparison.headline)
    console.print(measures_table(comparison.measures))
    plain(console, f"report   {options.run / 'report.html'}")
    for line in verdict.lines() if verdict is not None else ():
        plain(console, line)
    if options.gate and verdict is None:
        raise ConfigError(f"{options.run} has no suite", "name one: --suite NAME")
    return FINDINGS if options.gate and verdict is not None and verdict.open else 0


def _model(options: argparse.Namespace, modality: str) -> tuple[str, Path | None, dict[str, Any]]:
    """Base, adapter (None: the base alone) and the settings that it was trained with."""
    if options.adapter is None:
        if options.base is None:
            raise ConfigError("no model is named", "give --adapter runs/NAME, or --base BASE")
        return options.base, None, {}
    from mmtune.adapters.card import adapter_folder, read_card

    folder = adapter_folder(options.adapter)
    card = read_card(folder)
    if card.modality != modality:
        raise AdapterError(
            f"{folder} is an adapter for {card.modality}, not {modality}",
            "`mmtune transcribe` takes speech adapters, `mmtune generate` image adapters",
        )
    return options.base or card.base, folder, card.settings.get("task") or {}


def transcribe(options: argparse.Namespace) -> int:
    import sys

    base, adapter, _ = _model(options, "speech")
    inputs = _recordings(options.files)
    out: Path | None = options.out
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file", "name a folder: --out DIR")
    names = [name.strip() for name in (options.speakers or "").split(",") if name.strip()]
    from mmtune.console import quiet_libraries
    from mmtune.speech import predictor as models
    from mmtune.speech import transcribe as speech
    from mmtune.speech.retrieve import TermIndex, read_list
    from mmtune.speech.transcript import TIMED, WRITERS

    terms = None
    if options.terms is not None:
        listed = read_list(options.terms)
        terms = TermIndex(listed.terms, listed.spoken)
    quiet_libraries()
    predictor = models.open_predictor(base, adapter, language=options.language, beams=options.beams)
    write, failed = WRITERS[options.format], False
    for path, target in inputs.items():
        try:
            found = speech.transcribe(
                path,
                predictor,
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
            file = out / f"{target}.{options.format}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            print(file, flush=True)
        elif options.format == "json":
            import json

            print(json.dumps({"file": str(path)})[:-1] + ", " + text[1:], end="", flush=True)
        else:
            name = f"{path}: " if len(inputs) > 1 and options.format == "txt" else ""
            print(name + text, end="", flush=True)
    return ERROR if failed else 0


def _recordings(paths: Sequence[Path]) -> dict[Path, str]:
    """The files to transcribe, and the name (without suffix) of what is written for each.

    Raises:
        ConfigError: one is missing, or a folder holds no recording.
    """
    from mmtune.data.manifest import scan_files
    from mmtune.speech.check import SPEECH_SUFFIXES

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
        unique = name if counts[name] == 1 else path.name
        number = 1
        while unique in taken:
            number += 1
            unique = f"{path.name}-{number}"
        taken.add(unique)
        found[path] = unique
    return found


def generate(options: argparse.Namespace) -> int:
    adapters: dict[Path, float] = {}
    settings: dict[str, Any] = {}
    base = options.base
    for text in options.adapter or [None]:
        path, weight = _weighted(text)
        one = argparse.Namespace(adapter=path, base=options.base)
        found, folder, trained_with = _model(one, "image")
        if folder is None:
            base = found
            continue
        if folder in adapters:
            raise ConfigError(f"--adapter {path} is given twice", "give it once, with its =WEIGHT")
        if base is not None and found != base:
            raise AdapterError(
                f"{folder} is for {found}, and the adapter before it for {base}",
                "take adapters of one base, or say which to use: --base BASE",
            )
        adapters[folder], base = weight, found
        settings = settings or trained_with
    given = {name: getattr(options, name) for name in ("steps", "guidance")}
    chosen = {name: settings[name] for name in given if name in settings}
    chosen |= {name: value for name, value in given.items() if value is not None}
    if chosen.get("guidance", 1) < 1:
        raise ConfigError(f"--guidance {options.guidance:g} is below 1", "1 is off")
    if options.seeds and options.count > 1:
        raise ConfigError("--seeds and --count are both given", "--count N counts from --seed")
    from mmtune.console import quiet_libraries
    from mmtune.image import generate as image

    quiet_libraries()
    paths = image.generate(
        options.prompt,
        options.out,
        base=base,
        adapter=adapters,
        weight=options.scale,
        seeds=options.seeds or range(options.seed, options.seed + options.count),
        grid=options.grid,
        **chosen,
    )
    for path in paths:
        print(path)
    return 0


def _weighted(text: str | None) -> tuple[Path | None, float]:
    """An adapter's path and its weight, of `DIR` or `DIR=WEIGHT`."""
    if text is None:
        return None, 1.0
    path, equals, weight = text.rpartition("=")
    if equals and path and not Path(text).exists():
        try:
            return Path(path), float(weight)
        except ValueError:
            pass
    return Path(text), 1.0


def export(options: argparse.Namespace) -> int:
    import sys

    from mmtune.adapters import export as adapters
    from mmtune.console import output, plain_table, quiet_libraries

    if options.check is not None and not options.check.exists():
        raise ConfigError(f"no such file or folder: {options.check}", "give a manifest.jsonl")
    quiet_libraries()
    done = adapters.export(
        options.run,
        options.format,
        options.out,
        base=options.base,
        scale=options.scale,
        precision=options.precision,
        check=options.check,
        accept=options.accept_licence,
    )
    if options.json:
        import dataclasses
        import json

        print(json.dumps(dataclasses.asdict(done) | {"path": str(done.path)}, indent=2))
        return FINDINGS if done.failed else 0
    print(done.path)
    if done.table:
        output().print(plain_table(done.table))
    proof = ", ".join(f"{name} {value}" for name, value in done.proof.items())
    if proof and not done.failed:
        print(f"proved: {proof}")
    for note in done.notes:
        print(f"note: {note}")
    if done.failed:
        print(f"failed: {done.failed}", file=sys.stderr)
        print(f"  cure: don't ship it; it lies in {done.path} to be looked at", file=sys.stderr)
        return FINDINGS
    return 0


def cache(options: argparse.Namespace) -> int:
    import time

    from mmtune.data.cache import PrefixCache

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
