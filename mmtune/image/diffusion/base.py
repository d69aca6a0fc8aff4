"""Diffusion pipelines to adapt: found, recognised, loaded, and identified by their weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.errors import BaseModelError, first_line
from mmtune.image.diffusion.families import FAMILIES, Family, family_class
from mmtune.image.diffusion.identity import part_hashes
from mmtune.image.diffusion.lighter import lighter_base
from mmtune.image.diffusion.quantize import quantize, require
from mmtune.image.image_options import Quantize
from mmtune.system.hashing import hash_json
from mmtune.system.memory import guarded
from mmtune.system.quiet import quiet
from mmtune.system.resources import resource

if TYPE_CHECKING:
    import torch

STARTERS = {"starter:icons": "starter-icons"}
STARTER_HINT = "use starter:icons, which needs no hub"
INDEX = "model_index.json"
PARTS = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")


@dataclass(frozen=True)
class DiffusionBase:
    """A loaded pipeline.

    Attributes:
        name: what the user gave.
        pipeline: the diffusers pipeline, frozen, in evaluation mode.
        family: what its kind of pipeline does in its own way.
        hashes: of weights and configuration, by part (`unet` or `transformer`, `vae`, `text`,
            `scheduler`), as they stand in the files, whatever number format they are held in.
        quantized: how the denoiser's linear layers are stored.
    """

    name: str
    pipeline: Any
    family: Family
    hashes: Mapping[str, str]
    device: torch.device
    dtype: torch.dtype
    quantized: Quantize = "none"

    @property
    def fingerprint(self) -> str:
        """Hash of all that a sample of the base depends on, besides prompt, sampler and number
        format."""
        return hash_json(dict(self.hashes))

    @property
    def resolution(self) -> int:
        """Side in pixels of the square images that the base was trained on."""
        return self.family.resolution

    @property
    def denoiser(self) -> Any:
        """The UNet or transformer."""
        return self.family.denoiser

    @property
    def adapted(self) -> dict[str, Any]:
        """The models that hold adapters, by the names of the pipeline's parts."""
        parts = {self.family.denoiser_name: self.denoiser, **self.family.text_encoders}
        return {name: model for name, model in parts.items() if getattr(model, "peft_config", None)}


def pick_device() -> torch.device:
    """This process's accelerator if there is one, otherwise the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def resolve_base(base: str) -> Path | str:
    """The folder that `base` names, or the hub id itself.

    Raises:
        BaseModelError: an unknown starter, or a folder without `model_index.json`.
    """
    if base.startswith("starter:"):
        if base not in STARTERS:
            raise BaseModelError(f"no starter {base!r}", "known: " + ", ".join(STARTERS))
        return resource("assets", STARTERS[base])
    folder = Path(base).expanduser()
    if folder.is_dir():
        if not (folder / INDEX).is_file():
            raise BaseModelError(
                f"{folder} holds no {INDEX}: it is not a diffusers pipeline",
                "give the folder that DiffusionPipeline.save_pretrained wrote, or " + STARTER_HINT,
            )
        return folder
    if base.startswith(("/", ".", "~")) or base.count("/") != 1:
        raise BaseModelError(
            f"no such folder: {base}", f"correct the path, give a hub id, or {STARTER_HINT}"
        )
    return base


def read_index(source: Path | str) -> dict[str, Any]:
    """The pipeline's `model_index.json`; see `read_json`."""
    return read_json(source, INDEX)


def read_json(source: Path | str, file: str) -> dict[str, Any]:
    """A small file of a base, from a folder or the hub.

    Raises:
        BaseModelError: there is no such file, the hub can't be reached, or it isn't JSON.
    """
    path = source / file if isinstance(source, Path) else _download(source, file)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BaseModelError(f"{path} is missing", f"copy it, or {STARTER_HINT}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BaseModelError(f"{path} is damaged: {error}", "fetch the model again") from None
    return dict(value)


def _download(repo: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, file))
    except Exception as error:  # the hub's client raises its own, its transport's and the OS's
        raise BaseModelError(
            f"{repo}: {file} is neither on this machine nor can it be fetched from the hub "
            f"({first_line(error)})",
            f"connect, or log in if the model is gated, or {STARTER_HINT}",
        ) from error


def load_base(
    base: str, device: torch.device, dtype: torch.dtype, quantized: Quantize = "none"
) -> DiffusionBase:
    """Load a pipeline of one of the `FAMILIES`, frozen.

    Args:
        base: a hub id, a local folder or `starter:icons`.
        dtype: of all weights. An SDXL autoencoder in fp16 is run in fp32 (`force_upcast`).
        quantized: of the denoiser, see `mmtune.image.diffusion.quantize`.

    Raises:
        ConfigError, MissingExtra: see `require`.
        OutOfMemory: it is larger than the device.
        BaseModelError: it can't be found, is of another class, or a file is missing; the
            message names the file.
    """
    import diffusers

    require(quantized, device)
    source = resolve_base(base)
    index = read_index(source)
    kind = str(index.get("_class_name"))
    family = family_class(kind)
    if family is None:
        known = ", ".join(f"{f.name} ({f.pipeline_class})" for f in FAMILIES)
        raise BaseModelError(
            f"{base} is a {kind}; these families can be trained: {known}",
            f"choose another base, or {STARTER_HINT}",
        )
    if isinstance(source, Path):
        _require_files(source, index)
    # diffusers wants to hear of a component that is null in the index.
    lacking = {p: None for p in family.optional if not (index.get(p) or [None])[0]}
    try:
        # Safetensors only: a pickled checkpoint can run code.
        with quiet():
            cls = getattr(diffusers, kind)
            if isinstance(source, Path):
                folder = source
            else:  # what `from_pretrained` would do; but here it is known where the files are
                folder = Path(cls.download(source, use_safetensors=True, **lacking))
            pipeline = cls.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, **family.load, **lacking
            )
    except Exception as error:  # diffusers, transformers and the hub raise many kinds
        raise BaseModelError(
            f"{base} can't be loaded: {first_line(error)}",
            f"complete the file that it names (as safetensors), or {STARTER_HINT}",
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    hashes = part_hashes(pipeline, family.denoiser_name, folder)
    for part in PARTS:
        if (model := getattr(pipeline, part, None)) is not None:
            model.requires_grad_(False).eval()
    with guarded("loading the base", lambda: lighter_base(quantized)):
        quantize(getattr(pipeline, family.denoiser_name), quantized, device)
        pipeline.to(device)
    return DiffusionBase(
        name=base,
        pipeline=pipeline,
        family=family(pipeline),
        hashes=hashes,
        device=device,
        dtype=dtype,
        quantized=quantized,
    )


def _require_files(folder: Path, index: Mapping[str, Any]) -> None:
    for part in PARTS:
        if not (index.get(part) or [None])[0]:
            continue
        if not (folder / part / "config.json").is_file():
            raise BaseModelError(
                f"{folder / part / 'config.json'} is missing", f"copy it, or {STARTER_HINT}"
            )
        if not any((folder / part).glob("*.safetensors")):
            raise BaseModelError(
                f"{folder / part} holds no .safetensors file: its weights are missing",
                f"copy them (pickled .bin files are not read), or {STARTER_HINT}",
            )
