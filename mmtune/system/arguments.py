"""The command line's parser, types of argument values, and arguments that commands share."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from mmtune.errors import ConfigError, nearest
from mmtune.system.base_name import join_base

MAX_COUNT = 1_000_000  # of items, beams, steps or pixels; more is a typing error
MAX_SEED = 2**62


# Words that are values, and no options.
NEGATIVE = re.compile(r"^-((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|nan)$", re.IGNORECASE)
# What other programs call our options.
SPELLINGS = {
    **dict.fromkeys(("--strength", "--weight", "--lora-scale", "--lora_scale"), "--scale"),
    **dict.fromkeys(("--cfg", "--cfg-scale", "--guidance-scale", "--guidance_scale"), "--guidance"),
    **dict.fromkeys(("--num-inference-steps", "--num_inference_steps"), "--steps"),
    **dict.fromkeys(("--num-images", "--batch-count", "-n"), "--count"),
    **dict.fromkeys(("--output", "--outdir", "--output-dir", "-o"), "--out"),
    **dict.fromkeys(("--model", "--checkpoint"), "--base"),
    **dict.fromkeys(("--lora",), "--adapter"),
}


class Parser(argparse.ArgumentParser):
    """An argument parser that raises a `ConfigError` instead of exiting."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = NEGATIVE  # argparse's own doesn't know -1e9

    def parse(
        self, arguments: Sequence[str], namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse a command line; words that no argument takes are an error with what was meant.

        Raises:
            ConfigError: an argument is unknown or missing, or a value is wrong.
        """
        found, extra = self.parse_known_args(arguments, namespace)
        if not extra:
            return found
        cure = self._meant(extra[0]) or self._with_quotes(list(arguments))
        raise ConfigError(
            f"unrecognized arguments: {' '.join(extra)}", cure or f"see `{self.prog} --help`"
        )

    def _meant(self, word: str) -> str:
        """The option that an unknown one resembles, or is called in another program."""
        name = word.partition("=")[0]
        if not name.startswith("-"):
            return ""
        known = self.option_strings()
        if SPELLINGS.get(name) in known:
            return f"{SPELLINGS[name]} is its name here; see `{self.prog} --help`"
        near = nearest(name, known, 1)
        return f"did you mean {near[0]}? see `{self.prog} --help`" if near else ""

    def _with_quotes(self, arguments: list[str]) -> str:
        """An option's text that the shell has divided, in quotation marks."""
        if self._get_positional_actions():  # which may take some of the words
            return ""
        for place, option in enumerate(arguments):
            action = self._option_string_actions.get(option)
            if action is None or action.type is not text:
                continue
            words = list(takewhile(lambda each: not each.startswith("-"), arguments[place + 1 :]))
            if len(words) > 1:
                said = " ".join(words)
                return f'a text of several words needs quotation marks: {option} "{said}"'
        return ""

    def error(self, message: str) -> NoReturn:
        """Raise argparse's message as an error with a cure.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(message, f"see `{self.prog} --help`")

    def option_strings(self) -> set[str]:
        """The names of all options: "--json"."""
        return set(self._option_string_actions)


def add_model(command: Parser) -> None:
    """Add the arguments that choose a model: `--adapter`, `--label` and `--base`."""
    command.add_argument(
        "--adapter",
        type=Path,
        metavar="DIR",
        help="adapter to use: a run folder, its adapter/ folder, a route folder or a folder that "
        "PEFT wrote (needs --base)",
    )
    add_label(command)
    add_base(command)


def add_label(command: Parser) -> None:
    """Add the argument `--label`, which a route uses."""
    command.add_argument(
        "--label",
        type=text,
        metavar="VALUE",
        help="label that selects a route's adapters for all inputs",
    )


def add_base(command: Parser) -> None:
    """Add the argument `--base`, which names the base model."""
    command.add_argument(
        "--base", help="base model (default: the adapter's); give it alone to use no adapter"
    )


def add_base_config(command: Parser) -> None:
    """Add the argument `--base-config`, which `apply_base_config` joins to `--base`."""
    command.add_argument(
        "--base-config",
        metavar="FOLDER",
        help="folder of a diffusers pipeline that describes a --base which is a single "
        ".safetensors file; its weights aren't read (default: mmtune's own, for Stable Diffusion "
        "1.x, 2.x and XL)",
    )


def apply_base_config(options: argparse.Namespace) -> None:
    """Join the value of `--base-config` to that of `--base`, as the name of one base.

    Raises:
        ConfigError: it is given without a `--base` that is a single file.
    """
    config = getattr(options, "base_config", None)
    if config is None:
        return
    if options.base is None:
        raise ConfigError(
            f"--base-config {config} describes a base, but no --base is given",
            "give the file that it describes: --base FILE.safetensors",
        )
    options.base = join_base(options.base, config)


def positive(text: str) -> int:
    """Parse an integer from 1 to `MAX_COUNT`."""
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    if value > MAX_COUNT:
        raise argparse.ArgumentTypeError(f"{text} is more than {MAX_COUNT:,}")
    return value


def finite(text: str) -> float:
    """Parse a number that isn't NaN or infinite."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number{_instead(text)}") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return value


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _instead(text: str) -> str:
    """How to write what may be meant: `0,5` or `80%`; `1,000` may be two numbers."""
    number, is_share = text.strip().removesuffix("%").strip(), text.strip().endswith("%")
    try:
        value = float(number.replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or re.search(r",\d{3}$", number):
        return ": give a number such as 0.5"
    return f": write {value / 100 if is_share else value:g}"


def not_negative(text: str) -> float:
    """Parse a finite number of at least 0."""
    value = finite(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than 0")
    return value


def seed(text: str) -> int:
    """Parse a random seed; PyTorch's generators take whole numbers of 64 bits."""
    value = _whole(text)
    if abs(value) > MAX_SEED:
        raise argparse.ArgumentTypeError(f"{text} is not between -{MAX_SEED} and {MAX_SEED}")
    return value


def text(value: str) -> str:
    """Refuse words that aren't UTF-8: models and files of text can't hold them."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("it is not UTF-8 text") from None
    return value


def seeds(text: str) -> list[int]:
    """Parse random seeds that are separated by commas."""
    return [seed(part) for part in text.split(",")]


def in_help(text: str) -> str:
    """A text for argparse's `help`, in which a per cent sign means itself."""
    return text.replace("%", "%%")
