"""The command line. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import argparse
import difflib
import keyword
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import mmtune
from mmtune.errors import ERROR, INTERRUPTED, ConfigError, MmtuneError
from mmtune.system.memory import guarded

COMMANDS = (
    *("recipes", "init", "import", "caption", "check", "train", "evaluate"),
    *("report", "review", "transcribe", "generate", "compose", "export", "cache"),
)

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

TRAIN_HELP = """\
settings are those of the recipe's YAML (`mmtune train RECIPE --help` prints them), by their full
or short names:
  --data PATH      manifest.jsonl, or a folder of recordings or images
  --base BASE      starter:NAME, a folder, or a hub id
  --name NAME      the run's folder below runs/ (default: the recipe's name)
  --epochs N       the same as --train.epochs N or --train.epochs=N
Repeating a command resumes its run.
"""


class _Parser(argparse.ArgumentParser):
    """Errors are `ConfigError`s, printed as all others are."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, f"see `{self.prog} --help`")


def _parser() -> _Parser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="mmtune",
        description="Fine-tune Whisper and diffusion models with LoRA, and measure the result.",
        epilog=EXAMPLES,
        formatter_class=raw,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mmtune {mmtune.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def add(name: str, text: str, epilog: str = "") -> _Parser:
        return commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=epilog,
            formatter_class=raw,
            allow_abbrev=False,
        )

    add("recipes", "list the recipes")

    init = add("init", "copy a recipe, to change it")
    init.add_argument("recipe", metavar="RECIPE")
    init.add_argument("--to", type=Path, metavar="DIR", help="default: ./RECIPE")

    train = add("train", "train an adapter and measure it", TRAIN_HELP)
    train.add_argument("recipe", metavar="RECIPE|FILE.yaml")
    train.add_argument("settings", nargs="*", metavar="--key value")

    check = add("check", "look for what training can't use; exit code 1 if there is any")
    check.add_argument("path", type=Path, help="manifest.jsonl, or a folder of files")
    check.add_argument("--modality", help="speech or image (default: what the content is)")
    check.add_argument("--terms", type=Path, help="term list to compare the spelling with")
    check.add_argument("--base", help="what images are for: how much of a caption does it read?")
    check.add_argument(
        "--resolution", type=_positive, metavar="PIXELS", help="of images (default: the base's)"
    )
    check.add_argument("--json", action="store_true", help="print JSON")
    check.add_argument("--all", action="store_true", help="print every finding")

    bring = add("import", "write data of another layout as a folder to check and train on")
    bring.add_argument("source", type=Path, metavar="SOURCE", help="a file or folder")
    bring.add_argument("--to", type=Path, required=True, metavar="DIR", help="the new folder")
    bring.add_argument(
        "--format",
        help="kaldi, commonvoice, huggingface, audiofolder, table, subtitles or transcripts "
        "(default: by the content)",
    )
    bring.add_argument("--modality", help="speech or image (default: what the content is)")
    bring.add_argument("--language", help="code, such as en, of rows that name none")
    bring.add_argument("--channel", help="0, 1 … or mix, of recordings with several channels")
    bring.add_argument(
        "--align", action="store_true", help="cut long recordings by the words that --base hears"
    )
    bring.add_argument("--base", help="for --align: starter:NAME, a folder, or a hub id")
    bring.add_argument("--json", action="store_true", help="print JSON")
    bring.add_argument("--all", action="store_true", help="print everything that is left out")

    caption = add("caption", "propose captions for images that have none; overwrites nothing")
    caption.add_argument("folder", type=Path, metavar="FOLDER", help="with all folders in it")
    caption.add_argument(
        "--model",
        metavar="MODEL",
        help="a hub id or folder of an image-to-text model (default: words of the files' names)",
    )
    caption.add_argument("--prompt", help="for --model: what it is asked")
    caption.add_argument("--dry-run", action="store_true", help="write nothing, only print")

    evaluate = add("evaluate", "measure a finished run again, and write its report")
    evaluate.add_argument("run", type=Path, metavar="RUN_DIR")
    evaluate.add_argument("--suite", metavar="NAME|FILE", help="gates (default: the run's own)")
    evaluate.add_argument(
        "--gate", action="store_true", help="exit code 1 unless every must-gate passes and it helps"
    )
    evaluate.add_argument(
        "--fresh", action="store_true", help="ask the models again for answers that are stored"
    )

    evaluate.add_argument(
        "--redacted",
        action="store_true",
        help="also write report-redacted.html, which shows nothing of the data",
    )

    report = add("report", "write the page of finished runs again, from what they have measured")
    report.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR")
    report.add_argument(
        "--redacted",
        action="store_true",
        help="figures alone: no recording, transcript, caption, image, or name of a file or person",
    )
    report.add_argument(
        "--out", type=Path, metavar="FILE.html", help="default, of one run: RUN_DIR/report.html"
    )

    review = add(
        "review",
        "write a page on which people compare base and adapter blindly, or read their answers",
    )
    review.add_argument("run", type=Path, metavar="RUN_DIR")
    review.add_argument(
        "--out", type=Path, metavar="FILE.html", help="default: RUN_DIR/review/review.html"
    )
    review.add_argument("--items", type=_positive, help="pairs on the page (default: 40)")
    review.add_argument("--seed", type=int, help="of their order and sides (default: 0)")
    review.add_argument(
        "--answers", type=Path, nargs="+", metavar="FILE", help="answers.json of one or more people"
    )
    review.add_argument(
        "--key", type=Path, metavar="FILE", help="review_key.json (default: looked for)"
    )
    review.add_argument("--json", action="store_true", help="print JSON")

    transcribe = add("transcribe", "turn recordings of any length into text or subtitles")
    _model(transcribe)
    transcribe.add_argument("--language", help="code, such as en (default: the adapter's)")
    transcribe.add_argument("--prompt", help="earlier text, or words to expect")
    transcribe.add_argument(
        "--terms", type=Path, metavar="FILE", help="one a line, up to 100,000: how they are written"
    )
    transcribe.add_argument("--beams", type=_positive, default=1, help="1 is greedy (default)")
    transcribe.add_argument("--words", action="store_true", help="times of words, in json")
    transcribe.add_argument(
        "--channels",
        choices=("auto", "split", "mix"),
        default="auto",
        help="auto: those that differ, as in a call, are heard apart",
    )
    transcribe.add_argument("--speakers", metavar="A,B", help="names of channels heard apart")
    transcribe.add_argument("--format", choices=("txt", "json", "srt", "vtt"), default="txt")
    transcribe.add_argument(
        "--json", action="store_const", const="json", dest="format", help="same as --format json"
    )
    transcribe.add_argument("--out", type=Path, metavar="DIR", help="write a file for each input")
    transcribe.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE|DIR|MANIFEST",
        help="folders with all below them; rows of a manifest.jsonl with their labels",
    )

    generate = add("generate", "make images in the adapter's style")
    generate.add_argument(
        "--adapter",
        action="append",
        metavar="DIR[=WEIGHT]",
        help="a run's folder, its adapter/, or a gate; again for another adapter of the same base",
    )
    _base(generate)
    _label(generate)
    generate.add_argument("--prompt", action="append", help="may be given again")
    generate.add_argument(
        "--rows", type=Path, metavar="MANIFEST", help="captions as prompts, with their labels"
    )
    generate.add_argument("--seed", type=int, default=0, help="of the first image (default: 0)")
    generate.add_argument("--count", type=_positive, default=1, help="images (default: 1)")
    generate.add_argument("--seeds", type=_integers, metavar="A,B", help="these, one image each")
    generate.add_argument(
        "--scale", type=float, default=1.0, help="of all adapters; 0 is the base (default: 1)"
    )
    generate.add_argument("--steps", type=_positive, help="default: as in the adapter's training")
    generate.add_argument("--guidance", type=float, help="default: as in the adapter's training")
    generate.add_argument(
        "--sample-batch", type=_positive, default=16, help="images drawn at once (default: 16)"
    )
    generate.add_argument(
        "--quantize",
        choices=("none", "int8", "nf4"),
        default="none",
        help="hold the base's denoiser in fewer bits (default: none)",
    )
    generate.add_argument("--grid", action="store_true", help="also write grid.png, base above all")
    generate.add_argument(
        "--no-trigger", action="store_true", help="leave out the adapter's trigger phrase"
    )
    generate.add_argument("--out", type=Path, default=Path("images"), metavar="DIR")

    compose = add("compose", "merge adapters of one base into one, or gate them by rows' labels")
    compose.add_argument(
        "adapters", nargs="*", metavar="RUN|ADAPTER[=WEIGHT]", help="runs, or adapter/ folders"
    )
    compose.add_argument(
        "--method",
        help="cat (default; exact), svd, linear, ties, dare_linear, dare_ties or magnitude_prune",
    )
    compose.add_argument(
        "--density", type=float, help="share that ties, dare and prune keep (default: 0.5)"
    )
    compose.add_argument("--rank", type=_positive, help="of svd (default: the largest)")
    compose.add_argument("--seed", type=int, help="of what dare drops (default: 0)")
    compose.add_argument(
        "--gate", type=Path, metavar="FILE", help="YAML that names an adapter for each label"
    )
    compose.add_argument("--base", help="default: the adapters'")
    compose.add_argument(
        "--compare",
        type=Path,
        nargs="?",
        const=True,
        metavar="MANIFEST",
        help="measure each alone, all together and merged (default: on each run's own test items)",
    )
    compose.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    compose.add_argument("--json", action="store_true", help="print JSON")

    export = add("export", "write an adapter for other programs, and prove that it is the same")
    export.add_argument("run", type=Path, metavar="RUN|ADAPTER", help="a run's folder, or adapter/")
    export.add_argument(
        "--format",
        required=True,
        help="of speech: transformers, ctranslate2 (faster-whisper) or ggml (whisper.cpp); "
        "of images: diffusers, kohya (ComfyUI, A1111) or fused",
    )
    export.add_argument(
        "--out", type=Path, required=True, metavar="PATH", help="a new file or folder"
    )
    export.add_argument("--base", help="default: the adapter's")
    export.add_argument("--scale", type=float, default=1.0, help="of the adapter (default: 1)")
    export.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16", "int8"),
        default="",
        help="of speech models, and of what --format fused writes; int8 with ctranslate2 only "
        "(default: fp32; of ggml fp16)",
    )
    export.add_argument(
        "--check", type=Path, metavar="MANIFEST", help="speech on which it must score the same"
    )
    export.add_argument(
        "--accept-licence", default="", metavar="NAME", help="of a base that restrains its use"
    )
    export.add_argument("--json", action="store_true", help="print JSON")

    cache = add("cache", "the stored frozen prefixes")
    actions = cache.add_subparsers(
        dest="action", metavar="ls|prune|verify", required=True, parser_class=_Parser
    )
    actions.add_parser("ls", help="list what is stored")
    prune = actions.add_parser("prune", help="delete what no living run uses")
    prune.add_argument("--older-than", type=float, metavar="DAYS", help="not used for so long")
    prune.add_argument("--max-gb", type=float, metavar="GB", help="keep at most this, newest first")
    actions.add_parser("verify", help="remove damaged entries; exit code 1 if there were any")
    return parser


