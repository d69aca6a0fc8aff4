"""Modules of transformers that ComfyUI finds below `transformer.`; `#` stands for a number."""

from __future__ import annotations

from mmtune.image.diffusion.families.family import JOINT_ATTENTION

MLP = ("net.0.proj", "net.2", "linear_in", "linear_out")
TWO_STREAMS = (
    *(f"transformer_blocks.#.attn.{name}" for name in JOINT_ATTENTION),
    *(f"transformer_blocks.#.{ff}.{name}" for ff in ("ff", "ff_context") for name in MLP),
    *("transformer_blocks.#.norm1.linear", "transformer_blocks.#.norm1_context.linear"),
    *("context_embedder", "proj_out", "norm_out.linear"),
    *(f"time_text_embed.{kind}_embedder.linear_#" for kind in ("timestep", "text", "guidance")),
)
SINGLE = (
    *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out", "attn.to_qkv_mlp_proj"),
    *("proj_mlp", "proj_out", "norm.linear"),
)
FLUX = (*TWO_STREAMS, *(f"single_transformer_blocks.#.{name}" for name in SINGLE), "x_embedder")
