"""Ask before the hub is asked: a model that only an adapter's or a run's own files name.

An adapter from somebody else could make this machine download any model. A model that the user
names is downloaded, as is any model after the user has allowed it by `ALLOW`. A starter, a local
folder, and a model that is on this machine already need no consent, so adapters that were trained
here work without a question.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from mmtune.errors import BaseModelError
from mmtune.system.base_name import is_hub_id

ALLOW = "MMTUNE_ALLOW_DOWNLOAD"  # environment variable: 1 allows downloads of any named model
_ENTRIES = ("config.json", "model_index.json")


def base_of(named: str, place: Path, *, option: bool = True) -> str:
    """Return the model that an adapter's or run's own files name, if no download is needed.

    Args:
        named: the model, as the files name it.
        place: the adapter folder or run folder, for the message.
        option: whether the command has an option --base, for the message.

    Raises:
        BaseModelError: the model is a hub id, isn't on this machine, and no download is allowed.
    """
    is_folder = Path(named).expanduser().is_dir()
    if (
        is_folder
        or not is_hub_id(named)
        or os.environ.get(ALLOW, "") not in ("", "0")
        or _is_here(named)
    ):
        return named
    allow = f"{ALLOW}=1 in the environment"
    raise BaseModelError(
        f"{place} names the model {named!r}, which is not on this machine; mmtune downloads no "
        "model that only a file names",
        f"if you trust it, add --base {shlex.quote(named)}, or set {allow}"
        if option
        else f"if you trust it, set {allow} and repeat the command",
    )


def base_identity(base: str) -> str:
    """A base's name by which two spellings of it are equal: a folder counts by its place."""
    place = Path(base).expanduser()
    return str(place.resolve()) if place.exists() else base


def _is_here(base: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return any(isinstance(try_to_load_from_cache(base, name), str) for name in _ENTRIES)
    except HFValidationError:  # no name that the hub could have
        return False
