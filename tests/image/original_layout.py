"""The inverse of diffusers' conversion: a pipeline's weights under the names of the original code.

diffusers and its users convert from the original names alone. The names are those of
https://github.com/CompVis/stable-diffusion, and for the second text encoder of
https://github.com/mlfoundations/open_clip; sd-scripts' `library/model_util.py` has the same table.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def _replaced(text: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        text = text.replace(old, new)
    return text


def unet_names(model: Any) -> dict[str, str]:
    """The original name of each weight of a UNet2DConditionModel, without its prefix."""
    layers = int(model.config.layers_per_block)
    count = len(model.config.block_out_channels)
    attended = [hasattr(block, "attentions") for block in model.up_blocks]
    found = {}
    for name in model.state_dict():
        stem, _, end = name.rpartition(".")
        if stem in UNET:
            found[name] = f"{UNET[stem]}.{end}"
            continue
        place, number, rest = name.split(".", 2)
        if place == "mid_block":
            kind, rest = number, rest
            index, rest = rest.split(".", 1)
            at = 1 if kind == "attentions" else 2 * int(index)
            tail = rest if kind == "attentions" else _replaced(rest, RESNET)
            found[name] = f"middle_block.{at}.{tail}"
            continue
        kind, index, rest = rest.split(".", 2)
        level, at = int(number), int(index)
        if place == "down_blocks":
            start = 1 + level * (layers + 1)
            if kind == "downsamplers":
                found[name] = f"input_blocks.{start + layers}.0.op.{rest.removeprefix('conv.')}"
                continue
            where = f"input_blocks.{start + at}"
        else:
            start = level * (layers + 1)
            if kind == "upsamplers":
                slot = 2 if attended[level] else 1
                found[name] = f"output_blocks.{start + layers}.{slot}.{rest}"
                continue
            where = f"output_blocks.{start + at}"
        tail = f"1.{rest}" if kind == "attentions" else f"0.{_replaced(rest, RESNET)}"
        found[name] = f"{where}.{tail}"
    assert count == len(model.up_blocks)
    return found


def vae_names(model: Any) -> dict[str, str]:
    """The original name of each weight of an AutoencoderKL, without its prefix."""
    count = len(model.config.block_out_channels)
    found = {}
    for name in model.state_dict():
        new = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        parts = new.split(".")
        if "down_blocks" in parts:
            level, kind, index = parts[2], parts[3], parts[4]
            rest = ".".join(parts[5:])
            tail = f"downsample.{rest}" if kind == "downsamplers" else f"block.{index}.{rest}"
            new = f"encoder.down.{level}.{tail}"
        elif "up_blocks" in parts:
            level, kind, index = count - 1 - int(parts[2]), parts[3], parts[4]
            rest = ".".join(parts[5:])
            tail = f"upsample.{rest}" if kind == "upsamplers" else f"block.{index}.{rest}"
            new = f"decoder.up.{level}.{tail}"
        elif "mid_block" in parts:
            side, kind, index = parts[0], parts[2], int(parts[3])
            rest = ".".join(parts[4:])
            if kind == "attentions":
                new = f"{side}.mid.attn_1.{_replaced(rest, VAE_ATTENTION)}"
            else:
                new = f"{side}.mid.block_{index + 1}.{rest}"
        found[name] = new
    return found


def open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A CLIP text model's weights as open_clip has them, without their prefix."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        name = name.removeprefix("text_model.")
        if name == "text_projection.weight":
            found["text_projection"] = value.T.contiguous()
        elif name == "embeddings.token_embedding.weight":
            found["token_embedding.weight"] = value
        elif name == "embeddings.position_embedding.weight":
            found["positional_embedding"] = value
        elif name.startswith("final_layer_norm"):
            found[name.replace("final_layer_norm", "ln_final")] = value
        elif "q_proj" in name:
            whole = [
                state_of(state, name.replace("q_proj", p)) for p in ("q_proj", "k_proj", "v_proj")
            ]
            new = name.replace("encoder.layers", "transformer.resblocks")
            new = new.replace("self_attn.q_proj.", "attn.in_proj_")
            found[new] = torch.cat(whole)
        elif "k_proj" not in name and "v_proj" not in name:
            new = name.replace("encoder.layers", "transformer.resblocks")
            found[_replaced(new, OPEN_CLIP)] = value
    return found


def state_of(state: Mapping[str, Tensor], name: str) -> Tensor:
    return state[name] if name in state else state[f"text_model.{name}"]


def original(pipeline: Any) -> dict[str, Tensor]:
    """All weights of a Stable Diffusion 1.x, 2.x or XL pipeline under their original names."""
    found = {}
    unet, vae = pipeline.unet.state_dict(), pipeline.vae.state_dict()
    for name, new in unet_names(pipeline.unet).items():
        found[f"model.diffusion_model.{new}"] = unet[name]
    for name, new in vae_names(pipeline.vae).items():
        value = vae[name]
        if ".mid.attn_1." in new and value.ndim == 2:  # a convolution there
            value = value[:, :, None, None]
        found[f"first_stage_model.{new}"] = value
    state = pipeline.text_encoder.state_dict()
    plain = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in state.items()}
    second = getattr(pipeline, "text_encoder_2", None)
    if second is None and pipeline.text_encoder.config.hidden_act == "gelu":  # 2.x
        return found | {f"cond_stage_model.model.{k}": v for k, v in open_clip(state).items()}
    first = (
        "cond_stage_model.transformer."
        if second is None
        else "conditioner.embedders.0.transformer."
    )
    found |= {f"{first}{k}": v for k, v in plain.items()}
    if second is not None:
        prefix = "conditioner.embedders.1.model."
        found |= {f"{prefix}{k}": v for k, v in open_clip(second.state_dict()).items()}
    return found


def write(
    pipeline: Any,
    path: Path,
    dtype: torch.dtype = torch.float32,
    metadata: dict[str, str] | None = None,
    more: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a pipeline as a single file."""
    tensors = {k: v.to(dtype).contiguous().clone() for k, v in original(pipeline).items()}
    save_file(tensors | dict(more or {}), path, metadata or {"format": "pt"})
    return path
