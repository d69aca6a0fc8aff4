"""The command line's parser, types of argument values, and arguments that commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from mmtune.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """An argument parser that raises a `ConfigError` instead of exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise argparse's message as an error with a cure.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(message, f"see `{self.prog} --help`")


def add_model(command: Parser) -> None:
    """Add the arguments that choose a model: `--adapter`, `--label` and `--base`."""
    command.add_argument(
        "--adapter",
        type=Path,
        metavar="DIR",
        help="adapter to use: a run folder, its adapter/ folder or a route folder",
    )
    add_label(command)
    add_base(command)


def add_label(command: Parser) -> None:
    """Add the argument `--label`, which a route uses."""
    command.add_argument(
        "--label", metavar="VALUE", help="label that selects a route's adapters for all inputs"
    )


def add_base(command: Parser) -> None:
    """Add the argument `--base`, which names the base model."""
    command.add_argument(
        "--base", help="base model (default: the adapter's); give it alone to use no adapter"
    )


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


def integers(text: str) -> list[int]:
    """Parse integers that are separated by commas."""
    return [int(part) for part in text.split(",")]


def in_help(text: str) -> str:
    """A text for argparse's `help`, in which a per cent sign means itself."""
    return text.replace("%", "%%")
