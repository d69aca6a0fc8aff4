"""The text encoder in plain torch: the same weights as CLIPTextModelWithProjection's.

For training on a machine that has torch alone. A test compares the two.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

END = 1  # the token that ends a caption and fills the rest


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.self_attn = nn.ModuleDict(
            {f"{n}_proj": nn.Linear(width, width) for n in ("q", "k", "v", "out")}
        )
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)}
        )

    def forward(self, x: Tensor) -> Tensor:
        y, a = self.layer_norm1(x), self.self_attn
        q, k, v = (a[f"{n}_proj"](y).unflatten(2, (self.heads, -1)).transpose(1, 2) for n in "qkv")
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + a["out_proj"](y.transpose(1, 2).flatten(2))
        y = self.mlp["fc1"](self.layer_norm2(x))
        return x + self.mlp["fc2"](y * torch.sigmoid(1.702 * y))


class TextNet(nn.Module):
    """ids (n, 36) -> states (n, 36, width) of the last but one layer, and pooled (n, width)."""

    def __init__(self, vocabulary: int, width: int, length: int, layers: int, heads: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.layers = nn.ModuleList([Layer(width, heads) for _ in range(layers)])
        self.final = nn.LayerNorm(width)
        self.projection = nn.Linear(width, width, bias=False)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.token(ids) + self.position.weight
        for layer in self.layers[:-1]:
            x = layer(x)
        last = self.final(self.layers[-1](x))
        end = (ids == END).int().argmax(1)
        return x, self.projection(last[torch.arange(len(ids), device=ids.device), end])


def converted(weights: dict[str, Tensor]) -> TextNet:
    """From the state dict of a CLIPTextModelWithProjection with three heads."""
    names = {
        "embeddings.token_embedding.": "token.",
        "embeddings.position_embedding.": "position.",
        "encoder.layers.": "layers.",
        "final_layer_norm.": "final.",
        "text_projection.": "projection.",
    }
    own = {}
    for key, value in weights.items():
        key = key.removeprefix("text_model.")
        for old, new in names.items():
            if key.startswith(old):
                own[new + key.removeprefix(old)] = value.float()
    vocabulary, width = own["token.weight"].shape
    layers = 1 + max(int(key.split(".")[1]) for key in own if key.startswith("layers."))
    net = TextNet(vocabulary, width, len(own["position.weight"]), layers, 3)
    net.load_state_dict(own)
    return net.eval().requires_grad_(False)


def load(folder: Path) -> TextNet:
    """From a folder that holds text_encoder_2."""
    from safetensors.torch import load_file

    return converted(load_file(folder / "text_encoder_2" / "model.safetensors"))
