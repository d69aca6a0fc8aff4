"""Names of bases that are one file: `FILE.safetensors`, or `FILE.safetensors@FOLDER`.

The folder is a diffusers pipeline whose configurations and tokenizers describe the file. Both are
one name, because adapters, caches and results know a base by its name alone.
"""

from __future__ import annotations

from pathlib import Path

from mmtune.errors import ConfigError

SUFFIX = ".safetensors"
JOINT = f"{SUFFIX}@"
# What checkpoints of image models are saved as; only the first is read.
CHECKPOINTS = (SUFFIX, ".ckpt", ".pt", ".pth", ".bin", ".gguf")


def split_base(base: str) -> tuple[str, str | None]:
    """Split a base's name into the base and the folder of its configurations, if it names one."""
    file, joint, folder = base.rpartition(JOINT)
    return (f"{file}{SUFFIX}", folder) if joint and file else (base, None)


def join_base(base: str, config: str | None) -> str:
    """Name a single-file base together with the folder of its configurations.

    Args:
        base: as the user gave it.
        config: value of `--base-config`; None gives `base` back.

    Raises:
        ConfigError: the base isn't one file, or names another folder already.
    """
    if config is None:
        return base
    file, named = split_base(base)
    if not file.endswith(SUFFIX):
        raise ConfigError(
            f"--base-config {config} describes a base that is one {SUFFIX} file, but the base is "
            f"{base}",
            "leave it out, or give the file: --base FILE.safetensors",
        )
    if named is not None and named != config:
        raise ConfigError(
            f"the base {base} names the configuration {named}, and --base-config {config}",
            "give one of them",
        )
    return f"{file}@{config}"


def is_checkpoint(base: str) -> bool:
    """Whether a base's name is that of a file of weights, and so no folder and no hub id."""
    return split_base(base)[0].lower().endswith(CHECKPOINTS)


def is_hub_id(name: str) -> bool:
    """Whether a name may be a repository on the Hugging Face hub: OWNER/NAME."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    if name.count("/") != 1 or is_checkpoint(name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def found_from_anywhere(base: str) -> str:
    """Name a base so that it is found from any working directory.

    Args:
        base: as the user gave it.

    Returns:
        A path of this machine is made absolute; a hub id or a starter is returned as it is.
    """
    file, folder = split_base(base)
    parts = [file] if folder is None else [file, folder]
    places = [Path(part).expanduser() for part in parts]
    return "@".join(
        str(place.absolute()) if place.exists() else part
        for part, place in zip(parts, places, strict=True)
    )
