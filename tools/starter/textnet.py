"""The text encoder in plain torch: the same weights as CLIPTextModelWithProjection's.

For training on a machine that has torch alone. A test compares the two.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from unet import attended

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
        y = attended(q, k, v, causal=True)
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


NAMES = {
    "text_model.embeddings.token_embedding.": "token.",
    "text_model.embeddings.position_embedding.": "position.",
    "text_model.encoder.layers.": "layers.",
    "text_model.final_layer_norm.": "final.",
    "text_projection.": "projection.",
}


def renamed(weights: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    found = {}
    for key, value in weights.items():
        old = next((n for n in names if key.startswith(n)), None)
        if old:
            found[names[old] + key.removeprefix(old)] = value
    return found


def of_own(weights: dict[str, Tensor]) -> TextNet:
    """From a TextNet's state dict, with three heads."""
    vocabulary, width = weights["token.weight"].shape
    layers = 1 + max(int(key.split(".")[1]) for key in weights if key.startswith("layers."))
    net = TextNet(vocabulary, width, len(weights["position.weight"]), layers, 3)
    net.load_state_dict({name: value.float() for name, value in weights.items()})
    return net


def converted(weights: dict[str, Tensor]) -> TextNet:
    """From the state dict of a CLIPTextModelWithProjection with three heads."""
    whole = {k if k.startswith("text_") else f"text_model.{k}": v for k, v in weights.items()}
    return of_own(renamed(whole, NAMES))


def theirs(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `converted`: the state dict of a CLIPTextModelWithProjection."""
    return renamed(weights, {own: their for their, own in NAMES.items()})


def load(folder: Path) -> TextNet:
    """From a folder that holds text_encoder_2."""
    from safetensors.torch import load_file

    return converted(load_file(folder / "text_encoder_2" / "model.safetensors"))
