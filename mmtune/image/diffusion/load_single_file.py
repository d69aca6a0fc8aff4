"""Make a pipeline of a base that is one file, without any request to a hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmtune.errors import BaseModelError
from mmtune.image.diffusion.families import Family
from mmtune.image.single_file import DENOISER, VAE, SingleFile, clip_tokenizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CONFIG_CURE = (
    "give the folder of a diffusers pipeline of the same kind: --base-config FOLDER (its weights "
    "aren't read)"
)
# Names that some files have for the first text encoder, and those that diffusers knows.
BARE_TEXT = "cond_stage_model.transformer."
WRAPPED_TEXT = f"{BARE_TEXT}text_model."
PREFIXES = {
    "vae": (VAE,),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
}
# A scale beside each weight: the file's numbers alone are not the weights.
SCALED = (".scale_weight", ".weight_scale", "scaled_fp8")


def load_single_file(source: SingleFile, index: Mapping[str, Any], family: type[Family]) -> Any:
    """Load the pipeline on the CPU, each part in the number format of the file.

    Args:
        source: the file and the folder that describes it.
        index: that folder's `model_index.json`.
        family: of the pipeline's class.

    Raises:
        BaseModelError: the file doesn't hold all weights that its configuration asks for, or holds
            weights that are scaled or of other shapes.
        Exception: what diffusers and transformers raise; the caller knows their many kinds.
    """
    import diffusers
    from diffusers import pipelines
    from diffusers.loaders.single_file import load_single_file_sub_model
    from diffusers.loaders.single_file_utils import load_single_file_checkpoint

    checkpoint = _renamed(load_single_file_checkpoint(str(source.file)))
    scaled = next((key for key in checkpoint if key.endswith(SCALED)), None)
    if scaled is not None:
        raise BaseModelError(
            f"{source.file} holds weights in fewer bits with a scale for each ({scaled})",
            "give the file in fp16, bf16 or fp32 that it was made from",
        )
    parts: dict[str, Any] = {}
    for name, value in index.items():
        if not isinstance(value, list) or name in family.load:
            continue
        library, kind = value
        if library is None or name == "safety_checker":
            continue
        if name.startswith("tokenizer") and source.shipped:
            parts[name] = clip_tokenizer(source.config / name)
            continue
        try:
            parts[name] = load_single_file_sub_model(
                library_name=library,
                class_name=kind,
                name=name,
                checkpoint=checkpoint,
                pipelines=pipelines,
                is_pipeline_module=hasattr(pipelines, library),
                cached_model_config_path=str(source.config),
                local_files_only=True,
                torch_dtype=_dtype_of(checkpoint, name),
            )
        except ValueError as error:
            if "expected shape" not in str(error) and "CLIP model" not in str(error):
                raise
            raise BaseModelError(
                f"{source.file} has other layers in its {name} than {source.config} says: "
                f"{str(error).partition('. If you want')[0]}",
                CONFIG_CURE,
            ) from None
        except NotImplementedError as error:  # a weight that no tensor of the file has filled
            if "meta tensor" not in str(error):
                raise
            raise _lacking(source, name) from None
        if any(v.is_meta for v in getattr(parts[name], "state_dict", dict)().values()):
            raise _lacking(source, name)
    parts["scheduler"] = _scheduler(source, parts["scheduler"])
    cls = getattr(diffusers, family.pipeline_class)
    rest = {
        name: value
        for name, value in index.items()
        if not isinstance(value, list) and not name.startswith("_") and name not in family.load
    }
    return cls(**{**_absent(cls, parts), **parts, **rest, **family.load})


def _absent(cls: Any, parts: Mapping[str, Any]) -> dict[str, None]:
    expected, _ = cls._get_signature_keys(cls)
    return {name: None for name in expected if name not in parts}


def _renamed(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Insert the `text_model.` that some files leave out of their text encoder's names."""
    return {
        key.replace(BARE_TEXT, WRAPPED_TEXT, 1)
        if key.startswith(BARE_TEXT) and not key.startswith(WRAPPED_TEXT)
        else key: value
        for key, value in checkpoint.items()
    }


def _dtype_of(checkpoint: Mapping[str, Tensor], part: str) -> torch.dtype:
    """The number format of a part's weights in the file; fp32, if it has several."""
    import torch

    prefixes = PREFIXES.get(part, (DENOISER,))
    found = {
        value.dtype
        for key, value in checkpoint.items()
        if key.startswith(prefixes) and value.is_floating_point() and value.ndim
    }
    if len(found) == 1 and (dtype := found.pop()) in (torch.float16, torch.bfloat16):
        return dtype
    return torch.float32


def _lacking(source: SingleFile, name: str) -> BaseModelError:
    return BaseModelError(
        f"{source.file} lacks weights of the {name} that {source.config} describes", CONFIG_CURE
    )


def _scheduler(source: SingleFile, scheduler: Any) -> Any:
    """The scheduler, for what the file itself says that the UNet predicts."""
    config = dict(scheduler.config)
    if source.prediction is not None and "prediction_type" in config:
        config["prediction_type"] = source.prediction
    if source.zero_snr and "rescale_betas_zero_snr" in config:
        config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    same = config == dict(scheduler.config)
    return scheduler if same else type(scheduler).from_config(config)
