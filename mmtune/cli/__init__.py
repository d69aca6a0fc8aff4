"""The command line. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import argparse
import importlib
import keyword
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from mmtune.errors import ERROR, INTERRUPTED, ConfigError, MmtuneError, did_you_mean
from mmtune.system.arguments import Parser
from mmtune.system.memory import guarded
from mmtune.system.version import VERSION

# Where each command's function and its `…_arguments` stand, and what the overview says of it.
# A module is imported when its command is used, so that `mmtune --help` stays instant.
COMMANDS: dict[str, tuple[str, str]] = {
    "recipes": ("mmtune.cli.run_commands", "list the recipes"),
    "init": ("mmtune.cli.run_commands", "copy a recipe, to change it"),
    "import": (
        "mmtune.cli.data_commands",
        "write data of another layout as a folder to check and train on",
    ),
    "caption": (
        "mmtune.image.command",
        "propose captions for images that have none; overwrites nothing",
    ),
    "check": (
        "mmtune.cli.data_commands",
        "look for what training can't use; exit code 1 if there is any",
    ),
    "train": ("mmtune.cli.run_commands", "train an adapter and measure it"),
    "evaluate": ("mmtune.cli.run_commands", "measure a finished run again, and write its report"),
    "report": (
        "mmtune.cli.run_commands",
        "write the page of finished runs again, from what they have measured",
    ),
    "review": (
        "mmtune.cli.run_commands",
        "write a page on which people compare base and adapter blindly, or read their answers",
    ),
    "transcribe": ("mmtune.speech.command", "turn recordings of any length into text or subtitles"),
    "generate": ("mmtune.image.command", "make images in the adapter's style"),
    "compose": (
        "mmtune.cli.adapter_commands",
        "merge adapters of one base into one, or gate them by rows' labels",
    ),
    "export": (
        "mmtune.cli.adapter_commands",
        "write an adapter for other programs, and prove that it is the same",
    ),
    "cache": ("mmtune.cli.data_commands", "the stored frozen prefixes"),
}

EXAMPLES = """\
examples:
  mmtune recipes                                          what can be trained
  mmtune import ./kaldi/data --to corpus                  data of another layout
  mmtune check ./recordings                               look at the data first
  mmtune train terminology --terms terms.txt --base starter:whisper-base
  mmtune train brand_style --data ./our-brand --base stabilityai/stable-diffusion-xl-base-1.0
  mmtune transcribe --adapter runs/terminology call.wav
  mmtune generate --adapter runs/brand_style --prompt "a red apple"
  mmtune compose runs/brand_style runs/poster=0.5 --out both
  mmtune export runs/terminology --format ctranslate2 --out model --check calls.jsonl
  mmtune export runs/brand_style --format kohya --out brand.safetensors
"""

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    0: done. 1: `check` or `cache verify` found something, an export isn't what was measured, or
    `evaluate --gate` has an open gate.
    2: an error that the user can mend. 130 (143): stopped by Ctrl-C (SIGTERM).
    """
    from mmtune.train.interrupt import Interrupted

    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        # What knows more of its settings has a guard of its own.
        with guarded(" ".join(["mmtune", *arguments[:1]]), list):
            return _run(arguments)
    except MmtuneError as error:
        print(f"error: {error}", file=sys.stderr)
        return ERROR
    except Interrupted as stop:
        import shlex

        print(f"{stop}\n  resume: {shlex.join(['mmtune', *arguments])}", file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        again = "; the same command resumes" if arguments[:1] == ["train"] else ""
        print(f"stopped{again}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head) has gone; without this Python complains again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: list[str]) -> int:
    if not arguments:
        _overview().print_help()
        return 0
    command, options = parse(arguments)
    return command(options)


def parse(arguments: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    """The function that a command line of at least one word runs, and its options.

    Raises:
        ConfigError: an unknown command or option, or a wrong value.
        SystemExit: --help or --version, which are printed.
    """
    name = arguments[0]
    if name.startswith("-"):
        _overview().parse_args(arguments)
    if name not in COMMANDS:
        raise ConfigError(f"unknown command {name!r}", did_you_mean(name, COMMANDS))
    module, text = COMMANDS[name]
    found = importlib.import_module(module)
    function = f"{name}_" if keyword.iskeyword(name) else name
    command: Command = getattr(found, function)
    rest = list(arguments[1:])
    if name == "train" and (words := [w for w in rest if w not in {"-h", "--help"}]):
        # Its settings are the recipe's, which argparse doesn't know.
        recipe, settings = found.split_settings(words)
        return command, argparse.Namespace(recipe=recipe, settings=settings, show=words != rest)
    return command, _parser_of(found, name, function, text).parse_args(rest)


def _parser_of(module: ModuleType, name: str, function: str, text: str) -> Parser:
    parser = Parser(
        prog=f"mmtune {name}",
        description=text[0].upper() + text[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    getattr(module, f"{function}_arguments")(parser)
    return parser


def _overview() -> Parser:
    """The parser of `mmtune --help`, which lists the commands and loads none."""
    parser = Parser(
        prog="mmtune",
        description="Fine-tune Whisper and diffusion models with LoRA, and measure the result.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mmtune {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text)
    return parser
