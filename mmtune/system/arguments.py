"""Arguments of the command line: the parser, types of values, and arguments that commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from mmtune.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `ConfigError`s, printed as all others are."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(message, f"see `{self.prog} --help`")


def add_model(command: Parser) -> None:
    command.add_argument(
        "--adapter", type=Path, metavar="DIR", help="a run's folder, its adapter/, or a gate"
    )
    add_label(command)
    add_base(command)


def add_label(command: Parser) -> None:
    command.add_argument(
        "--label", metavar="VALUE", help="of a gate: chooses the adapters for all that is asked"
    )


def add_base(command: Parser) -> None:
    command.add_argument("--base", help="default: the adapter's; without an adapter, it alone")


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def in_help(text: str) -> str:
    """A text for argparse's `help`, in which a per cent sign means itself."""
    return text.replace("%", "%%")
