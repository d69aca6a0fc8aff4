"""The autoencoder: principal components of 4x4 pixels, and back.

    python tools/starter/vae.py --work FOLDER

Encoding is exact arithmetic, so latents can be computed anywhere with one matrix. The first 12
components hold most of a picture; the text encoder predicts those, whatever `--channels` is. The
decoder is exact too (decoder.py).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from decoder import BLOCKS, set_exact
from torch import Tensor

SIDE = 4  # pixels of a latent's side
PATCH = 3 * SIDE * SIDE
WIDE = 64
FIRST = 12  # components that the text encoder predicts
SCALE = 20.0  # the scaling factor: the decoder bends what it is given towards -3 .. 3


def patches(x: Tensor) -> Tensor:
    """(n, 3, h, w) -> (n, 48, h / 4, w / 4)."""
    return F.pixel_unshuffle(x, SIDE)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 (n, 64, 64, 3) -> (n, 3, 64, 64) from -1 to 1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def fit_basis(pixels: np.ndarray, power: float = 0.5) -> dict[str, Tensor]:
    """`mean` (48,), `axes` (48, 48), rows by falling variance, and each one's `gain` (48,).

    power: 0 leaves components as large as they are, 1 makes all of unit size. Fine detail is
    small, and what is small drowns in the noise of all but the last steps.
    """
    x = patches(to_tensor(pixels)).permute(0, 2, 3, 1).reshape(-1, PATCH).double()
    mean = x.mean(0)
    values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    values, axes = values.flip(0), vectors.flip(1).T
    gain = values ** (-power / 2)
    gain = gain / (values * gain**2)[:FIRST].mean().sqrt()
    return {"mean": mean.float(), "axes": axes.float(), "gain": gain.float()}


def basis_in(work: Path, pixels: np.ndarray) -> dict[str, Tensor]:
    """The basis of this work folder, fitted to the pixels on first use."""
    path = work / "basis.pt"
    if not path.exists():
        torch.save(fit_basis(pixels[:8000]), path)
    return torch.load(path, weights_only=True)


def fast() -> bool:
    """Whether bfloat16 pays on this processor."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def encode(basis: dict[str, Tensor], x: Tensor, channels: int) -> Tensor:
    """(n, 3, 64, 64) from -1 to 1 -> scaled latents (n, channels, 16, 16)."""
    centred = patches(x) - basis["mean"].view(1, -1, 1, 1)
    axes = basis["axes"][:channels] * basis["gain"][:channels, None]
    return torch.einsum("kp,nphw->nkhw", axes, centred)


def decode_linear(basis: dict[str, Tensor], latents: Tensor) -> Tensor:
    """The picture of the latents by the components alone."""
    k = latents.shape[1]
    axes = basis["axes"][:k] / basis["gain"][:k, None]
    flat = torch.einsum("kp,nkhw->nphw", axes, latents)
    return F.pixel_shuffle(flat + basis["mean"].view(1, -1, 1, 1), SIDE)


def make_vae(basis: dict[str, Tensor], channels: int):
    """AutoencoderTiny that is `encode` up to the scale, and `decode_linear`, exactly."""
    from diffusers import AutoencoderTiny

    vae = AutoencoderTiny(
        encoder_block_out_channels=(WIDE,) * 3,
        decoder_block_out_channels=(WIDE,) * 3,
        num_encoder_blocks=(0, 0, 0),
        num_decoder_blocks=BLOCKS,
        latent_channels=channels,
        scaling_factor=1.0,
    )
    convs = [m for m in vae.encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.no_grad():
        for conv in convs:
            conv.weight.zero_()
            if conv.bias is not None:
                conv.bias.zero_()
        # The encoder is given (x + 1) / 2. The first convolution copies, the next two stack 2x2
        # neighbours (channel, row, column, as pixel_unshuffle does), the last projects.
        convs[0].weight[range(3), range(3), 1, 1] = 1.0
        place = {}
        for c in range(3):
            for i in range(2):
                for j in range(2):
                    convs[1].weight[4 * c + 2 * i + j, c, 1 + i, 1 + j] = 1.0
                    place[4 * c + 2 * i + j] = (c, i, j)
        for k, (c, i, j) in place.items():
            for a in range(2):
                for b in range(2):
                    row, column = 2 * a + i, 2 * b + j
                    convs[2].weight[SIDE * SIDE * c + SIDE * row + column, k, 1 + a, 1 + b] = 1.0
        axes = basis["axes"][:channels] * basis["gain"][:channels, None] / SCALE
        convs[3].weight[:, :PATCH, 1, 1] = 2 * axes
        convs[3].bias.copy_(-(axes @ (basis["mean"] + 1)))
    vae.register_to_config(scaling_factor=SCALE, force_upcast=False)
    set_exact(vae, basis, SCALE)
    return vae


def psnr(a: Tensor, b: Tensor) -> float:
    """Of pictures from -1 to 1, the mean over pictures."""
    error = ((a.clamp(-1, 1) - b) / 2).square().mean((1, 2, 3)).clamp(min=1e-10)
    return float((-10 * error.log10()).mean())


def main() -> None:
    import pool

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--channels", type=int, default=24)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pixels = pool.load(pool.files(args.work)[:10])["pixels"]
    basis = basis_in(args.work, pixels)
    vae, x = make_vae(basis, args.channels), to_tensor(pixels[:200])
    folder = args.work / f"vae-{args.channels}"
    vae.save_pretrained(folder)
    with torch.no_grad():
        found = psnr(vae.decode(encode(basis, x, args.channels) / SCALE).sample, x)
    print(f"{folder}: {found:.1f} dB on 200 pictures of the pool")


if __name__ == "__main__":
    main()
