"""Location of a diffusion base: a folder, a file, a starter or the hub. It loads no weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmtune.errors import BaseModelError, did_you_mean, first_line
from mmtune.image.single_file import SingleFile, open_single_file
from mmtune.system.base_name import is_checkpoint, is_hub_id, split_base
from mmtune.system.resources import resource
from mmtune.system.stored import read_json_object

STARTERS = {"starter:icons": "starter-icons"}  # folders in assets/, by name
STARTER_HINT = "use starter:icons, which needs no download"
INDEX_FILE = "model_index.json"
Source = Path | SingleFile | str


def resolve_base(base: str) -> Source:
    """Find where a base is.

    Args:
        base: a hub id, a local folder, a single .safetensors file (see
            `mmtune.system.base_name`) or a starter.

    Returns:
        The folder, the file with the folder that describes it, or the hub id itself.

    Raises:
        BaseModelError: the starter is unknown, the folder doesn't exist or has no
            `model_index.json`, or the file is none that can be trained.
    """
    if base.startswith("starter:"):
        if base not in STARTERS:
            raise BaseModelError(f"unknown starter {base!r}", did_you_mean(base, list(STARTERS)))
        return resource("assets", STARTERS[base])
    folder = Path(base).expanduser()
    if folder.is_dir():
        if not (folder / INDEX_FILE).is_file():
            raise BaseModelError(
                f"{folder} holds no {INDEX_FILE}: it is not a diffusers pipeline",
                "give the folder that DiffusionPipeline.save_pretrained wrote, or " + STARTER_HINT,
            )
        return folder
    name, config = split_base(base)
    file = Path(name).expanduser()
    if file.is_file():
        return open_single_file(file, config)
    if not is_hub_id(base):
        what = f"file: {name}" if is_checkpoint(base) else f"folder: {base}"
        raise BaseModelError(
            f"no such {what}", f"correct the path, give a hub id, or {STARTER_HINT}"
        )
    return base


def read_index(source: Source) -> dict[str, Any]:
    """Read a pipeline's `model_index.json`; see `read_json`."""
    return read_json(source, INDEX_FILE)


def read_json(source: Source, file: str) -> dict[str, Any]:
    """Read a small JSON file of a base.

    Args:
        source: from `resolve_base`; a file of a hub id is downloaded. Of a single-file base, the
            folder that describes it is read.
        file: path in the base, such as `vae/config.json`.

    Raises:
        BaseModelError: there is no such file, the hub can't be reached, or the file isn't JSON.
    """
    if isinstance(source, SingleFile):
        source = source.config
    path = source / file if isinstance(source, Path) else _download(source, file)
    try:
        value = read_json_object(path, "download the model again", BaseModelError)
    except FileNotFoundError:
        raise BaseModelError(f"{path} is missing", f"copy it, or {STARTER_HINT}") from None
    return value


def _download(repo: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, file))
    except Exception as error:  # the hub's client raises its own, its transport's and the OS's
        raise BaseModelError(
            f"{repo}: {file} is not on this machine and can't be downloaded from the hub "
            f"({first_line(error)})",
            f"connect to the hub, or log in if the model is gated, or {STARTER_HINT}",
        ) from error
