"""Read lists that users write as text files with one entry a line."""

from __future__ import annotations

from pathlib import Path

from mmtune.errors import ConfigError
from mmtune.system.stored import read_text, reason_of


def read_entries(path: Path, cure: str) -> list[str]:
    """Read the entries of a list: its lines without comments (#) and empty lines.

    Args:
        path: a UTF-8 text file.
        cure: what to do if it can't be read.

    Raises:
        ConfigError: the file can't be read as UTF-8 text.
        DataError: it is too large for a list.
    """
    try:
        lines = [line.strip() for line in read_text(path).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {reason_of(error)}", cure) from None
    return [line for line in lines if line and not line.startswith("#")]
