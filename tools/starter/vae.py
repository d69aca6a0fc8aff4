"""The autoencoder: a linear encoder, principal components of 4x4 pixels, and a trained decoder.

    python tools/starter/vae.py --work FOLDER --minutes 20

Encoding is exact arithmetic, so latents can be computed anywhere with one matrix. The first 12
components hold most of a picture; the text encoder predicts those, whatever `--channels` is.
Repeating the command goes on.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from decoder import BLOCKS, set_exact
from torch import Tensor

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "starter-icons"
SIDE = 4  # pixels of a latent's side
PATCH = 3 * SIDE * SIDE
WIDE = 64
FIRST = 12  # components that the text encoder predicts
SCALE = 20.0  # the scaling factor: the decoder bends what it is given towards -3 .. 3
NOISIEST = 400  # timestep from which the U-Net draws for the decoder


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
    """AutoencoderTiny that is `encode` up to the scale, and `decode_linear`, exactly.

    With it come the masks of the weights that training may change (decoder.py).
    """
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
    masks = set_exact(vae, basis, SCALE)
    return vae, masks


def psnr(a: Tensor, b: Tensor) -> float:
    """Of pictures from -1 to 1, the mean over pictures."""
    error = ((a.clamp(-1, 1) - b) / 2).square().mean((1, 2, 3)).clamp(min=1e-10)
    return float((-10 * error.log10()).mean())


def drawn_again(drawer, x: Tensor, ids: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """What the U-Net makes of noised latents in one step: right in layout, wrong in detail."""
    from train import alphas_cumprod

    alpha = alphas_cumprod()[t].view(-1, 1, 1, 1)
    states, pooled = drawer.text(ids)
    found = drawer.unet(alpha.sqrt() * x + (1 - alpha).sqrt() * noise, t, states, pooled)
    return found.float()


def train_decoder(work: Path, channels: int, minutes: float, rate: float) -> None:
    """Train the decoder on the pool and on what the U-Net draws; writes `work`/vae-`channels`.

    What will be decoded is a prediction, not the picture's own latents. So in half of the steps
    the U-Net predicts them from noised ones, and the decoder learns to mend what it gets wrong.
    """
    import pool
    from judge import Checkpoint
    from train import Plan, fast, padded

    paths = pool.files(work)
    rows = pool.load(paths[: min(10, len(paths))])
    pixels, captions = rows["pixels"], rows["ids"]
    basis = basis_in(work, pixels)
    vae, masks = make_vae(basis, channels)
    folder = work / f"vae-{channels}"
    state = folder / "decoder.pt"
    if state.exists():
        vae.decoder.load_state_dict(torch.load(state, weights_only=True))
    drawer = Checkpoint(work) if channels == Plan().channels else None
    test, rest = to_tensor(pixels[:200]), range(200, len(pixels))
    optimizer = torch.optim.Adam(list(masks), rate, betas=(0.9, 0.99))
    rng = np.random.default_rng(int(time.time()))
    clock, used, step, done, found = time.monotonic(), 0.0, 0, 0.0, []
    test_t = torch.full((40,), 150)
    test_noise = torch.randn(40, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    test_ids = padded(torch.from_numpy(captions[:40, 0].astype(np.int64)))
    while done < 1:
        # A process that was stopped for a while was not training.
        used += min(time.monotonic() - clock, 5.0)
        clock = time.monotonic()
        done = min(1.0, used / (60 * minutes))
        optimizer.param_groups[0]["lr"] = (
            rate * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-6
        )
        chosen = rng.integers(rest.start, rest.stop, 8)
        x = to_tensor(pixels[chosen])
        z = encode(basis, x, channels)
        if drawer and step % 2:
            t = torch.from_numpy(rng.integers(0, NOISIEST, len(z)))
            which = rng.integers(0, captions.shape[1], len(z))
            ids = padded(torch.from_numpy(captions[chosen, which].astype(np.int64)))
            with torch.no_grad(), fast("cpu"):
                z = drawn_again(drawer, z, ids, t, torch.randn_like(z))
        else:
            z = z + torch.randn_like(z) * 0.08 * torch.rand(len(z), 1, 1, 1)
        error = vae.decoder(z / SCALE) - x  # in float32: counts and gates are large
        loss = error.square().mean() + 0.1 * error.abs().mean()
        optimizer.zero_grad()
        loss.backward()
        for weight, mask in masks.items():
            weight.grad *= mask
        torch.nn.utils.clip_grad_norm_(list(masks), 1.0)
        optimizer.step()
        step += 1
        found.append(loss.item())
        if step % 200 == 0 or done == 1:
            with torch.no_grad():
                z = encode(basis, test, channels)
                told = f"own {psnr(vae.decode(z / SCALE).sample, test):.2f} "
                told += f"(components {psnr(decode_linear(basis, z), test):.2f})"
                if drawer:
                    z = drawn_again(drawer, z[:40], test_ids, test_t, test_noise)
                    told += f" drawn {psnr(vae.decode(z / SCALE).sample, test[:40]):.2f} "
                    told += f"(components {psnr(decode_linear(basis, z), test[:40]):.2f})"
            print(f"{step} {done:.2f} loss {np.mean(found):.4f} dB: {told}", flush=True)
            found = []
            vae.save_pretrained(folder)
            torch.save(vae.decoder.state_dict(), state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--channels", type=int, default=24)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train_decoder(args.work, args.channels, args.minutes, args.rate)


if __name__ == "__main__":
    main()
