"""Recipes, suites and assets: beside the package in a checkout, inside it when installed."""

from __future__ import annotations

from pathlib import Path

from mmtune.errors import ConfigError

_PACKAGED = Path(__file__).parents[1] / "_packaged"
_CHECKOUT = Path(__file__).parents[2]


def resource(kind: str, name: str = "") -> Path:
    """The path of `kind` ("recipes", "eval", "assets") and `name` below it.

    Raises:
        ConfigError: it isn't there.
    """
    for root in (_PACKAGED, _CHECKOUT):
        if (root / kind).is_dir() and (root / kind / name).exists():
            return root / kind / name
    raise ConfigError(
        f"{kind}/{name} is not part of this installation", "reinstall mmtune: pip install mmtune"
    )


def recipes() -> list[str]:
    """Names of the recipes that `mmtune train` and `mmtune init` take."""
    root = resource("recipes")
    return sorted(path.parent.name for path in root.glob("*/recipe.yaml"))


def cache_root() -> Path:
    """Where converted weights and frozen prefixes are kept: $MMTUNE_CACHE or ~/.cache/mmtune."""
    import os

    given = os.environ.get("MMTUNE_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else (Path(base) if base else Path.home() / ".cache") / "mmtune"
