"""The command line's entry point; each command imports heavy libraries only when it runs."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import keyword
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from mmtune.cli.spaced_path import quoted
from mmtune.errors import ERROR, INTERRUPTED, ConfigError, MmtuneError, did_you_mean
from mmtune.system.arguments import Parser, apply_base_config
from mmtune.system.memory import guarded
from mmtune.system.output import say
from mmtune.system.storage_errors import translated
from mmtune.system.version import VERSION

# For each command: the module that holds its function and its `…_arguments`, and a description.
# A module is imported when its command is used, so that `mmtune --help` starts at once.
COMMANDS: dict[str, tuple[str, str]] = {
    "recipes": ("mmtune.cli.run_commands", "list the recipes"),
    "init": ("mmtune.cli.run_commands", "copy a recipe into a new folder, to change it there"),
    "import": (
        "mmtune.cli.data_commands",
        "convert data of another format into a folder for training",
    ),
    "caption": (
        "mmtune.image.command",
        "propose captions for images without one; existing captions are kept",
    ),
    "check": (
        "mmtune.cli.data_commands",
        "find rows that training can't use; exit with 1 if there are any",
    ),
    "redact": (
        "mmtune.cli.privacy_commands",
        "write a copy of a dataset whose texts hold no card numbers, phones, names …",
    ),
    "data": (
        "mmtune.cli.lineage_commands",
        "list, show, compare and verify the versions of data",
    ),
    "train": ("mmtune.cli.run_commands", "train an adapter, and compare it with its base"),
    "evaluate": (
        "mmtune.cli.run_commands",
        "measure a run or any adapter, on its own or on other data",
    ),
    "runs": (
        "mmtune.cli.list_commands",
        "list runs with the settings that differ between them, main figure and verdict",
    ),
    "report": (
        "mmtune.cli.run_commands",
        "write the report of finished runs again, from stored measurements",
    ),
    "verify": (
        "mmtune.cli.run_commands",
        "find damaged files of a run; exit with 1 if there are any",
    ),
    "repair": (
        "mmtune.cli.run_commands",
        "restore a damaged run: its adapter from its checkpoint; remove damaged answers",
    ),
    "reproduce": (
        "mmtune.cli.lineage_commands",
        "train a run again, and compare weights and figures; exit with 1 if they differ",
    ),
    "review": (
        "mmtune.cli.review_commands",
        "write a page for a blind comparison of base and adapter, or read people's answers",
    ),
    "transcribe": ("mmtune.speech.command", "turn recordings of any length into text or subtitles"),
    "generate": ("mmtune.image.command", "generate images in the adapter's style"),
    "score": (
        "mmtune.speech.command",
        "measure the transcripts of any system against references: WER with its interval",
    ),
    "compose": (
        "mmtune.cli.adapter_commands",
        "merge adapters of one base into one, or route rows to adapters by label",
    ),
    "export": (
        "mmtune.cli.adapter_commands",
        "write an adapter for other programs, and check that it gives the same results",
    ),
    "push": (
        "mmtune.cli.adapter_commands",
        "upload an adapter with its model card to the Hugging Face hub, without any of the data",
    ),
    "cache": ("mmtune.cli.data_commands", "manage the cache of precomputed features"),
}

EXAMPLES = """\
examples:
  mmtune recipes                                          list what can be trained
  mmtune import ./kaldi/data --to corpus                  convert data of another format
  mmtune check ./recordings                               check the data before training
  mmtune train terminology --terms terms.txt --base starter:whisper-base
  mmtune train brand_style --data ./our-brand --base stabilityai/stable-diffusion-xl-base-1.0
  mmtune transcribe --adapter runs/terminology call.wav
  mmtune score references.jsonl transcripts.csv           measure any system's transcripts
  mmtune generate --adapter runs/brand_style --prompt "a red apple"
  mmtune compose runs/brand_style runs/poster=0.5 --out both
  mmtune export runs/terminology --format ctranslate2 --out model --check calls.jsonl
  mmtune export runs/brand_style --format kohya --out brand.safetensors
  mmtune push runs/brand_style my-team/brand-style --dry-run
