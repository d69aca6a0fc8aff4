"""Checks of an adapter before it is loaded: its tensors say what it changes, its config doesn't.

An adapter may come from somebody else. A regular expression in its config could run for ever, and
a rank could ask for any amount of memory. So the changed layers and their ranks come from the
shapes in the header of the safetensors file, and each shape is compared with the base's layer.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtune.errors import AdapterError, first_line
from mmtune.system.tensors import read_metadata

MAX_HEADER = 16 * 2**20  # bytes of a safetensors header; an adapter of 2,000 layers has 1 MiB
MAX_CONFIG = 2**20  # bytes of adapter_config.json
MAX_RANKS = 400  # layers whose rank or alpha differs from the others'; peft compares each with each
PARTS = (".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector")
OTHER_PARTS = (".lora_magnitude_vector.weight", ".lora_B.bias")
CONFIGS = "lora_adapter_metadata"  # of diffusers: peft's configs, by `part.setting`
ALPHA = ".alpha"  # of sd-scripts and LyCORIS, which may be a whole number
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
# Settings of peft that change more than pairs of matrices, or that run code on the base's weights.
UNSUPPORTED = (
    *("modules_to_save", "layer_replication", "target_parameters", "trainable_token_indices"),
    *("lora_bias", "megatron_config", "use_qalora", "use_bdlora", "arrow_config"),
)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

Shapes = Mapping[str, tuple[int, ...]]


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shapes of an adapter's tensors from its header, without the tensors.

    Raises:
        AdapterError: the file is missing, no safetensors file, or its header is too large; a
            tensor has a name that no layer can have, or isn't of a floating-point type.
    """
    from safetensors import SafetensorError, safe_open

    require_safetensors(path)
    require_small_header(path)
    try:
        shapes = {}
        with safe_open(path, "pt") as opened:
            for key in opened.keys():  # noqa: SIM118  (not a mapping)
                if not _NAME.fullmatch(key):
                    raise AdapterError(
                        f"{path} holds a tensor named {key[:80]!r}, which is no name of a layer",
                        "load an adapter that peft, diffusers or mmtune wrote",
                    )
                part = opened.get_slice(key)
                whole = key.endswith(ALPHA) and part.get_dtype() in ("I64", "I32", "I16")
                if part.get_dtype() not in ("F64", "F32", "F16", "BF16") and not whole:
                    raise AdapterError(
                        f"{path}: {key} has the type {part.get_dtype()}",
                        "save the adapter as float32, float16 or bfloat16",
                    )
                shapes[key] = tuple(part.get_shape())
        return shapes
    except (OSError, SafetensorError) as error:
        raise AdapterError(
            f"{path} can't be read: {first_line(error)}", "restore the file"
        ) from None


def json_in_metadata(path: Path, key: str) -> dict[str, Any]:
    """Read a JSON object in a safetensors file's metadata; empty if there is none.

    Raises:
        AdapterError: it can't be read.
    """
    text = read_metadata(path, AdapterError).get(key, "")
    try:
        values = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise AdapterError(
            f"{path}: {key} in its metadata is not a JSON object", "restore the file"
        )
    return values


def require_small_header(path: Path) -> None:
    """Refuse a safetensors file whose header is cut off or too large, before a library parses it.

    Raises:
        AdapterError: so, or the file can't be read.
    """
    try:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise AdapterError(
            f"{path} can't be read: {first_line(error)}", "restore the file"
        ) from None
    if header > MAX_HEADER or 8 + header > size:
        raise AdapterError(
            f"{path} is damaged: it claims a header of {header:,} bytes; the file has {size:,}, "
            f"and the limit is {MAX_HEADER:,}",
            "copy the adapter again from its source",
        )


def require_safetensors(path: Path) -> None:
    """Refuse an adapter without its safetensors file, such as one in PyTorch's pickled format.

    Raises:
        AdapterError: the file is missing.
    """
    if path.is_file():
        return
    refuse_pickled(path.parent, path.name)
    raise AdapterError(f"{path.parent} holds no {path.name}", "restore the folder")


def refuse_pickled(folder: Path, wanted: str = "safetensors file") -> None:
    """Refuse a folder that holds a file in PyTorch's pickled format.

    Args:
        folder: an adapter folder that lacks what is wanted.
        wanted: what it lacks, for the message.

    Raises:
        AdapterError: it holds such a file.
    """
    pickled = next((p for p in sorted(folder.glob("*")) if p.suffix in PICKLED), None)
    if pickled is not None:
        raise AdapterError(
            f"{folder} holds {pickled.name} and no {wanted}: a file in PyTorch's pickled format "
            "can hold code, and mmtune doesn't read it",
            "ask its author for a safetensors file, or convert it with the library that wrote it",
        )