def _model(command: _Parser) -> None:
    command.add_argument(
        "--adapter", type=Path, metavar="DIR", help="a run's folder, its adapter/, or a gate"
    )
    _label(command)
    _base(command)


def _label(command: _Parser) -> None:
    command.add_argument(
        "--label", metavar="VALUE", help="of a gate: chooses the adapters for all that is asked"
    )


def _base(command: _Parser) -> None:
    command.add_argument("--base", help="default: the adapter's; without an adapter, it alone")


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
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 0
    name = arguments[0]
    if name not in COMMANDS and not name.startswith("-"):
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean `mmtune {near[0]}`? " if near else ""
        raise ConfigError(f"unknown command {name!r}", f"{hint}commands: {', '.join(COMMANDS)}")
    if name == "train" and (words := [w for w in arguments[1:] if w not in {"-h", "--help"}]):
        # Its settings are the recipe's, which argparse doesn't know.
        recipe, settings = split_settings(words)
        show = words != arguments[1:]
        options = argparse.Namespace(recipe=recipe, settings=settings, show=show)
    else:
        options = parser.parse_args(arguments)
    return command_of(name)(options)


def command_of(name: str) -> Callable[[argparse.Namespace], int]:
    """The function of `commands` that a command runs; a word of Python has a `_` behind."""
    from mmtune.cli import commands

    function = f"{name}_" if keyword.iskeyword(name) else name
    command: Callable[[argparse.Namespace], int] = getattr(commands, function)
    return command


def split_settings(arguments: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The recipe and the settings of `mmtune train`'s arguments.

    `--key value` and `--key=value` may stand before and after the recipe; a value may begin with
    one dash (-1).

    Raises:
        ConfigError: no recipe or two, a setting without a value or given twice.
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
            f"mmtune train takes one recipe, found: {found}",
            "mmtune train RECIPE --key value …; `mmtune recipes` lists the recipes",
        )
    return recipes[0], settings


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]
