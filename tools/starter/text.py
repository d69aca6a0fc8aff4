"""The text encoder: taught to hold the captioned picture before any diffusion starts.

    python tools/starter/text.py --work runs/starter

A small diffusion model spends most of its training on learning what the words mean. Here
the words are learned first, by regression, which takes minutes: CLIP's text model is
causal, so the positions behind the caption see all of it. The last 16 of them each hold
one region of a 4x4 grid of the picture's latents, readable by one linear layer; the pooled
vector holds its principal components. The linear layers are thrown away. What is left is
an ordinary CLIPTextModelWithProjection whose states a U-Net only has to look up.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import vae
from torch import Tensor, nn

LENGTH, GRID, WIDTH, LAYERS = 36, 16, 192, 4
COMPONENTS = 96


def make_tokenizer(texts: list[str]):
    """A CLIPTokenizer whose merges come from the texts; other words fall into pieces."""
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer
    from transformers import CLIPTokenizer

    special = ["<|startoftext|>", "<|endoftext|>"]
    # CLIP's own normalizer and pre-tokenizer, so that training and use split alike.
    empty = CLIPTokenizer(vocab={s: i for i, s in enumerate(special)}, merges=[])
    backend = empty.backend_tokenizer
    backend.model = BPE(end_of_word_suffix="</w>", continuing_subword_prefix="")
    letters = ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=2000,
        min_frequency=2,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
        continuing_subword_prefix="",
    )
    backend.train_from_iterator(texts, trainer)
    model = json.loads(backend.to_str())["model"]
    vocab = dict(model["vocab"])
    for letter in sorted(letters):  # every byte alone and at a word's end: nothing is unknown
        for piece in (letter, letter + "</w>"):
            vocab.setdefault(piece, len(vocab))
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]
    return CLIPTokenizer(
        vocab=vocab,
        merges=merges,
        model_max_length=LENGTH,
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
    )


def make_encoder(vocab_size: int):
    """An untrained CLIPTextModelWithProjection: 36 tokens, 192 wide, 4 layers."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=3,
        max_position_embeddings=LENGTH,
        projection_dim=WIDTH,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        attention_dropout=0.05,
    )
    return CLIPTextModelWithProjection(config)


def load_encoder(folder: Path):
    """The encoder that `train_text` or an exported pipeline left in `folder`, in fp32."""
    from transformers import CLIPTextModelWithProjection

    return CLIPTextModelWithProjection.from_pretrained(
        folder / "text_encoder_2", dtype=torch.float32
    )


def tokens(tokenizer, captions: list[str]) -> torch.Tensor:
    """int64 (n, 36), padded with the end token as StableDiffusionXLPipeline does."""
    return tokenizer(
        captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
    ).input_ids