def read_config(path: Path, kinds: Sequence[str] = ("LORA",)) -> dict[str, Any]:
    """Read a PEFT folder's adapter_config.json.

    Args:
        path: the file.
        kinds: the values of `peft_type` that the caller can use.

    Raises:
        AdapterError: it is missing, too large, no JSON, or of another kind.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG + 1)
        if len(data) > MAX_CONFIG:
            raise ValueError(f"it has more than {MAX_CONFIG:,} bytes")
        values = json.loads(data.decode("utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"it holds a JSON {type(values).__name__}, not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(
            f"{path} can't be read: {first_line(error)}", "restore the folder"
        ) from None
    if values.get("peft_type") not in kinds:
        known = "LORA alone" if len(kinds) == 1 else ", ".join(kinds)
        raise AdapterError(
            f"{path}: peft_type is {str(values.get('peft_type'))[:80]!r}; mmtune loads {known}",
            "train a LoRA adapter",
        )
    return values


def scaling_of(name: str, given: Mapping[str, Any], rank: int | None, path: Path) -> float:
    """Compute the factor that peft multiplies a layer's change by, from an adapter's config.

    Args:
        name: the layer, below the base's own names.
        given: the config of LORA, LOHA or LOKR. Its patterns are read as by `lora_settings`.
        rank: of the layer's tensors; None: they have none, as a LoKr of two whole matrices.
        path: the file that holds the config, for messages.

    Raises:
        AdapterError: the config contradicts the tensors, holds a regular expression or a value
            that isn't finite, or uses a feature that mmtune doesn't load.
    """
    refuse_unsupported(given, path)
    said = _of_layer("rank_pattern", given, name, _number("r", given, 8, path), path)
    if rank is not None and said != rank:
        raise AdapterError(
            f"{path}: the rank of {name} is {said:g}, but its tensor has rank {rank}",
            "restore the folder",
        )
    if said < 1:
        raise AdapterError(f"{path}: the rank of {name} is {said:g}", "restore the folder")
    alpha = _number("lora_alpha" if "lora_alpha" in given else "alpha", given, 8, path)
    alpha = _of_layer("alpha_pattern", given, name, alpha, path)
    return alpha / (math.sqrt(said) if given.get("use_rslora") is True else said)


def lora_settings(shapes: Shapes, given: Mapping[str, Any] | None, path: Path) -> dict[str, Any]:
    """Make the arguments of a `peft.LoraConfig` from the tensors' shapes.

    Of the adapter's own config only alpha, rsLoRA and `fan_in_fan_out` are used, and its ranks are
    compared with the tensors'. Keys of its `rank_pattern` and `alpha_pattern` are taken as names
    of layers, or as ends of such names; a regular expression is refused and never run.

    Args:
        shapes: shapes of the tensors, by names below the base's own ("model.layers.0.fc1.lora_A…").
        given: the adapter's config; None: alpha is the rank, as in diffusers.
        path: the file that holds the config, for messages.

    Raises:
        AdapterError: there is no LoRA pair, the config contradicts the tensors, holds a regular
            expression or a value that isn't finite, or uses a feature that mmtune doesn't load.
    """
    ranks = {
        key.removesuffix(PARTS[0]): shape[0]
        for key, shape in shapes.items()
        if key.endswith(PARTS[0]) and shape
    }
    halves = {key.removesuffix(part) for part in PARTS[:2] for key in shapes if key.endswith(part)}
    lost = [f"{name}{part}" for name in sorted(halves) for part in PARTS[:2]
            if f"{name}{part}" not in shapes]  # fmt: skip
    if lost:
        raise AdapterError(
            f"{path.parent}: {len(lost)} keys are missing (first: {lost[0]})",
            "restore the folder, or train the adapter again",
        )
    if not ranks:
        raise AdapterError(f"{path.parent} holds no LoRA pair", "load a LoRA adapter")
    alphas: dict[str, float] = dict(ranks)
    refuse_unsupported(given or {}, path)
    for name, rank in ranks.items() if given is not None else ():
        assert given is not None
        said = _of_layer("rank_pattern", given, name, _number("r", given, 8, path), path)
        if said != rank:
            raise AdapterError(
                f"{path}: the rank of {name} is {said:g}, but its tensor has rank {rank}",
                "restore the folder",
            )
        alpha = _number("lora_alpha", given, 8, path)
        alphas[name] = _of_layer("alpha_pattern", given, name, alpha, path)
    rank, alpha = _commonest(ranks.values()), _commonest(alphas.values())
    settings: dict[str, Any] = {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: each for name, each in ranks.items() if each != rank},
        "alpha_pattern": {name: each for name, each in alphas.items() if each != alpha},
        "target_modules": sorted(ranks),
        "use_rslora": (given or {}).get("use_rslora") is True,
        "use_dora": any(".lora_magnitude_vector" in key for key in shapes),
        "fan_in_fan_out": (given or {}).get("fan_in_fan_out") is True,
    }
    for name in ("rank_pattern", "alpha_pattern"):
        if len(settings[name]) > MAX_RANKS:
            raise AdapterError(
                f"{path}: {len(settings[name])} layers have a rank or alpha of their own; the "
                f"limit is {MAX_RANKS}",
                "save the adapter with one rank for most of its layers",
            )
    return settings


def require_bounded(shapes: Shapes, modules: Mapping[str, Any], path: Path, base: str) -> None:
    """Refuse tensors that are larger than the base's layer that they belong to.

    Args:
        shapes: as for `lora_settings`.
        modules: the base's modules by name, with or without adapters.
        path: the adapter's file, for messages.
        base: the base's name, for messages.

    Raises:
        AdapterError: a layer is unknown; a rank is greater than the layer's longer side; a
            tensor's size doesn't fit.
    """
    for key, shape in shapes.items():
        part = next((part for part in (*PARTS, *OTHER_PARTS) if key.endswith(part)), "")
        name = key.removesuffix(part)
        weight = _weight(modules.get(name)) if part else None
        if weight is None:
            raise AdapterError(
                f"{path}: the adapter doesn't fit the base {base!r}: 1 keys match nothing "
                f"(first: {key})",
                "load the adapter on the base named in its card.json",
            )
        sides = int(weight[0]), math.prod(weight[1:])
        rank = shape[0] if part == PARTS[0] else shape[1] if part == PARTS[1] and shape[1:] else 1
        numbers = math.prod(shape)
        # A's values: rank times the layer's input. B's: the layer's output times the rank.
        most = max(sides) * (rank if part in PARTS[:2] else 1)
        if not 1 <= rank <= max(sides) or numbers > most or numbers < 1:
            raise AdapterError(
                f"{path}: {key} has the shape {shape}, too large for a layer of "
                f"{sides[0]}x{sides[1]} of {base}",
                "load the adapter on the base that it was trained on; a merged adapter gets a "
                "smaller rank by --method svd",
            )


def refuse_unsupported(given: Mapping[str, Any], path: Path) -> None:
    """Refuse an adapter whose config asks for more than LoRA pairs.

    Args:
        given: peft's config.
        path: its file, for the message.

    Raises:
        AdapterError: it does.
    """
    used = [name for name in UNSUPPORTED if given.get(name)]
    if given.get("bias", "none") != "none":
        used.append("bias")
    if used:
        raise AdapterError(
            f"{path}: the adapter uses {', '.join(used)}, which mmtune doesn't load",
            "train the adapter with LoRA pairs alone",
        )


def _of_layer(
    setting: str, given: Mapping[str, Any], name: str, default: float, path: Path
) -> float:
    """The value of a pattern for a layer: the first key that is its name, or the name's end."""
    patterns = given.get(setting) or {}
    if not isinstance(patterns, Mapping):
        raise AdapterError(f"{path}: {setting} is not a mapping", "restore the folder")
    for key, value in patterns.items():
        # peft itself writes names with an anchor, or with escaped dots.
        plain = str(key).removeprefix("^").removesuffix("$").replace("\\.", ".")
        if not _NAME.fullmatch(plain):
            raise AdapterError(
                f"{path}: {setting} holds the regular expression {str(key)[:80]!r}, which mmtune "
                "doesn't run",
                "write the layers' full names in its place",
            )
        if name == plain or name.endswith(f".{plain}"):
            return _checked(value, f"{setting}[{plain}]", path)
    return default


def _number(name: str, given: Mapping[str, Any], default: float, path: Path) -> float:
    return _checked(given.get(name, default), name, path)


def _checked(value: Any, name: str, path: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise AdapterError(
            f"{path}: {name} = {str(value)[:80]} is not a finite number", "correct it"
        )
    return float(value)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:  # an integer of thousands of digits
        return False


def _commonest(values: Any) -> Any:
    return Counter(values).most_common(1)[0][0]


def _weight(module: Any) -> Sequence[int] | None:
    """The shape of a layer's own weight; None if there is no such layer."""
    inner = module.get_base_layer() if hasattr(module, "get_base_layer") else module
    shape = getattr(getattr(inner, "weight", None), "shape", None)
    return shape if shape is not None and len(shape) > 1 else None
