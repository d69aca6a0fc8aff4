"""Safetensors files: written reproducibly, read with errors that help, identified by content.

The library writes a file's metadata in the order of a hash map, which differs from process to
process. So equal tensors would give other bytes, and a hash of the file would not identify them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.errors import MmtuneError, first_line
from mmtune.system.files import stream_aside
from mmtune.system.hashing import hash_named, hash_tensors

if TYPE_CHECKING:
    from torch import Tensor

METADATA = "__metadata__"  # the key of the metadata in a file's header (safetensors' format)
RESTORE = "restore the file"
PIECE = 2**24  # numbers that are looked at together, so that little memory is needed


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically; equal tensors and metadata give equal bytes.

    A file that holds equal tensors and metadata already is not written again.

    Args:
        path: the file; its folder exists.
        tensors: tensors by name; any dtype, shape and device.
        metadata: texts by name.

    Raises:
        OSError: the disk is full, or the file can't be written.
    """
    from safetensors.torch import save

    # Cloned, because safetensors refuses tensors that share memory.
    whole = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    facts = dict(metadata or {})
    if _holds(path, whole, facts):
        return
    data = save(whole, metadata=facts or None)
    size = int.from_bytes(data[:8], "little")
    with stream_aside(path) as file:
        file.write(data[:8])
        file.write(_sorted_header(data[8 : 8 + size]))
        file.write(memoryview(data)[8 + size :])


def make_reproducible(path: Path) -> None:
    """Sort the metadata of a safetensors file that a library has just written, in place.

    The length of the header stays the same, so the tensors are not moved.
    """
    with path.open("r+b") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
        file.seek(8)
        file.write(_sorted_header(header))


def load_tensors(
    path: Path, kind: type[MmtuneError] = MmtuneError, cure: str = RESTORE
) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file into memory.

    The file is read, not memory-mapped: a disk error raises here instead of killing the process.

    Args:
        path: the file.
        kind: the error to raise.
        cure: what the error advises.

    Raises:
        MmtuneError: of `kind`: the file is missing, can't be read, or is no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return dict(load(path.read_bytes()))
    except FileNotFoundError:
        raise kind(f"{path} is missing", cure) from None
    except OSError as error:
        raise kind(f"{path} can't be read: {error.strerror or error}", cure) from None
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise kind(f"{path} is damaged: {first_line(error)}", cure) from None


def read_metadata(
    path: Path, kind: type[MmtuneError] = MmtuneError, cure: str = RESTORE
) -> dict[str, str]:
    """Read the metadata of a safetensors file; empty if it has none. Arguments: `load_tensors`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except FileNotFoundError:
        raise kind(f"{path} is missing", cure) from None
    except (OSError, SafetensorError) as error:
        raise kind(f"{path} is damaged: {first_line(error)}", cure) from None


def tensors_hash(
    path: Path,
    kind: type[MmtuneError] = MmtuneError,
    cure: str = RESTORE,
    *,
    finite: bool = False,
) -> str:
    """Hash the tensors of a safetensors file like `hash_tensors`, one tensor at a time.

    Metadata and the order in the file don't change the hash. The file is never in memory whole.

    Args:
        path, kind, cure: see `load_tensors`.
        finite: refuse NaN and infinite values too.

    Raises:
        MmtuneError: see `load_tensors` and `require_finite`.
    """
    from safetensors import SafetensorError, safe_open

    def named() -> Iterator[tuple[str, Tensor]]:
        with safe_open(path, "pt") as file:
            for name in sorted(file.keys()):
                tensor = file.get_tensor(name)
                if finite:
                    require_finite({name: tensor}, path, kind, cure)
                yield name, tensor

    try:
        return hash_named(named())
    except FileNotFoundError:
        raise kind(f"{path} is missing", cure) from None
    except (OSError, SafetensorError, RuntimeError) as error:
        raise kind(f"{path} is damaged: {first_line(error)}", cure) from None


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that holds NaN or an infinite value; None if none does.

    Whole numbers are always finite.
    """
    import torch

    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.is_meta:
            continue
        flat = tensor.detach().reshape(-1)
        for start in range(0, flat.numel(), PIECE):
            piece = flat[start : start + PIECE]
            # torch has no isfinite for its 8-bit formats.
            value = piece.float() if piece.element_size() == 1 else piece
            if not bool(torch.isfinite(value).all()):
                return name
    return None


def require_finite(
    tensors: Mapping[str, Tensor],
    source: Path | str,
    kind: type[MmtuneError] = MmtuneError,
    cure: str = RESTORE,
) -> None:
    """Refuse tensors that hold NaN or infinite values.

    Args:
        tensors: tensors by name.
        source: the file or model, for the error.
        kind, cure: see `load_tensors`.

    Raises:
        MmtuneError: of `kind`: a tensor isn't finite; the error names it.
    """
    name = not_finite(tensors)
    if name is not None:
        raise kind(f"{source}: the weights {name} hold NaN or infinite values", cure)


def _holds(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bool:
    if not os.path.lexists(path):
        return False
    try:
        same = read_metadata(path) == metadata
        return same and tensors_hash(path) == hash_tensors(tensors.items())
    except MmtuneError:
        return False


def _sorted_header(header: bytes) -> bytes:
    """The header with sorted metadata, padded with spaces to its length as the format allows."""
    values = json.loads(header)
    facts = values.pop(METADATA, None)
    first = {} if facts is None else {METADATA: dict(sorted(facts.items()))}
    # The library sorts the other entries by dtype and name.
    text = json.dumps(first | values, ensure_ascii=False, separators=(",", ":")).encode()
    if len(text) > len(header):
        raise ValueError("the sorted header is longer than the header")
    return text.ljust(len(header))