"""

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Returns:
        0: success. 1: `check`, `verify`, `data verify` or `cache verify` found problems, `repair`
        left some, `reproduce` gave other weights or figures, an export differs from its adapter, or
        `evaluate --gate` says to keep the base or that no adapter is needed. 2: an error that the
        user can solve. 3, 4: `evaluate --gate` says "not known yet", or "ship with conditions".
        70: a fault of mmtune, whose traceback is in a file. 128 + the signal's number: stopped by a
        signal (130: Ctrl-C, 143: SIGTERM, 129: SIGHUP, 138: SIGUSR1).
    """
    from mmtune.training.interrupt import Interrupted

    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        # Code that knows which settings to lower has a guard of its own inside this one.
        _escape_surrogates()
        with translated(), guarded(" ".join(["mmtune", *arguments[:1]]), list):
            return _run(arguments)
    except MmtuneError as error:
        say(f"error: {error}", error=True)
        if whole := quoted(arguments):
            say(f"  a path with a space needs quotation marks: {whole}", error=True)
        return ERROR
    except Interrupted as stop:
        import shlex

        say(f"{stop}\n  resume: {shlex.join(['mmtune', *arguments])}", error=True)
        return stop.exit_code
    except KeyboardInterrupt:
        again = "; repeat the command to resume" if arguments[:1] == ["train"] else ""
        say(f"stopped{again}", error=True)
        return INTERRUPTED
    except BrokenPipeError:
        _give_up_output()  # the program that reads the output (`head`) has ended
        return 0
    except Exception as error:  # a fault of mmtune
        from mmtune.cli.fault import report_fault

        return report_fault(error, arguments)


def _run(arguments: list[str]) -> int:
    try:
        if not arguments:
            _overview().print_help()
            code = 0
        else:
            command, options = parse(arguments)
            apply_base_config(options)
            code = command(options)
    except SystemExit:
        _flush()  # --help was printed
        raise
    except (OSError, MmtuneError) as error:
        # A public function has translated what printing inside it raised.
        cause = error.__cause__ if isinstance(error, MmtuneError) else error
        unnamed = isinstance(cause, OSError) and cause.filename is None
        if unnamed and not isinstance(cause, BrokenPipeError):
            _flush("\n")  # if the output can't be written, this error names it
        raise
    _flush()
    return code


def _flush(end: str = "") -> None:
    """Write what is left of the output now, because at exit an error would be a traceback."""
    try:
        say(end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        _give_up_output()
        raise OSError(error.errno, error.strerror, "standard output") from None


def _give_up_output() -> None:
    """Send the rest of the output nowhere; otherwise Python reports its error again at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escape_surrogates() -> None:
    """Let the output escape what it can't encode: names of files that aren't UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def parse(arguments: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    """Parse a command line of at least one word.

    Returns:
        The function to run, and its options.

    Raises:
        ConfigError: the command or an option is unknown, or a value is wrong.
        SystemExit: --help or --version was printed.
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
    if name == "train" and set(rest) - {"-h", "--help"}:
        # The settings depend on the recipe, so argparse can't know them.
        recipe, settings = found.split_settings(rest)
        show = next((found.TRAIN_FLAGS[w] for w in rest if w in found.TRAIN_FLAGS), "")
        return command, argparse.Namespace(recipe=recipe, settings=settings, show=show)
    parser = _parser_of(found, name, function, text)
    if name != getattr(found, "TAKES_SETTINGS", ""):
        return command, parser.parse(rest)
    # The settings depend on the run.
    rest, given = found.take_settings(rest, parser.option_strings())
    return command, parser.parse(rest, argparse.Namespace(settings=given))


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
    """The parser of `mmtune --help`; it lists the commands without importing them."""
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
