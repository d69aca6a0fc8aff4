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
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from icons import ASSETS, Icons, caption, load_icons, made_up_word, words
from torch import nn

LENGTH, GRID, WIDTH, LAYERS = 36, 16, 192, 3
COMPONENTS = 96


def make_tokenizer(icons: Icons):
    """A CLIPTokenizer whose merges come from the captions; other words fall into pieces."""
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer
    from transformers import CLIPTokenizer

    corpus = [
        caption(c, s, t) for c in icons.concepts for s in [None, *icons.styles] for t in range(4)
    ]
    corpus += [words(c) for c in icons.concepts] * 4
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
    backend.train_from_iterator(corpus, trainer)
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
    """An untrained CLIPTextModelWithProjection: 36 tokens, 192 wide, 3 layers."""
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


@torch.no_grad()
def latents_of(vae, pixels: np.ndarray) -> torch.Tensor:
    """uint8 (n, 64, 64, 3) -> scaled latents (n, 12, 16, 16)."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    chunks = [vae.encode(c).latents for c in x.split(64)]
    return torch.cat(chunks) * vae.config.scaling_factor


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


def sample_captions(icons: Icons, rows: list[int], n: int, rng: random.Random):
    """n captions, their icons and whether each names its style: lists of str, int, bool."""
    captions, picks, styled = [], [], []
    for _ in range(n):
        i = rng.choice(rows)
        concept, style = icons.concepts[icons.concept[i]], icons.styles[icons.style[i]]
        template = rng.randrange(4) if rng.random() < 0.5 else 0
        kind = rng.random()
        if kind < 0.8:
            captions.append(caption(concept, style, template))
        else:
            other = made_up_word(rng) if kind > 0.9 else ""
            captions.append(caption(concept, None, template, other))
        picks.append(i)
        styled.append(kind < 0.8)
    return captions, picks, torch.tensor(styled)


def answers(values: torch.Tensor, icons: Icons, rows: list[int]) -> tuple:
    """What a styled and what a plain caption of each icon should predict, shaped as `values`.

    Plain: the mean over the concept's styles. Styled: two thirds the icon itself and a
    third that mean, so that the states of pairs that were seen don't differ in kind from
    those of pairs that weren't.
    """
    mean = values.clone()
    for c in range(len(icons.concepts)):
        same = [i for i in rows if icons.concept[i] == c]
        mean[torch.from_numpy(icons.concept == c)] = values[same].mean(0)
    return torch.lerp(mean, values, 2 / 3), mean


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


def train_text(work: Path, vae_from: Path, minutes: float, npm: Path | None = None) -> None:
    """Train tokenizer and encoder; writes `work`/text/{tokenizer_2,text_encoder_2,heads.pt}."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    rng = random.Random(0)
    icons = load_icons(work, npm)
    vae = AutoencoderTiny.from_pretrained(vae_from, subfolder="vae", torch_dtype=torch.float32)
    latents = latents_of(vae, icons.pixels)
    rows = icons.indices(held_out=False).tolist()
    mean, std = latents[rows].mean(0), latents[rows].std()
    goal = regions((latents - mean) / std)
    flat = ((latents - mean) / std).flatten(1)
    _, _, axes = torch.pca_lowrank(flat[rows], q=COMPONENTS, center=False)
    components = flat @ axes
    components = components / components[rows].std(0).sqrt() / 4  # halfway to whitened

    goal_styled, goal_plain = answers(goal, icons, rows)
    components_styled, components_plain = answers(components, icons, rows)

    folder = work / "text"
    tokenizer, heads, rate = make_tokenizer(icons), Heads(), 2e-3
    if (folder / "heads.pt").exists():  # go on: a second run refines the first
        encoder = load_encoder(folder).train()
        heads.load_state_dict(
            torch.load(folder / "heads.pt", weights_only=True)["heads"], strict=False
        )
        rate = 1e-3
    else:
        encoder = make_encoder(len(tokenizer)).train()
        rescale(encoder, heads, 10.0, 10.0)  # CLIP starts at .02, too quiet for the noise below
    parameters = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, rate, betas=(0.9, 0.98), weight_decay=0.05)
    begin, step, done = time.monotonic(), 0, 0.0
    while done < 1:
        done = min(1.0, (time.monotonic() - begin) / (60 * minutes))
        schedule = min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * done))
        optimizer.param_groups[0]["lr"] = rate * schedule + 1e-6
        captions, picks, styled = sample_captions(icons, rows, 48, rng)
        states, pooled = encode(encoder, tokens(tokenizer, captions))
        tail = states[:, -GRID:]
        wanted = torch.where(styled[:, None, None], goal_styled[picks], goal_plain[picks])
        wanted_pooled = torch.where(
            styled[:, None], components_styled[picks], components_plain[picks]
        )
        # A little noise: what the states hold has to be louder than it.
        region = heads.region(tail + 0.1 * torch.randn_like(tail))
        region_loss = (region - wanted).square().mean()
        pooled = pooled + 0.1 * torch.randn_like(pooled)
        pooled_loss = (heads.pooled(pooled) - wanted_pooled).square().mean()
        # Which region a position holds is readable too, so that attention can find it.
        places = torch.arange(GRID).repeat(len(picks))
        place_loss = F.cross_entropy(heads.place(tail).flatten(0, 1), places)
        # Loud positions would draw all of the U-Net's attention, whatever they hold:
        # left alone, the start of the text grows to twenty times the size of a region.
        size = states.square().mean(2)
        too_large = (size - 1).clamp(min=0).mean() + (pooled.square().mean() - 1).clamp(min=0)
        loss = region_loss + pooled_loss + 0.1 * place_loss + 0.03 * too_large
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        if step % 50 == 0:
            print(
                f"{step} {done:.2f} region {region_loss:.3f} pooled {pooled_loss:.3f} "
                f"place {place_loss:.3f} size {size.mean():.2f} loudest {size.max():.1f}",
                flush=True,
            )

    encoder.eval()
    pairs = zip(icons.concept, icons.style, strict=True)
    ids = tokens(tokenizer, [caption(icons.concepts[c], icons.styles[s]) for c, s in pairs])
    with torch.no_grad():
        states, pooled = encode(encoder, ids)
        rescale(
            encoder,
            heads,
            float(1 / states[:, -GRID:].square().mean().sqrt()),
            float(1 / pooled.square().mean().sqrt()),
        )
        states, pooled = encode(encoder, ids)
        error = (heads.region(states[:, -GRID:]) - goal).square().mean((1, 2))
        for name, held_out in (("seen", False), ("held-out", True)):
            print(f"region error, {name} pairs: {error[icons.indices(held_out)].mean():.3f}")
        predicted = from_regions(heads.region(states[:, -GRID:])) * std + mean
    tokenizer.save_pretrained(folder / "tokenizer_2")
    encoder.save_pretrained(folder / "text_encoder_2")
    torch.save({"heads": heads.state_dict(), "predicted": predicted}, folder / "heads.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/starter"))
    parser.add_argument("--npm", type=Path, help="a folder where the sets are installed already")
    parser.add_argument(
        "--from", dest="source", type=Path, default=ASSETS, help="a pipeline whose VAE to use"
    )
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train_text(args.work, args.source, args.minutes, args.npm)


if __name__ == "__main__":
    main()
