"""What a training leaves on disk: its state, a small one to carry elsewhere, a lock, parts.

`unet.pt` is exact and large. The folder `carry` holds what another machine needs to go on, under
60 MB in all: the weights in half precision, their average as differences in eight bits, bases and
tokenizer. A run begun from it draws its pictures again, from their seeds, and only has to collect
the optimizer's statistics anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from pathlib import Path

import torch
from torch import Tensor

PART = 15_000_000  # bytes


def save(path: Path, state: dict) -> None:
    """Write beside, then rename: a kill leaves the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    torch.save(state, partial)
    partial.replace(path)


def packed(weights: dict[str, Tensor], average: dict[str, Tensor]) -> dict:
    """Weights as halves, the average as eight-bit differences from those halves, deflated."""
    halves, steps, scales = {}, {}, {}
    for name, value in weights.items():
        halves[name] = value.detach().half().cpu()
        off = average[name].detach().float().cpu() - halves[name].float()
        scales[name] = (off.abs().max() / 127).clamp(min=1e-12)
        small = (off / scales[name]).round().to(torch.int8)
        squeezed = zlib.compress(small.contiguous().numpy().tobytes(), 6)
        steps[name] = torch.frombuffer(bytearray(squeezed), dtype=torch.uint8)
    return {"weights": halves, "steps": steps, "scales": scales}


def unpacked(state: dict) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights and average, in full precision."""
    weights = {name: value.float() for name, value in state["weights"].items()}
    average = {}
    for name, value in weights.items():
        plain = zlib.decompress(state["steps"][name].cpu().numpy().tobytes())
        steps = torch.frombuffer(bytearray(plain), dtype=torch.int8).view(value.shape)
        average[name] = value + (steps.float() * state["scales"][name].cpu()).to(value.device)
    return weights, average


# What a training needs besides its state and its pictures, and is small.
WITH_IT = ("basis.pt", "components.pt", "text/tokenizer_2", "vae-24")


def copy_missing(source: Path, to: Path, again: bool = False) -> None:
    """Copy `WITH_IT` from one folder to the other where it is missing there; or `again`."""
    for name in WITH_IT:
        for path in [source / name, *(source / name).rglob("*")]:
            target = to / path.relative_to(source)
            skip = path.name == "decoder.pt"  # vae.py's own copy of the decoder
            if path.is_file() and not skip and (again or not target.exists()):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


def split(path: Path, folder: Path, size: int = PART) -> list[Path]:
    """A file as parts of at most `size` bytes in `folder`, with a list of them."""
    folder.mkdir(parents=True, exist_ok=True)
    data, parts = path.read_bytes(), []
    for i in range(0, len(data), size):
        part = folder / f"{path.name}.{len(parts):02}"
        partial = part.with_name(part.name + ".partial")
        partial.write_bytes(data[i : i + size])
        partial.replace(part)
        parts.append(part)
    facts = {"name": path.name, "parts": len(parts), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "parts.json").write_text(json.dumps(facts) + "\n")
    return parts


def join(folder: Path, to: Path) -> Path:
    """The inverse of `split`.

    Raises:
        ValueError: the parts don't give the file that was split.
    """
    facts = json.loads((folder / "parts.json").read_text())
    parts = [folder / f"{facts['name']}.{i:02}" for i in range(facts["parts"])]
    data = b"".join(part.read_bytes() for part in parts)
    if hashlib.sha256(data).hexdigest() != facts["sha256"]:
        raise ValueError(f"{folder}: the parts don't fit together")
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = to.with_name(to.name + ".partial")
    partial.write_bytes(data)
    partial.replace(to)
    return to


class Busy(RuntimeError):
    """Another process trains in this folder."""


class Lock:
    """One training a folder: `with Lock(path)`. The file holds the process's number.

    The lock is the system's, so that one who is killed leaves none behind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Lock:
        import fcntl

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.path.open("a+")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.seek(0)
            owner = self.file.read().strip()
            self.file.close()
            raise Busy(f"already training: process {owner}, {self.path.parent}") from None
        self.file.truncate(0)
        self.file.write(str(os.getpid()))
        self.file.flush()
        return self

    def __exit__(self, *_: object) -> None:
        self.file.truncate(0)
        self.file.close()
