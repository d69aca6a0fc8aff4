"""Diffusion pipelines to adapt: found, recognised, loaded, and identified by their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.errors import BaseModelError, first_line
from mmtune.image.diffusion.families import FAMILIES, Family, family_class
from mmtune.image.diffusion.identity import part_hashes
from mmtune.image.diffusion.quantize import lighter_base, quantize, require
from mmtune.image.image_options import Quantize
from mmtune.image.source import STARTER_HINT, read_index, resolve_base
from mmtune.system.hashing import hash_json
from mmtune.system.memory import guarded
from mmtune.system.quiet import quiet

if TYPE_CHECKING:
    import torch

    from mmtune.system.memory import Phase

MODEL_PARTS = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")


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
    for part in MODEL_PARTS:
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
    for part in MODEL_PARTS:
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


def lighter(
    doing: Phase, base: DiffusionBase, sample_batch: int, resolution: int | None = None
) -> list[str]:
    """`--name value (why)` of each setting, in the order to try them.

    Args:
        sample_batch: images sampled at once.
        resolution: of training, in pixels; None where it can't be chosen.
    """
    found = []
    if doing == "sampling" and sample_batch > 1:
        found.append(f"--sample_batch {sample_batch // 2} (now {sample_batch}; the same result)")
    multiple = base.family.multiple
    smaller = 0 if resolution is None else resolution * 3 // 4 // multiple * multiple
    if smaller:
        found.append(f"--resolution {smaller} (now {resolution} pixels)")
    return [*found, *lighter_base(base.quantized)]
