"""Loading of diffusion pipelines as base models, with a hash of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.errors import BaseModelError, first_line
from mmtune.image.diffusion.families import PIPELINES, Family, family_class
from mmtune.image.diffusion.identity import WEIGHT_FILES, part_hashes
from mmtune.image.diffusion.load_single_file import load_single_file
from mmtune.image.diffusion.quantize import base_memory_hints, quantize, require_quantizer
from mmtune.image.image_options import Quantize
from mmtune.image.single_file import SingleFile
from mmtune.image.source import STARTER_HINT, STARTERS, Source, read_index, resolve_base
from mmtune.system.base_files import pickled_in, weight_variant
from mmtune.system.hashing import hash_json
from mmtune.system.installed import intact_asset
from mmtune.system.memory import guarded
from mmtune.system.pointers import require_content
from mmtune.system.quiet import quiet

if TYPE_CHECKING:
    import torch

    from mmtune.system.memory import Phase

MODEL_PARTS = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")


@dataclass(frozen=True)
class DiffusionBase:
    """A loaded diffusion pipeline.

    Attributes:
        name: hub id, folder, file or starter, as the user gave it.
        pipeline: the diffusers pipeline, frozen, in evaluation mode.
        family: how pipelines of this class encode, train and sample.
        hashes: hashes of weights and configuration by part (`unet` or `transformer`, `vae`,
            `text`, `scheduler`). They are those of the files, whatever `dtype` is.
        device: where the pipeline is.
        dtype: number format of all weights.
        quantized: how the denoiser's linear layers are held in memory.
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
        """Hash of all parts: what a sample depends on besides prompt, sampler and number format."""
        return hash_json(dict(self.hashes))

    @property
    def resolution(self) -> int:
        """Side in pixels of the square images that the base was trained on."""
        return self.family.resolution

    @property
    def denoiser(self) -> Any:
        """The UNet or transformer, which predicts noise or velocity."""
        return self.family.denoiser

    @property
    def adapted(self) -> dict[str, Any]:
        """The models that hold adapters, by the name of the pipeline's component."""
        parts = {self.family.denoiser_name: self.denoiser, **self.family.text_encoders}
        return {name: model for name, model in parts.items() if getattr(model, "peft_config", None)}


def load_base(
    base: str, device: torch.device, dtype: torch.dtype, quantized: Quantize = "none"
) -> DiffusionBase:
    """Load a pipeline of one of the `PIPELINES`, frozen.

    Only safetensors are read: a pickled checkpoint can run code.

    Args:
        base: a hub id, a local folder, a single .safetensors file or `starter:icons`.
        device: where the pipeline goes.
        dtype: number format of all weights. An SDXL autoencoder in fp16 is run in fp32
            (`force_upcast`).
        quantized: how the denoiser is held, see `mmtune.image.diffusion.quantize`.

    Raises:
        ConfigError, MissingExtra: see `require_quantizer`.
        OutOfMemory: the base needs more memory than the device has.
        BaseModelError: the base can't be found, is of another class, lacks a file, or has weights
            that are damaged or not finite.
    """
    require_quantizer(quantized, device)
    source = resolve_base(base)
    index = read_index(source)
    kind = str(index.get("_class_name"))
    family = family_class(kind)
    if family is None:
        known = ", ".join(f"{f.name} ({f.pipeline_class})" for _, f in PIPELINES.usable())
        raise BaseModelError(
            f"{base} is a {kind}; these families can be trained: {known}",
            f"choose another base, or {STARTER_HINT}",
        )
    if base in STARTERS:
        intact_asset(STARTERS[base], BaseModelError)
    if isinstance(source, Path):
        _require_files(source, index)
    pipeline, hashes = _load_pipeline(base, source, index, family, dtype)
    for part in MODEL_PARTS:
        if (model := getattr(pipeline, part, None)) is not None:
            model.requires_grad_(False).eval()
    with guarded("loading the base", lambda: base_memory_hints(quantized)):
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


def _load_pipeline(
    base: str,
    source: Source,
    index: Mapping[str, Any],
    family: type[Family],
    dtype: torch.dtype,
) -> tuple[Any, dict[str, str]]:
    """The pipeline on the CPU, and the hashes of its files' content."""
    import diffusers

    # diffusers must be told which components are null in the index.
    absent = {p: None for p in family.optional if not (index.get(p) or [None])[0]}
    try:
        with quiet():
            cls = getattr(diffusers, family.pipeline_class)
            if isinstance(source, SingleFile):
                pipeline = load_single_file(source, index, family)
                hashes = part_hashes(pipeline, family.denoiser_name, source.file)
                pipeline.to(dtype=dtype)
            else:
                # from_pretrained would download too, but not tell us the folder
                folder = (
                    source
                    if isinstance(source, Path)
                    else Path(cls.download(source, use_safetensors=True, **absent))
                )
                variant = weight_variant(_part_folders(folder, index), WEIGHT_FILES)
                ours = family.components(folder)
                pipeline = cls.from_pretrained(
                    folder,
                    dtype=dtype,
                    use_safetensors=True,
                    variant=variant,
                    **family.load,
                    **absent,
                    **dict.fromkeys(ours),
                )
                pipeline.register_modules(**ours)
                hashes = part_hashes(pipeline, family.denoiser_name, folder, variant)
    except BaseModelError:
        raise
    except Exception as error:  # diffusers, transformers and the hub raise many kinds
        raise BaseModelError(
            f"{base} can't be loaded: {first_line(error)}",
            f"replace the file that the error names (as safetensors), or {STARTER_HINT}",
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, hashes


def _part_folders(folder: Path, index: Mapping[str, Any]) -> list[Path]:
    return [folder / part for part in MODEL_PARTS if (index.get(part) or [None])[0]]


def _require_files(folder: Path, index: Mapping[str, Any]) -> None:
    for path in sorted(folder.glob("*/*")):
        require_content(path, BaseModelError)
    for part in _part_folders(folder, index):
        if not (part / "config.json").is_file():
            raise BaseModelError(
                f"{part / 'config.json'} is missing", f"copy it, or {STARTER_HINT}"
            )
        if any(part.glob("*.safetensors")):
            continue
        if pickled := pickled_in(part):
            raise BaseModelError(
                f"{pickled} is pickled, which can run code when it is read, and {part} holds no "
                ".safetensors file",
                "get the model as safetensors; or, where you trust it, load the folder with "
                "diffusers and save it again: DiffusionPipeline.from_pretrained(FOLDER)"
                ".save_pretrained(OTHER)",
            )
        raise BaseModelError(
            f"{part} holds no .safetensors file, so its weights are missing",
            f"copy them (pickled .bin files are not read), or {STARTER_HINT}",
        )


def memory_hints(
    doing: Phase, base: DiffusionBase, sample_batch: int, resolution: int | None = None
) -> list[str]:
    """List settings that need less memory, in the order to try them.

    Args:
        doing: what ran out of memory.
        base: the loaded base.
        sample_batch: images sampled at once now.
        resolution: training resolution in pixels now; None: it can't be chosen.

    Returns:
        One `--name value (why)` per setting.
    """
    found = []
    if doing == "sampling" and sample_batch > 1:
        found.append(f"--sample_batch {sample_batch // 2} (now {sample_batch}; the same result)")
    multiple = base.family.multiple
    smaller = 0 if resolution is None else resolution * 3 // 4 // multiple * multiple
    if smaller:
        found.append(f"--resolution {smaller} (now {resolution} pixels)")
    return [*found, *base_memory_hints(base.quantized)]
