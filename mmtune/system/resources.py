"""Find recipes, suites and assets: beside the package in a checkout, inside it when installed."""

from __future__ import annotations

from pathlib import Path

from mmtune.errors import ConfigError

_PACKAGED = Path(__file__).parents[1] / "_packaged"
_CHECKOUT = Path(__file__).parents[2]


def resource(kind: str, name: str = "") -> Path:
    """Return the path of a folder ("recipes", "eval", "assets"), or of `name` in it.

    Raises:
        ConfigError: the file or folder is missing.
    """
    for root in (_PACKAGED, _CHECKOUT):
        if (root / kind).is_dir() and (root / kind / name).exists():
            return root / kind / name
    raise ConfigError(
        f"{kind}/{name} is not part of this installation", "reinstall mmtune: pip install mmtune"
    )


def recipes() -> list[str]:
    """List the recipes that `mmtune train` and `mmtune init` know."""
    root = resource("recipes")
    return sorted(path.parent.name for path in root.glob("*/recipe.yaml"))


def cache_root() -> Path:
    """Return the folder of cached weights and features: $MMTUNE_CACHE or ~/.cache/mmtune."""
    import os

    given = os.environ.get("MMTUNE_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else (Path(base) if base else Path.home() / ".cache") / "mmtune"
