"""The version of a file's format: written first, checked when the file is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmtune.errors import ConfigError
from mmtune.system.version import VERSION

FORMAT = 1
"""Of config.yaml, data.json, card.json, comparison.json, verdict.json and gate.json.

Raise it when a reader of today would misread what is written; a new field that may be absent
doesn't need it.
"""


def with_format(text: str) -> str:
    """The text of a JSON object, indented by two, with the version of its format put first."""
    return text.replace("{", f'{{\n  "format": {FORMAT},', 1)


def without_format(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What a file holds besides its version; a file without one is of the first.

    Args:
        values: of the file.
        path: of the file, for the error.

    Raises:
        ConfigError: the file is of a version that this mmtune doesn't know.
    """
    rest = dict(values)
    found = rest.pop("format", FORMAT)
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= FORMAT:
        raise ConfigError(
            f"{path} has format {found!r}; mmtune {VERSION} reads formats up to {FORMAT}",
            "a newer mmtune wrote it: pip install --upgrade mmtune",
        )
    return rest
