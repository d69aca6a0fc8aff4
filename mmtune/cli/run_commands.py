"""Commands for runs: recipes, init, train, evaluate, report, review."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmtune.errors import FINDINGS, ConfigError, did_you_mean
from mmtune.system.arguments import Parser, positive

TRAIN_HELP = """\
every setting of the recipe's YAML file is an option, by its full or short name; print them with
`mmtune train RECIPE --help`. For example:
  --data PATH      manifest.jsonl, or a folder of recordings or images
  --base BASE      base model: starter:NAME, a folder, or a hub id
  --name NAME      name of the run folder in runs/ (default: the recipe's name)
  --epochs N       the same as --train.epochs N or --train.epochs=N
Repeat a command to resume its run.
"""


def recipes_arguments(parser: Parser) -> None:
    """Add the arguments of `mmtune recipes`: there are none."""


def recipes(options: argparse.Namespace) -> int:
    """Run `mmtune recipes`: list the recipes."""
    from mmtune.config import read_yaml
    from mmtune.system.resources import recipes as names
    from mmtune.system.resources import resource

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


def init_arguments(parser: Parser) -> None:
    """Add the arguments of `mmtune init`."""
    parser.add_argument(
        "recipe", metavar="RECIPE", help="name of a recipe; `mmtune recipes` lists them"
    )
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help="folder to create (default: ./RECIPE)"
    )


def init(options: argparse.Namespace) -> int:
    """Run `mmtune init`: copy a recipe."""
    import shutil

    from mmtune.system.resources import recipes as names
    from mmtune.system.resources import resource

    name: str = options.recipe
    if name not in names():
        raise ConfigError(f"no recipe {name!r}", did_you_mean(name, names()))
    target: Path = options.to or Path(name)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} exists already", "choose another folder: --to DIR")
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


def train_arguments(parser: Parser) -> None:
    """Add the arguments of `mmtune train`; the settings depend on the recipe."""
    parser.epilog = TRAIN_HELP
    parser.add_argument("recipe", metavar="RECIPE|FILE.yaml")
    parser.add_argument("settings", nargs="*", metavar="--key value")


def train(options: argparse.Namespace) -> int:
    """Run `mmtune train`: train an adapter, and compare it with its base."""
    from rich.console import Console

    from mmtune.runs import pipeline
    from mmtune.runs.recipes import load_recipe

    # Read before the slow imports, so that a typing error is reported at once.
    config = load_recipe(options.recipe, options.settings)
    if options.show:
        print(f"settings of {options.recipe}:\n\n{config.dump()}", end="")
        return 0
    from mmtune.cli.console import measures_table, output, plain
    from mmtune.cli.progress import RichReporter
    from mmtune.system.processes import this_process
    from mmtune.system.quiet import quiet_libraries

    quiet_libraries()
    with RichReporter(Console(stderr=True)) as reporter:
        result = pipeline.train(config, reporter)
    if not this_process().is_main_process:
        return 0
    console = output()
    plain(console, result.comparison.headline)
    console.print(measures_table(result.comparison.measures))
    plain(console, f"adapter  {result.folder / 'adapter'}")
    plain(console, f"report   {result.folder / 'report.html'}")
    for line in result.verdict.lines() if result.verdict is not None else ():
        plain(console, line)
    return 0


def evaluate_arguments(parser: Parser) -> None:
    """Add the arguments of `mmtune evaluate`."""
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="run folder: runs/NAME")
    parser.add_argument(
        "--suite", metavar="NAME|FILE", help="suite of gates to apply (default: the run's suite)"
    )
    parser.add_argument(
        "--gate",
        action="store_true",
        help="exit with 1 unless the adapter beats the base and every required gate passes",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="ignore stored answers and run the models again"
    )
    parser.add_argument(
        "--redacted",
        action="store_true",
        help="also write report-redacted.html, a report without any of the data",
    )


def evaluate(options: argparse.Namespace) -> int:
    """Run `mmtune evaluate`: measure a finished run again."""
    from mmtune.cli.console import measures_table, output, plain
    from mmtune.evaluate.verdict import read_verdict
    from mmtune.runs import pipeline
    from mmtune.runs.recipes import load_run
    from mmtune.system.processes import this_process
    from mmtune.system.quiet import quiet_libraries

    config = load_run(options.run)
    quiet_libraries()
    comparison = pipeline.evaluate(config, options.suite, options.fresh)
    if not this_process().is_main_process:
        return 0
    verdict = read_verdict(config.folder)
    console = output()
    plain(console, comparison.headline)
    console.print(measures_table(comparison.measures))
    plain(console, f"report   {options.run / 'report.html'}")
    if options.redacted:
        plain(console, f"redacted {pipeline.report([config.folder], redacted=True)}")
    for line in verdict.lines() if verdict is not None else ():
        plain(console, line)
    if options.gate and verdict is None:
        raise ConfigError(
            f"--gate needs a suite, but {options.run} has none", "choose one: --suite NAME"
        )
    return FINDINGS if options.gate and verdict is not None and verdict.open else 0


def report_arguments(parser: Parser) -> None:
    """Add the arguments of `mmtune report`."""
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN_DIR", help="run folders: runs/NAME …"
    )
    parser.add_argument(
        "--redacted",
        action="store_true",
        help="write figures only, without recordings, transcripts, captions, images and names of "
        "files or people",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.html",
        help="page to write (default for one run: RUN_DIR/report.html)",
    )


def report(options: argparse.Namespace) -> int:
    """Run `mmtune report`: write the report of finished runs again."""
    from mmtune.runs import pipeline

    runs = [run.resolve() if run.name in {"", ".."} else run for run in options.runs]
    for given, run in zip(options.runs, runs, strict=True):
        if not run.is_dir():
            raise ConfigError(f"no such run folder: {given}", "give a run folder: runs/NAME")
    print(pipeline.report(runs, options.out, redacted=options.redacted))
    return 0


def review_arguments(parser: Parser) -> None:
    """Add the arguments of `mmtune review`."""
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="run folder: runs/NAME")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.html",
        help="page to write (default: RUN_DIR/review/review.html)",
    )
    parser.add_argument("--items", type=positive, help="number of pairs to show (default: 40)")
    parser.add_argument(
        "--seed", type=int, help="random seed for the pairs' order and sides (default: 0)"
    )
    parser.add_argument(
        "--answers",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="read the answers.json files of one or more people, and write no page",
    )
    parser.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="review_key.json that belongs to --answers (default: found in the run folder)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def review(options: argparse.Namespace) -> int:
    """Run `mmtune review`: write a page for a blind comparison, or read its answers."""
    from mmtune.cli.console import output, plain, plain_table
    from mmtune.evaluate.comparison import COMPARISON_FILE
    from mmtune.pages import preference
    from mmtune.pages.review import write_review
    from mmtune.runs import pipeline
    from mmtune.runs.modalities import play

    if options.answers:
        given = [n for n in ("out", "items", "seed") if getattr(options, n) is not None]
        if given:
            raise ConfigError(
                f"--{given[0]} has no effect with --answers, which writes no page", "leave it out"
            )
        found = preference.read_review(options.run, options.answers, options.key)
        if (options.run / COMPARISON_FILE).is_file():
            pipeline.report([options.run])
        if options.json:
            print(found.model_dump_json(indent=2))
            return 0
        console = output()
        plain(console, found.headline)
        console.print(plain_table(found.table))
        plain(console, f"review   {options.run / preference.RESULT_FILE}")
        return 0
    if options.key is not None:
        raise ConfigError(
            "--key has no effect without --answers", "give --answers, or leave --key out"
        )
    page = write_review(
        options.run,
        options.out,
        items=40 if options.items is None else options.items,
        seed=options.seed or 0,
        play=play,
    )
    if options.json:
        import json

        print(json.dumps({"page": str(page.path), "key": str(page.key), "items": page.items}))
        return 0
    print(page.path)
    same = f"; {page.same} pairs with equal sides are left out" if page.same else ""
    print(f"{page.items} pairs{same}")
    print(f"don't show {page.key} to the reviewers: it tells which side is the adapter")
    print(f"next: mmtune review {options.run} --answers answers.json")
    return 0


def split_settings(arguments: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Split the arguments of `mmtune train` into the recipe and its settings.

    `--key value` and `--key=value` may come before or after the recipe. A value may begin with one
    dash (-1).

    Raises:
        ConfigError: there isn't exactly one recipe, or a setting has no value or is given twice.
    """
    recipes: list[str] = []
    settings: dict[str, str] = {}
    rest = iter(arguments)
    for word in rest:
        if not word.startswith("--"):
            recipes.append(word)
            continue
        key, equals, value = word[2:].partition("=")
        if not equals:
            value = next(rest, "--")
            if value.startswith("--"):
                raise ConfigError(f"--{key} has no value", f"write --{key} VALUE")
        if key in settings:
            raise ConfigError(f"--{key} is given twice", "give it once")
        settings[key] = value
    if len(recipes) != 1:
        found = ", ".join(recipes) or "none"
        raise ConfigError(
            f"mmtune train needs exactly one recipe, but got: {found}",
            "write mmtune train RECIPE --key value …; `mmtune recipes` lists the recipes",
        )
    return recipes[0], settings
