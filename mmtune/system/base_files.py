"""Weights in a base's folder: variants such as `model.fp16.safetensors`, and pickled files.

diffusers and transformers load `NAME.safetensors` or the shards that `NAME.safetensors.index.json`
lists. A variant has its name before the suffix, and they load it only if they are told its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

# NAME.VARIANT.safetensors; shards number the name or the variant.
_VARIANT = re.compile(r"\.([A-Za-z]\w*)(-\d{5}-of-\d{5})?\.safetensors")
PREFERRED = ("fp32", "bf16", "fp16")
PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5")


def weight_variant(folders: Iterable[Path], names: Sequence[str]) -> str | None:
    """Choose the variant to load for folders that don't all hold weights without one.

    Args:
        folders: each with the weights of one model.
        names: `NAME` of the weights' files.

    Returns:
        The variant that all folders without plain weights have, the most precise one; None if no
        folder needs one or there is none.
    """
    lacking = [folder for folder in folders if not has_plain(folder, names)]
    if not lacking:
        return None
    common = set.intersection(*(_variants(folder, names) for folder in lacking))
    known = [name for name in PREFERRED if name in common]
    return next(iter([*known, *sorted(common)]), None)


def has_plain(folder: Path, names: Sequence[str]) -> bool:
    """Whether a folder holds weights under the names that libraries load without being told."""
    return any(
        (folder / f"{name}.safetensors").exists()
        or (folder / f"{name}.safetensors.index.json").exists()
        for name in names
    )


def _variants(folder: Path, names: Sequence[str]) -> set[str]:
    found = set()
    for path in folder.glob("*.safetensors"):
        for name in names:
            rest = path.name.removeprefix(name)
            match = _VARIANT.fullmatch(re.sub(r"^-\d{5}-of-\d{5}", "", rest))
            if rest != path.name and match:
                found.add(match[1])
    return found


def pickled_in(folder: Path) -> Path | None:
    """Find the weights of a folder that are in a format which can run code when it is read."""
    return next((p for p in sorted(folder.glob("*")) if p.suffix in PICKLED), None)
