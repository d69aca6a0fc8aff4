"""The format version in JSON and YAML files: write it, and check it when a file is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmtune.errors import ConfigError
from mmtune.system.version import VERSION

FORMAT = 1
"""The version of config.yaml, data.json, files.json, card.json, comparison.json, verdict.json and
gate.json.

Increase it if today's readers would misread the new files. A new optional field doesn't need this.
"""


def with_format(text: str) -> str:
    """Insert the format version as the first key of a JSON object that is indented by two."""
    return text.replace("{", f'{{\n  "format": {FORMAT},', 1)


def without_format(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Check and remove a file's format version; a file without one has the first version.

    Args:
        values: the file's values.
        path: the file's path, for the error.

    Raises:
        ConfigError: this mmtune doesn't know the file's version.
    """
    rest = dict(values)
    found = rest.pop("format", FORMAT)
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= FORMAT:
        raise ConfigError(
            f"{path} has format {found!r}; mmtune {VERSION} reads formats up to {FORMAT}",
            "a newer mmtune wrote it: pip install --upgrade mmtune",
        )
    return rest
