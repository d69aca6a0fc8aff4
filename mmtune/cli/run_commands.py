"""Commands: recipes, init, train, evaluate, report, verify, repair."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.errors import FINDINGS, ConfigError, did_you_mean, nearest
from mmtune.system.arguments import Parser, add_base_config
from mmtune.system.output import say

if TYPE_CHECKING:
    from mmtune.config import RunConfig

TRAIN_HELP = """\
`mmtune train RECIPE --help` explains the settings of a recipe. The ones given most often:
  --data PATH      what to train on: a manifest.jsonl, or a folder of files
  --base MODEL     base model: starter:NAME, a folder, a Hugging Face id; for images also a file
  --name NAME      folder of the run below runs/ (default: the recipe's name)
  --epochs N       passes over the data; the full name works too: --train.epochs N
  --lr X           learning rate
  --rank N         size of the adapter
  --init ADAPTER   start from an adapter: a run, a folder, or a file of another program
  --print-config   print all settings as YAML, and do not train

examples:
  mmtune train terminology --terms terms.txt --base starter:whisper-base
  mmtune train dialect --data ./recordings --epochs 5 --targets q_proj,v_proj
  mmtune train dialect --lr 1e-3 --print-config > mine.yaml
  mmtune train mine.yaml

Names from transformers, PEFT, diffusers and kohya (learning_rate, network_dim ...) are understood.
Repeating a command resumes its run.
"""
EVALUATE_HELP = """\
Settings of the comparison can be changed too, for this and later evaluations of the run:
  speech: --retention PATH --retention_rows N --probes N --robustness N ...
  images: --clip_model MODEL --image_filter FILTER --copy_captions N --copy_seeds N
docs/settings.md marks them with "evaluate".
With --data or --against any setting can be changed, for these results alone:
  speech: --terms FILE --language de ...
  images: --task.steps N --seeds N ...
"""
TAKES_SETTINGS = "evaluate"  # the command that takes the settings of a run as options
TRAIN_FLAGS = {"-h": "help", "--help": "help", "--print-config": "settings"}


def recipes_arguments(parser: Parser) -> None:
    pass


def recipes(options: argparse.Namespace) -> int:
    from mmtune.config import read_yaml
    from mmtune.system.resources import recipes as names
    from mmtune.system.resources import resource

    for name in names():
        values = read_yaml(resource("recipes", name) / "recipe.yaml")
        page = resource("recipes", name) / "README.md"
        say(f"{name:<16} {values.get('modality', ''):<8} {_first_sentence(page)}")
    return 0


def _first_sentence(page: Path) -> str:
    if not page.exists():
        return ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            return line.strip().split(". ")[0].rstrip(".")
    return ""


def init_arguments(parser: Parser) -> None:
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help="new folder for the copy (default: ./RECIPE)"
    )


def init(options: argparse.Namespace) -> int:
    from mmtune.system.files import folder_aside
    from mmtune.system.resources import recipes as names

    name: str = options.recipe
    if name not in names():
        raise ConfigError(f"no recipe {name!r}", did_you_mean(name, names()))
    target: Path = options.to or Path(name)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} exists already", "choose another folder: --to DIR")
    # An empty folder that exists may be the current one, which can't be replaced.
    with nullcontext(target) if target.exists() else folder_aside(target) as folder:
        _copy_recipe(name, folder)
    for path in sorted(p for p in target.rglob("*") if p.is_file()):
        say(path)
    say(f"\nmmtune train {target / 'recipe.yaml'}")
    return 0


def _copy_recipe(name: str, folder: Path) -> None:
    from mmtune.system.files import copy_file, write_text
    from mmtune.system.resources import resource

    source = resource("recipes", name)
    for path in sorted(source.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            place = folder / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            copy_file(path, place)
    suite, recipe = f"{name}.yaml", folder / "recipe.yaml"
    if (resource("eval") / suite).is_file() and recipe.is_file():
        copy_file(resource("eval", suite), folder / "suite.yaml")
        text = recipe.read_text(encoding="utf-8")
        own = text.replace(f"\nsuite: {name}\n", "\nsuite: suite.yaml\n")
        write_text(recipe, own)


def train_arguments(parser: Parser) -> None:
    """Add the arguments of `mmtune train`; the settings depend on the recipe."""
    parser.epilog = TRAIN_HELP
    parser.add_argument("recipe", metavar="RECIPE|FILE.yaml")
    parser.add_argument("settings", nargs="*", metavar="--key value")


def train(options: argparse.Namespace) -> int:
    """Run `mmtune train`: train an adapter, and compare it with its base."""
    from mmtune.runs.recipes import load_recipe

    # Before the slow imports, so that a typo is reported at once.
    config = load_recipe(options.recipe, options.settings)
    if options.show == "settings":
        say(config.dump(), end="")
        return 0
    if options.show == "help":
        say(_settings_help(options.recipe, config))
        return 0
    from mmtune.cli.console import show
    from mmtune.runs import public_functions as public
    from mmtune.system.processes import this_process

    result = public.train(config, progress=True)
    if this_process().is_main_process:
        show(result.shown())
    return 0


def _settings_help(recipe: str, config: RunConfig) -> str:
    import shutil
    from functools import reduce

    from mmtune.config import RunConfig
    from mmtune.settings.declare import sections_of
    from mmtune.settings.explain import help_of

    sections = [*sections_of(RunConfig), *sections_of(type(config.task), "task.")]
    width = min(100, max(60, shutil.get_terminal_size().columns))
    settings = help_of(sections, lambda name: reduce(getattr, name.split("."), config), width)
    return f"""\
usage: mmtune train {recipe} [--SETTING VALUE ...] [--print-config]

Train an adapter and measure it. Each setting is shown with the value that it has now.

{settings}

Full names work too (--train.lr 1e-3). A list is written as a,b; null means no value.
--print-config prints all settings as YAML, and does not train.
docs/settings.md has the reasons for the defaults."""


def evaluate_arguments(parser: Parser) -> None:
    parser.add_argument(
        "run",
        type=Path,
        metavar="RUN|ADAPTER",
        help="a run folder, an adapter folder, an adapter of another program (needs --base), or a "
        "folder of earlier results",
    )
    parser.add_argument(
        "--suite", metavar="NAME|FILE", help="suite of gates to judge by (default: the run's)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="measure on other data: a manifest or folder with references, or held-out calls, each "
        "transcribed from beginning to end (default: the run's own test rows)",
    )
    parser.add_argument(
        "--base", metavar="MODEL", help="base model (default: the one that the adapter names)"
    )
    add_base_config(parser)
    parser.add_argument(
        "--against",
        type=Path,
        metavar="RUN|ADAPTER",
        help="compare with another adapter on the same rows, in place of the base, and write a "
        "page of both; for images, of the same base",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the results (default: the run folder, evaluations/ in it, or a folder "
        "beside the adapter)",
    )
    parser.add_argument(
        "--speakers",
        metavar="A=0,B=1",
        help="channels of the speakers of --data, such as agent=0,customer=1",
    )
    parser.add_argument(
        "--gate",
        action="store_true",
        help="tell the verdict by the exit code: 0 ship, 1 keep the base or no adapter "
        "needed, 3 not known yet, 4 ship with conditions",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="ignore stored answers and run the models again"
    )
    parser.add_argument(
        "--redacted",
        action="store_true",
        help="also write report-redacted.html, which has figures and no content of the data",
    )
    parser.epilog = EVALUATE_HELP


def evaluate(options: argparse.Namespace) -> int:
    from mmtune.cli.console import show
    from mmtune.runs import public_functions as public
    from mmtune.runs.elsewhere import Against
    from mmtune.system.processes import this_process

    if options.against is not None:
        _refuse_with_against(options, "suite", "speakers", "gate")
    elif options.gate and not (options.data or options.out):
        from mmtune.runs.other_data import read_evaluation

        earlier = read_evaluation(options.run)
        if earlier is not None and earlier.against is not None:
            raise ConfigError(
                f"--gate needs a verdict, but {options.run} compares two adapters",
                "leave --gate out, or measure each adapter by itself",
            )
    found = public.evaluate(
        options.run,
        options.suite,
        options.fresh,
        data=options.data,
        speakers=options.speakers,
        base=options.base,
        against=options.against,
        out=options.out,
        settings=options.settings,
    )
    if not this_process().is_main_process:
        return 0
    show(found.shown())
    if isinstance(found, Against):  # also the results of an earlier --against
        if options.redacted:
            say(f"redacted {public.report(found.folder, redacted=True)}")
        return 0
    if options.redacted:
        say(f"redacted {public.report(found.folder, redacted=True)}")
    verdict = found.verdict
    if options.gate and verdict is None:
        raise ConfigError(
            f"--gate needs a suite, but {options.run} has none", "choose one: --suite NAME"
        )
    return verdict.exit_code if options.gate and verdict is not None else 0


def _refuse_with_against(options: argparse.Namespace, *names: str) -> None:
    for name in names:
        if getattr(options, name):
            raise ConfigError(
                f"--{name} has no effect with --against, which compares two adapters",
                "leave it out, or measure each adapter by itself",
            )


def report_arguments(parser: Parser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR")
    parser.add_argument(
        "--redacted",
        action="store_true",
        help="show figures only: no recording, transcript, caption, image, or name",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.html",
        help="the page; required for several runs (default for one: RUN_DIR/report.html)",
    )


def report(options: argparse.Namespace) -> int:
    from mmtune.runs import public_functions as public

    say(public.report(options.runs, options.out, redacted=options.redacted))
    return 0


def verify_arguments(parser: Parser) -> None:
    parser.add_argument(
        "run",
        type=Path,
        metavar="RUN_DIR",
        help="run folder, adapter folder, route folder or adapter of another program",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def verify(options: argparse.Namespace) -> int:
    """Run `mmtune verify`: find damaged files of a run."""
    from mmtune.cli.console import show
    from mmtune.runs import public_functions as public

    found = public.verify(options.run)
    if options.json:
        import json

        say(json.dumps(found.to_dict()))
    else:
        show(found.shown())
    return FINDINGS if found.damaged else 0


def repair_arguments(parser: Parser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN_DIR")


def repair(options: argparse.Namespace) -> int:
    """Run `mmtune repair`: restore what can be restored of a damaged run."""
    from mmtune.cli.console import show
    from mmtune.runs import public_functions as public

    found = public.repair(options.run)
    show(found.shown())
    return FINDINGS if found.left else 0


def split_settings(arguments: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The recipe and the settings of `mmtune train`'s arguments.

    `--key value` and `--key=value` may stand before and after the recipe; a value may begin with
    one dash (-1). `TRAIN_FLAGS` are left out.

    Raises:
        ConfigError: no recipe or two, a setting without a value or given twice.
    """
    recipes, settings = take_settings([word for word in arguments if word not in TRAIN_FLAGS])
    if len(recipes) != 1:
        found = ", ".join(recipes) or "none"
        raise ConfigError(
            f"mmtune train needs exactly one recipe, but got: {found}",
            "write mmtune train RECIPE --key value …; `mmtune recipes` lists the recipes",
        )
    return recipes[0], settings


def take_settings(
    arguments: Sequence[str], options: Collection[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Take the settings, `--key value` or `--key=value`, out of a command's arguments.

    Args:
        arguments: of the command line.
        options: the command's own options, which stay.

    Raises:
        ConfigError: a setting has no value or is given twice.
    """
    left: list[str] = []
    settings: dict[str, str] = {}
    rest = iter(arguments)
    for word in rest:
        if not word.startswith("--") or word.partition("=")[0] in options:
            left.append(word)
            continue
        key, equals, value = word[2:].partition("=")
        if not equals:
            value = next(rest, "--")
            if value.startswith("--"):
                near = nearest(key, [option.removeprefix("--") for option in options], 1)
                meant = f"; did you mean --{near[0]}?" if near else ""
                raise ConfigError(f"--{key} has no value", f"write --{key} VALUE{meant}")
        if key in settings:
            raise ConfigError(f"--{key} is given twice", "give it once")
        settings[key] = value
    return left, settings
