"""Names that other programs give to a UNet's and to CLIP's modules, for single-file adapters.

They follow the published formats: sd-scripts' `lora_unet_…` over the names of diffusers (SD 1 and
2) or of the original SDXL UNet (`input_blocks`, `middle_block`, `output_blocks`), and
`lora_te…_text_model_…` for CLIP. `kohya.py` makes whole keys from these names and adds the suffixes
(`.alpha`, `.lora_down.weight`, `.lora_up.weight`). `kohya_flux_layers.py` holds the keys of FLUX.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
OUTER = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}


def unread_by_comfy(known: Iterable[str], modules: Iterable[str]) -> list[str]:
    """Modules of a transformer that ComfyUI would pass over with "lora key not loaded".

    Args:
        known: the family's `export_names.comfy`.
    """
    patterns = [re.escape(name).replace(r"\#", r"\d+") for name in known]
    fits = re.compile("|".join(patterns))
    return [name for name in modules if not fits.fullmatch(name)]


def ldm_name(module: str, layers: int, attentive: Iterable[int]) -> str | None:
    """Give a module of SDXL's UNet its original name (Stability's generative-models).

    Args:
        module: in diffusers' name, such as `down_blocks.1.attentions.0.proj_in`.
        layers: residual layers of each level, diffusers' `layers_per_block`.
        attentive: places of the up blocks that have attention.

    Returns:
        None if the module has no such name, or none that loaders read: they expect attention at
        the place of an upsampler that has no attention before it.
    """
    if module in OUTER:
        return OUTER[module]
    block, _, rest = module.partition(".")
    if block == "mid_block":
        kind, place, inner = rest.split(".", 2)
        number = MIDDLE.get(f"{kind}.{place}")
        return None if number is None else _inside(f"middle_block.{number}", kind, inner)
    if block not in ("down_blocks", "up_blocks") or rest.count(".") < 3:
        return None
    level, kind, place, inner = rest.split(".", 3)
    first = int(level) * (layers + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + layers + 1}.0.op" if inner == "conv" else None
    if kind == "upsamplers":
        if inner != "conv" or int(level) not in set(attentive):
            return None
        return f"output_blocks.{first + layers}.2.conv"
    number = str(int(kind == "attentions"))
    if block == "down_blocks":
        return _inside(f"input_blocks.{first + int(place) + 1}.{number}", kind, inner)
    return _inside(f"output_blocks.{first + int(place)}.{number}", kind, inner)


def _inside(block: str, kind: str, inner: str) -> str | None:
    name = RESNET.get(inner) if kind == "resnets" else inner
    return None if name is None else f"{block}.{name}"


def unet_names(modules: Iterable[str], config: object, sdxl: bool) -> dict[str, str]:
    """Name a UNet's modules as sd-scripts does, without `lora_unet_` and with dots.

    SDXL gets the original names, which sd-scripts trains and other programs read too. A UNet that
    isn't built like SDXL's, such as the starter's, keeps diffusers' names for all modules.

    Args:
        modules: diffusers' names.
        config: diffusers' configuration of the UNet.
        sdxl: whether the base is an SDXL pipeline.

    Returns:
        The names, by diffusers' names.
    """
    modules = list(modules)
    found = original_names(modules, config) if sdxl else {}
    return found if len(found) == len(modules) else {module: module for module in modules}


def original_names(modules: Iterable[str], config: object) -> dict[str, str]:
    """Give a UNet's modules the names of the original code; modules without one are left out.

    Args:
        modules: diffusers' names.
        config: diffusers' configuration of the UNet.
    """
    layers = getattr(config, "layers_per_block", None)
    if not isinstance(layers, int):
        return {}
    kinds = getattr(config, "up_block_types", ())
    attentive = [i for i, kind in enumerate(kinds) if "CrossAttn" in kind]
    found = ((module, ldm_name(module, layers, attentive)) for module in modules)
    return {module: name for module, name in found if name is not None}


def clip_name(module: str, encoder: int, of: int) -> str:
    """Name a module of a CLIP text encoder as sd-scripts does.

    Args:
        module: transformers' name; newer versions of transformers leave out `text_model.`.
        encoder: 1 or 2.
        of: how many text encoders the base has.
    """
    prefix = "lora_te" if of == 1 else f"lora_te{encoder}"
    if module != "text_projection" and not module.startswith("text_model."):
        module = f"text_model.{module}"
    return f"{prefix}.{module}".replace(".", "_")
