"""Hashes of contents: they identify cache entries, datasets and weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def hash_bytes(data: bytes) -> str:
    """SHA-256 of `data`, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def hash_text(text: str) -> str:
    """SHA-256 of `text` as UTF-8, in hexadecimal."""
    return hash_bytes(text.encode())


def hash_json(value: Any) -> str:
    """SHA-256 of a JSON value, in hexadecimal; the order of keys doesn't matter."""
    return hash_text(json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")))


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_tensors(named: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 of named tensors, in hexadecimal: names, dtypes, shapes and bytes, sorted by name."""
    return hash_named(sorted(named, key=lambda pair: pair[0]))


def hash_named(named: Iterable[tuple[str, Tensor]]) -> str:
    """Hash like `hash_tensors`, but take the tensors in the order given: it must be sorted."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in named:
        value = tensor.detach().to("cpu").contiguous()
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        if value.numel():
            digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