def encode(encoder, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The states that SDXL uses: (n, 36, 192), last but one layer, and pooled (n, 192)."""
    out = encoder(ids, output_hidden_states=True)
    return out.hidden_states[-2], out.text_embeds


def regions(latents: torch.Tensor) -> torch.Tensor:
    """(n, 12, 16, 16) -> (n, 16, 192): a 4x4 grid, row by row, of 12 x 4 x 4 values."""
    n = len(latents)
    x = latents.reshape(n, 12, 4, 4, 4, 4).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(n, GRID, 192)


def from_regions(x: torch.Tensor) -> torch.Tensor:
    """The inverse of `regions`."""
    n = len(x)
    return x.reshape(n, 4, 4, 12, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(n, 12, 16, 16)


class Heads(nn.Module):
    """The throw-away readers: one region per position, and the pooled components."""

    def __init__(self) -> None:
        super().__init__()
        self.region = nn.Linear(WIDTH, 192)
        self.pooled = nn.Linear(WIDTH, COMPONENTS)
        self.place = nn.Linear(WIDTH, GRID)


def rescale(encoder, heads: Heads, states: float, pooled: float) -> None:
    """Multiply the residual stream by `states` and the pooled vector by `pooled`, exactly.

    Every branch of a pre-norm transformer starts with a layer norm, which takes the factor
    out again; so scaling the embeddings and what each branch adds scales all the states.
    """
    text = getattr(encoder, "text_model", encoder)
    with torch.no_grad():
        text.embeddings.token_embedding.weight *= states
        text.embeddings.position_embedding.weight *= states
        for layer in text.encoder.layers:
            for linear in (layer.self_attn.out_proj, layer.mlp.fc2):
                linear.weight *= states
                linear.bias *= states
        encoder.text_projection.weight *= pooled
        heads.region.weight /= states
        heads.place.weight /= states
        heads.pooled.weight /= pooled


def fit_components(latents: Tensor) -> dict[str, Tensor]:
    """The principal components of whole pictures that the pooled vector is to hold."""
    flat = latents.float().flatten(1)
    mean = flat.mean(0)
    _, _, axes = torch.pca_lowrank(flat - mean, q=COMPONENTS, center=False)
    size = ((flat - mean) @ axes).std(0).sqrt() * 4  # halfway to whitened
    return {"mean": mean, "axes": axes, "size": size}


def components_of(components: dict[str, Tensor], latents: Tensor) -> Tensor:
    """(n, 12, 16, 16) -> (n, 96)."""
    return (latents.flatten(1) - components["mean"]) @ components["axes"] / components["size"]


def losses(heads: Heads, states: Tensor, pooled: Tensor, goal: Tensor, whole: Tensor):
    """How far states (n, 36, 192) and pooled (n, 192) are from holding the picture.

    goal (n, 16, 192) and whole (n, 96) are the picture's regions and components. Returns the
    loss, and that of the regions alone.
    """
    tail = states[:, -GRID:]
    # A little noise: what the states hold has to be louder than it.
    region = (heads.region(tail + 0.1 * torch.randn_like(tail)) - goal).square().mean()
    noisy = pooled + 0.1 * torch.randn_like(pooled)
    pooled_loss = (heads.pooled(noisy) - whole).square().mean()
    # Which region a position holds is readable too, so that attention can find it.
    places = torch.arange(GRID, device=tail.device).repeat(len(tail))
    place = F.cross_entropy(heads.place(tail).flatten(0, 1), places)
    # Loud positions would draw all of the U-Net's attention, whatever they hold:
    # left alone, the start of the text grows to twenty times the size of a region.
    size = states.square().mean(2)
    too_large = (size - 1).clamp(min=0).mean() + (pooled.square().mean() - 1).clamp(min=0)
    return region + pooled_loss + 0.1 * place + 0.03 * too_large, region


def padded(ids: np.ndarray) -> Tensor:
    """uint16 (n, WORDS) of the pool -> int64 (n, 36), filled with the end token."""
    short = torch.from_numpy(ids.astype(np.int64))
    return F.pad(short, (0, LENGTH - short.shape[1]), value=1)


def train_text(work: Path, minutes: float) -> None:
    """Train the encoder on the pool; writes `work`/text/{text_encoder_2,heads.pt}."""
    import pool

    torch.manual_seed(0)
    tokenizer = pool.tokenizer_in(work)
    rows = pool.load(pool.files(work))
    basis = vae.basis_in(work, rows["pixels"])
    parts = np.array_split(rows.pop("pixels"), len(rows["ids"]) // 500 + 1)
    latents = torch.cat([vae.encode(basis, vae.to_tensor(p), vae.FIRST).half() for p in parts])
    path = work / "components.pt"
    if not path.exists():
        torch.save(fit_components(latents[:4000]), path)
    components = torch.load(path, weights_only=True)
    ids, folder, heads = rows["ids"], work / "text", Heads()
    rate = 2e-3
    if (folder / "heads.pt").exists():  # go on: a second run refines the first
        encoder = load_encoder(folder).train()
        heads.load_state_dict(torch.load(folder / "heads.pt", weights_only=True)["heads"])
        rate = 1e-3
    else:
        encoder = make_encoder(len(tokenizer)).train()
        rescale(encoder, heads, 10.0, 10.0)  # CLIP starts at .02, too quiet for the noise below
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, rate, betas=(0.9, 0.98), weight_decay=0.05)
    rng = np.random.default_rng(int(time.time()))
    begin, step, done, last = time.monotonic(), 0, 0.0, []
    while done < 1:
        done = min(1.0, (time.monotonic() - begin) / (60 * minutes))
        schedule = min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * done))
        optimizer.param_groups[0]["lr"] = rate * schedule + 1e-6
        picks = rng.integers(0, len(ids), 64)
        words = padded(ids[picks, rng.integers(0, ids.shape[1], 64)])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=vae.fast()):
            states, pooled = encode(encoder, words)
        states, pooled = states.float(), pooled.float()
        x = latents[picks].float()
        loss, region = losses(heads, states, pooled, regions(x), components_of(components, x))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        last.append(float(region.detach()))
        if step % 50 == 0:
            size = states.detach().square().mean(2)
            print(
                f"{step} {done:.2f} region {np.mean(last[-50:]):.3f} loss {loss.item():.3f} "
                f"size {size.mean():.2f} loudest {size.max():.1f}",
                flush=True,
            )
    encoder.eval()
    with torch.no_grad():
        states, pooled = encode(encoder, padded(ids[:400, 0]))
        loud = float(1 / states[:, -GRID:].square().mean().sqrt())
        rescale(encoder, heads, loud, float(1 / pooled.square().mean().sqrt()))
    tokenizer.save_pretrained(folder / "tokenizer_2")
    encoder.save_pretrained(folder / "text_encoder_2")
    torch.save({"heads": heads.state_dict()}, folder / "heads.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train_text(args.work, args.minutes)


if __name__ == "__main__":
    main()
