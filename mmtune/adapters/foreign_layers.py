"""The layers of an adapter of another program, each turned into one pair of LoRA by exact algebra.

A file holds several tensors for each layer that it changes. Their names say what they are: LoRA
and LoCon (`lora_down`, `lora_up`, `lora_mid`), LoHa (`hada_…`, arXiv 2108.06098), LoKr (`lokr_…`,
arXiv 2309.14859) or a whole difference (`diff`). Each kind is a matrix product B A, and all factors
are folded into B, so that alpha is the rank:

- LoHa: (B1 A1) ∘ (B2 A2) = B A, where B's columns are all products of a column of B1 and one of
  B2, and A's rows all products of a row of A1 and one of A2 (rank r²).
- LoKr: (B1 A1) ⊗ (B2 A2) = (B1 ⊗ B2) (A1 ⊗ A2) (rank r1 r2).
- A rank above the layer's shorter side is replaced by that side: ΔW = I ΔW or ΔW I.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmtune.adapters.foreign import MAX_RANKS
from mmtune.adapters.lora import plain_config
from mmtune.errors import AdapterError

# The end of a tensor's name, and what the tensor is. The longer ends come first.
ENDS = {
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_magnitude_vector.weight": "magnitude",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_magnitude_vector": "magnitude",
    ".lora_down.weight": "down",
    ".lora.down.weight": "down",
    "_lora.down.weight": "down",
    ".lora_mid.weight": "mid",
    ".lora_up.weight": "up",
    ".lora.up.weight": "up",
    "_lora.up.weight": "up",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".dora_scale": "dora_scale",
    ".alpha": "alpha",
    ".diff": "diff",
    **{f".hada_{name}": f"hada_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{
        f".lokr_{name}": f"lokr_{name}"
        for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
    },
}
# What isn't a change of a layer's weight by a matrix, with a name for the message.
UNREADABLE = {
    ".oft_blocks": "OFT",
    ".oft_diag": "OFT",
    ".oft_R.weight": "OFT",
    ".a1.weight": "GLoRA",
    ".a2.weight": "GLoRA",
    ".b1.weight": "GLoRA",
    ".b2.weight": "GLoRA",
    ".bm.weight": "GLoRA",
    ".on_input": "(IA)³",
    ".ia3_l": "(IA)³",
    ".w_norm": "trained norms",
    ".b_norm": "trained norms",
    ".diff_b": "trained biases",
    ".lora_B.bias": "trained biases",
    ".lora_up.bias": "trained biases",
    ".lora_embedding_A": "trained embeddings",
    ".lora_embedding_B": "trained embeddings",
}
KINDS = {
    "down": "LoRA",
    "hada_w1_a": "LoHa",
    "lokr_w1": "LoKr",
    "lokr_w1_a": "LoKr",
    "diff": "whole difference",
}


@dataclass(frozen=True)
class Pair:
    """A layer's change as LoRA of the strength 1.

    Attributes:
        down: A, [rank, in] or [rank, in, height, width].
        up: B, [out, rank] or [out, rank, 1, 1].
        magnitude: DoRA's length of each row of the changed weight, [out]; None: no DoRA.
    """

    down: Tensor
    up: Tensor
    magnitude: Tensor | None = None


def split_name(key: str) -> tuple[str, str] | None:
    """Split a tensor's name into its layer and what the tensor is; None for an unknown name."""
    for end, part in ENDS.items():
        if key.endswith(end) and len(key) > len(end):
            return key.removesuffix(end), part
    return None


