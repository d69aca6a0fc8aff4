"""What training needs, in one file for a machine that has torch and nothing else.

python tools/starter/pack.py --work FOLDER --to PACK --files 8
python tools/starter/pack.py --join PARTS --to FOLDER/carry/unet.pt
"""

from __future__ import annotations

import argparse
import io
import lzma
from pathlib import Path

import numpy as np
import state as disk
import torch
import vae
from textnet import of_own
from train import Pack, part_of

MOST = 60_000_000  # bytes


def read(path: Path) -> Pack:
    """A pack, or the same of a work folder."""
    if path.is_dir():
        return of_work(path)
    with lzma.open(path) as file:
        kept = torch.load(io.BytesIO(file.read()), weights_only=True)
    columns = {
        "pixels": kept["pixels"].numpy(),
        "ids": kept["ids"].numpy().astype(np.uint16),
    }
    heads = {name: value.float() for name, value in kept["heads"].items()}
    return Pack(columns, kept["basis"], kept["components"], of_own(kept["text"]), heads)


def of_work(work: Path, files: int | None = None) -> Pack:
    import pool
    import textnet

    columns = pool.load(pool.files(work)[:files])
    basis = vae.basis_in(work, columns["pixels"])
    components = torch.load(work / "components.pt", weights_only=True)
    carried = work / "carry" / "unet.pt"
    if (work / "text" / "heads.pt").exists():
        text = textnet.load(work / "text")
        heads = torch.load(work / "text" / "heads.pt", weights_only=True)["heads"]
    else:  # a run that came from elsewhere has its text encoder in its state
        weights, _ = disk.unpacked(torch.load(carried, weights_only=True))
        text, heads = textnet.of_own(part_of(weights, "text")), part_of(weights, "heads")
    return Pack(columns, basis, components, text, heads)


def write(work: Path, to: Path, files: int) -> int:
    """Pack the first files of the pool; returns the pack's bytes."""
    pack = of_work(work, files)
    buffer = io.BytesIO()
    torch.save(
        {
            "pixels": torch.from_numpy(pack.columns["pixels"]),
            "ids": torch.from_numpy(pack.columns["ids"].astype(np.int16)),
            "basis": pack.basis,
            "components": pack.components,
            "text": {name: value.half() for name, value in pack.text.state_dict().items()},
            "heads": {name: value.half() for name, value in pack.heads.items()},
        },
        buffer,
    )
    data = lzma.compress(buffer.getvalue(), preset=6)
    if len(data) > MOST:
        raise SystemExit(f"{len(data) / 1e6:.1f} MB are more than {MOST / 1e6:.0f}: fewer --files")
    to.write_bytes(data)
    return len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--files", type=int, default=8, help="of the pool")
    parser.add_argument("--join", type=Path, help="a folder of parts to make --to of")
    args = parser.parse_args()
    if args.join:
        print(disk.join(args.join, args.to))
    else:
        print(f"{args.to}: {write(args.work, args.to, args.files) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