def keys_by_layer(keys: Iterable[str], file: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Group the names of a file's tensors by the layer that they change.

    Args:
        keys: the names.
        file: the file, for messages.

    Returns:
        By the layer's name in the file, the names of its tensors by what they are; and the names
        that aren't known.

    Raises:
        AdapterError: a tensor is of a kind that no LoRA can express.
    """
    layers: dict[str, dict[str, str]] = {}
    unknown = []
    for key in keys:
        kind = next((kind for end, kind in UNREADABLE.items() if key.endswith(end)), None)
        if kind is not None:
            raise AdapterError(
                f"{file} holds {kind} ({key}), which no LoRA can express, so mmtune doesn't read "
                "it",
                "give an adapter of LoRA, LoCon, LoHa, LoKr or DoRA",
            )
        split = split_name(key)
        if split is None:
            unknown.append(key)
        else:
            layers.setdefault(split[0], {})[split[1]] = key
    return layers, unknown


def require_all_known(
    unknown: Collection[str], count: int, file: Path, base: str, cure: str
) -> None:
    """Refuse a file of which some tensors would be dropped.

    Args:
        unknown: names of tensors that belong to no layer of the base.
        count: the number of all tensors.
        file, base: for the message.
        cure: what helps.

    Raises:
        AdapterError: there are such tensors.
    """
    if unknown:
        raise AdapterError(
            f"{file}: {len(unknown)} of {count} keys belong to no layer of {base} that an adapter "
            f"can change (first: {min(unknown)})",
            cure,
        )


def counted(kinds: Iterable[str]) -> str:
    """List kinds with their counts: "LoHa x 2, LoRA x 30"."""
    return ", ".join(f"{kind} x {count}" for kind, count in sorted(Counter(kinds).items()))


def kind_of(parts: Iterable[str]) -> str:
    """Name the kind of a layer's tensors, such as "LoHa"; empty if none is complete."""
    names = set(parts)
    found = next((kind for name, kind in KINDS.items() if name in names), "")
    dora = "magnitude" in names or "dora_scale" in names
    return f"{found} with DoRA" if found and dora else found


def weight_shape(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Compute the shape [out, in] of the linear layer that tensors of these shapes change.

    Raises:
        ValueError: the tensors are incomplete, or belong to no linear layer.
    """
    try:
        if "down" in shapes:
            found: tuple[int, ...] = (shapes["up"][0], *shapes["down"][1:])
        elif "hada_w1_a" in shapes:
            found = (shapes["hada_w1_a"][0], shapes["hada_w1_b"][1])
        elif "diff" in shapes:
            found = shapes["diff"]
        else:
            sides = []
            for name in ("lokr_w1", "lokr_w2"):
                whole = shapes.get(name)
                sides.append(whole or (shapes[f"{name}_a"][0], shapes[f"{name}_b"][1]))
            found = (sides[0][0] * sides[1][0], sides[0][1] * sides[1][1])
    except (KeyError, IndexError):
        raise ValueError(f"it has only {', '.join(sorted(shapes))}") from None
    if len(found) != 2:
        raise ValueError("its layer isn't linear")
    return found


def own_rank(parts: Mapping[str, Tensor]) -> int | None:
    """Return the rank that alpha is divided by; None where alpha has no effect (a whole LoKr)."""
    for name in ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
        if name in parts and parts[name].ndim:
            return len(parts[name])
    return None


def to_pair(
    parts: Mapping[str, Tensor], shape: tuple[int, ...], scale: float | None = None
) -> Pair:
    """Turn the tensors of one layer into a pair.

    Args:
        parts: tensors by the values of `ENDS`.
        shape: of the layer's weight, [out, in] or [out, in, height, width].
        scale: factor on the change; None: alpha / rank, or 1 without an alpha.

    Returns:
        A pair in float32 whose product is the layer's change; it is computed in float64.

    Raises:
        AdapterError: the tensors are incomplete, or don't fit the shape.
    """
    wide = {name: tensor.double() for name, tensor in parts.items()}
    if scale is None:
        scale = _scale(wide)
    try:
        down, up = _factors(wide, shape)
        least = min(shape[0], math.prod(shape[1:]))
        if len(down) > least:
            down, up = _shortest(up @ down.flatten(1), shape)
        up = up * scale
        return Pair(
            down.reshape(len(down), *shape[1:]).float().contiguous(),
            up.reshape(shape[0], len(down), *(1 for _ in shape[2:])).float().contiguous(),
            _magnitude(wide, shape),
        )
    except KeyError as error:
        raise AdapterError(
            f"{error.args[0]} is missing; it has {', '.join(sorted(parts))}", "restore the file"
        ) from None
    except (RuntimeError, ValueError, IndexError) as error:
        found = ", ".join(f"{name} {tuple(part.shape)}" for name, part in sorted(parts.items()))
        raise AdapterError(
            f"its tensors don't fit a weight of {'x'.join(map(str, shape))}: {found}"
            + (f" ({error})" if isinstance(error, ValueError) else ""),
            "load the adapter on the base that it was trained on",
        ) from None


def split_rows(pair: Pair, sizes: Iterable[int]) -> list[Pair | None]:
    """Divide the change of a layer that is several layers of the base, one below the other.

    Args:
        sizes: outputs of each of the base's layers.

    Returns:
        A pair for each; None where nothing changes. Ranks that a part doesn't use are left out.
    """
    found: list[Pair | None] = []
    row = 0
    for size in sizes:
        up = pair.up[row : row + size]
        used = up.flatten(1).any(0)
        magnitude = None if pair.magnitude is None else pair.magnitude[row : row + size]
        row += size
        if bool(used.any()) or magnitude is not None:
            used = used if bool(used.any()) else torch.arange(len(used)) == 0
            kept = Pair(pair.down[used].contiguous(), up[:, used].contiguous(), magnitude)
            found.append(kept)
        else:
            found.append(None)
    return found


def padded(pair: Pair, rank: int) -> Pair:
    """Append zeros to both halves, up to a rank; the product stays the same."""
    more = rank - len(pair.down)
    if more <= 0:
        return pair
    down = torch.cat([pair.down, pair.down.new_zeros(more, *pair.down.shape[1:])])
    zeros = pair.up.new_zeros(pair.up.shape[0], more, *pair.up.shape[2:])
    return Pair(down, torch.cat([pair.up, zeros], 1), pair.magnitude)


def common_rank(ranks: Mapping[str, int], longest: Mapping[str, int], most: int) -> int:
    """Choose the rank up to which smaller ranks are padded, so that few layers differ from it.

    Args:
        ranks: by layer.
        longest: the largest rank that each layer may have.
        most: how many layers may have another rank.

    Returns:
        A rank; 0: nothing needs to be padded.
    """
    for rank in (0, *sorted(set(ranks.values()))):
        now = [rank if own < rank <= longest[name] else own for name, own in ranks.items()]
        commonest = max((now.count(each) for each in set(now)), default=0)
        if len(now) - commonest <= most:
            return rank
    return 0


def as_lora(pairs: Mapping[str, Pair], **given: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Write pairs as the tensors and the config of one adapter in PEFT's form.

    Small ranks are padded where too many would differ (`common_rank`).

    Args:
        pairs: by the layer's name.
        given: further settings of `peft.LoraConfig`.

    Returns:
        The tensors by PEFT's names below the model, and the config as plain values.
    """
    from peft import LoraConfig

    ranks = {name: len(pair.down) for name, pair in pairs.items()}
    longest = {name: max(len(pair.up), pair.down[0].numel()) for name, pair in pairs.items()}
    rank = common_rank(ranks, longest, MAX_RANKS)
    state: dict[str, Tensor] = {}
    for name, pair in pairs.items():
        whole = padded(pair, rank) if rank <= longest[name] else pair
        ranks[name] = len(whole.down)
        state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"] = whole.down, whole.up
        if whole.magnitude is not None:
            # peft keeps those of a convolution as [1, out, 1, 1].
            ones = (1,) * (whole.up.ndim - 2)
            magnitude = whole.magnitude.view(1, -1, *ones) if ones else whole.magnitude
            state[f"{name}.lora_magnitude_vector"] = magnitude
    common = Counter(ranks.values()).most_common(1)[0][0]
    others = {name: each for name, each in ranks.items() if each != common}
    config = LoraConfig(
        r=common,
        lora_alpha=common,
        rank_pattern=others,
        alpha_pattern=dict(others),
        target_modules=sorted(ranks),
        use_dora=any(pair.magnitude is not None for pair in pairs.values()),
        **given,
    )
    return state, plain_config(config.to_dict())


def _scale(parts: Mapping[str, Tensor]) -> float:
    alpha, rank = parts.get("alpha"), own_rank(parts)
    if alpha is None or rank is None:
        return 1.0
    if alpha.numel() != 1:
        raise AdapterError(f"its alpha has the shape {tuple(alpha.shape)}", "restore the file")
    return float(alpha) / rank


def _factors(parts: Mapping[str, Tensor], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The halves A and B, whose inputs may be flattened; the product isn't scaled yet."""
    out, ins = shape[0], math.prod(shape[1:])
    rank = own_rank(parts) or 1
    if not 1 <= rank <= max(out, ins):
        raise ValueError(f"the rank {rank} is too large")
    if "down" in parts:
        return _lora(parts, out, ins)
    if "diff" in parts:
        whole = parts["diff"]
        if whole.shape[0] != out or whole.numel() != out * ins:
            raise ValueError("diff has another shape")
        return _shortest(whole.reshape(out, ins), shape)
    if "hada_w1_a" in parts:
        return _loha(parts, shape)
    return _lokr(parts, shape)


def _lora(parts: Mapping[str, Tensor], out: int, ins: int) -> tuple[Tensor, Tensor]:
    down, up = parts["down"], parts["up"].flatten(1)
    if "mid" in parts:  # Tucker: up [out, r], mid [r, r, h, w], down [r, in]
        middle = parts["mid"]
        if middle.shape[:2] != (len(down), len(down)):
            raise ValueError("the shape of mid")
        down = torch.einsum("ij...,jp->ip...", middle, down.flatten(1))
    down = down.flatten(1)
    if down.shape[1] != ins or up.shape[0] != out or up.shape[1] != len(down):
        raise ValueError("the shapes of up and down")
    return down, up


def _loha(parts: Mapping[str, Tensor], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    out, ins = shape[0], math.prod(shape[1:])
    halves = []
    for number in "12":
        up, down = parts[f"hada_w{number}_a"], parts[f"hada_w{number}_b"]
        if f"hada_t{number}" in parts:  # Tucker: both are [rank, …]
            down = _tucker(parts[f"hada_t{number}"], down, up, shape)
            up = up.T
        down = down.flatten(1)
        if up.shape != (out, len(down)) or down.shape[1] != ins:
            raise ValueError(f"the shapes of w{number}")
        halves.append((down, up))
    (down1, up1), (down2, up2) = halves
    if len(down1) * len(down2) > min(out, ins):
        return _shortest((up1 @ down1) * (up2 @ down2), shape)
    down = (down1[:, None] * down2[None]).flatten(0, 1)
    up = (up1[:, :, None] * up2[:, None]).flatten(1)
    return down, up


def _lokr(parts: Mapping[str, Tensor], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    out, ins, size = shape[0], math.prod(shape[1:]), math.prod(shape[2:])
    halves = []
    for number in "12":
        name = f"lokr_w{number}"
        if name in parts:
            whole = parts[name]
            down, up = _shortest(whole.flatten(1), tuple(whole.flatten(1).shape))
        else:
            up, down = parts[f"{name}_a"], parts[f"{name}_b"]
            if number == "2" and "lokr_t2" in parts:
                down = _tucker(parts["lokr_t2"], down, up, shape)
                up = up.T
            down = down.flatten(1)
        if up.shape[1] != len(down):
            raise ValueError(f"the shapes of w{number}")
        halves.append((down, up))
    (down1, up1), (down2, up2) = halves
    if up1.shape[0] * up2.shape[0] != out or down1.shape[1] * down2.shape[1] != ins:
        raise ValueError("w1 and w2 together have another shape")
    # The kernel's places belong to w2, and are the last to vary.
    if down2.shape[1] % size:
        raise ValueError("the shape of w2")
    if len(down1) * len(down2) > min(out, ins):
        return _shortest(torch.kron(up1 @ down1, up2 @ down2), shape)
    return torch.kron(down1, down2), torch.kron(up1, up2)


def _tucker(core: Tensor, down: Tensor, up: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A core [rank, rank, height, width] with its factor of the inputs, [rank, in]."""
    rank = len(down)
    if core.shape != (rank, rank, *shape[2:]) or len(up) != rank:
        raise ValueError("the shape of the core")
    return torch.einsum("ij...,jp->ip...", core, down)


def _shortest(whole: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A matrix as a product with the identity, on its shorter side."""
    out, ins = shape[0], math.prod(shape[1:])
    if out <= ins:
        return whole, torch.eye(out, dtype=whole.dtype)
    return torch.eye(ins, dtype=whole.dtype), whole


def _magnitude(parts: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor | None:
    given = parts.get("magnitude")
    if "dora_scale" in parts:
        # LyCORIS keeps the lengths of rows, [out, 1, …], or in earlier versions of columns.
        given = parts["dora_scale"]
        if not given.ndim or given.shape[0] != shape[0]:
            raise ValueError("DoRA over a weight's inputs can't be loaded")
    if given is None:
        return None
    if given.numel() != shape[0]:
        raise ValueError("the number of DoRA's magnitudes")
    return given.flatten().float()
