"""Sampling: base and adapter on the same prompts with the same noise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL.Image import Image

from mmtune.adapters.card import CARD_FILE, read_card
from mmtune.errors import ConfigError
from mmtune.image.corpus.prompt import prompted_by_all
from mmtune.image.diffusion.base import DiffusionBase, load_base
from mmtune.image.diffusion.denoiser_lora import WEIGHTS
from mmtune.image.image_options import Quantize
from mmtune.image.image_row import ImageRow
from mmtune.image.pictures.mark import save_png
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.image.sampling.sampler import SAMPLE_BATCH
from mmtune.predict import Request
from mmtune.system.hashing import hash_file
from mmtune.system.precision import DTYPES, choose_precision
from mmtune.system.processes import pick_device


def file_name(prompt: str, seed: int, weight: float | None) -> str:
    """A name that says what the image is: `a-red-apple-seed0.png`."""
    words = re.sub(r"[^\w]+", "-", prompt.strip().lower()).strip("-")[:60] or "empty"
    return f"{words}-seed{seed}{'' if weight is None else f'-weight{weight:g}'}.png"


def generate(
    prompts: Sequence[str],
    folder: Path,
    *,
    base: str,
    adapter: Path | Mapping[Path, float] | Sequence[Mapping[Path, float]] | None = None,
    weight: float = 1.0,
    seeds: Sequence[int] = (0,),
    steps: int = 30,
    guidance: float = 5.0,
    precision: str = "auto",
    quantize: Quantize = "none",
    batch: int = SAMPLE_BATCH,
    grid: bool = False,
    triggers: Mapping[Path, str] | None = None,
) -> list[Path]:
    """Sample images and write them as PNG; what `mmtune generate` calls.

    Args:
        prompts: one or more.
        folder: where the files go; it is made.
        base: hub id, folder or starter.
        adapter: an adapter folder, or several with their weights; a sequence says which for each
            prompt. None, and no adapter for a prompt, samples the base.
        weight: of all adapters together; 0 is the base.
        seeds: images of each prompt.
        quantize: how the denoiser is held in memory; it need not be as it was trained on.
        batch: images sampled at once.
        triggers: by adapter, a phrase that is put before each prompt that it answers and that
            doesn't hold it; an adapter's own is `read_card(folder).trigger`.
        grid: also write `grid.png`: the base, each adapter alone, and all of them.

    Returns:
        The files, by prompt and then by seed, and then the grid. Each PNG records prompt, seed,
        settings, base and adapters, and that a model made it (see `mmtune.image.pictures.mark`).

    Raises:
        BaseModelError: see `load_base`.
        AdapterError: see `load_adapter`.
        ConfigError: there is no prompt, or `folder` is meant as a picture's name.
    """
    from PIL.Image import registered_extensions

    if not prompts or not seeds:
        raise ConfigError("nothing to generate: no prompt", 'give --prompt "a red apple"')
    if folder.suffix.lower() in registered_extensions():
        raise ConfigError(
            f"--out {folder} is no folder: the pictures are named by prompt and seed",
            f"--out {folder.with_suffix('')}",
        )
    if isinstance(adapter, Sequence):
        given = list(adapter)
    else:
        one = adapter if isinstance(adapter, Mapping) else {adapter: 1.0} if adapter else {}
        given = [one] * len(prompts)
    folders = dict.fromkeys(path for each in given for path in each)
    known = {f"adapter{i}": path for i, path in enumerate(folders)}
    names = {path: name for name, path in known.items()}
    weights = [{names[path]: own * weight for path, own in each.items()} for each in given]
    phrases = triggers or {}
    sent = [
        prompted_by_all(prompt, [phrases.get(path, "") for path in each])
        for prompt, each in zip(prompts, given, strict=True)
    ]
    device = pick_device()
    loaded = load_base(base, device, DTYPES[choose_precision(precision, device)], quantize)
    predictor = ImagePredictor(loaded, known, steps=steps, guidance=guidance, batch=batch)
    asked = [(place, seed) for place in range(len(prompts)) for seed in seeds]

    def draw(on: Sequence[Mapping[str, float]]) -> list[Image]:
        requests = [
            Request(ImageRow(id=str(i), image="-", caption=sent[place]), on[place], seed)
            for i, (place, seed) in enumerate(asked)
        ]
        return [prediction.value for prediction in predictor.predict(requests)]

    drawn = draw(weights)
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for (place, seed), image in zip(asked, drawn, strict=True):
        facts = _facts(loaded, known, weights[place], steps, guidance)
        name = file_name(prompts[place], seed, None if weight == 1 else weight)
        path = folder / name
        while path in paths:  # one prompt for several labels
            path = folder / f"{path.stem}-again.png"
        save_png(image, path, {"prompt": sent[place], "seed": seed} | facts)
        paths.append(path)
    if grid:
        from mmtune.image.pictures.grid import draw_grid

        same = all(each == weights[0] for each in weights)
        rows: dict[str, Sequence[Image]] = {"base": draw([{}] * len(prompts))} if known else {}
        if len(known) > 1:
            for name, path in known.items():
                alone = next(each[name] for each in weights if name in each)
                rows[label(path, 8)] = draw([{name: alone}] * len(prompts))
        together = "together" if same else "gated"
        rows[together if len(known) > 1 else "adapter" if known else "base"] = drawn
        paths.append(folder / "grid.png")
        captions = [f"#{seed} {prompts[place]}" for place, seed in asked]
        facts = _facts(loaded, known, weights[0] if same else {}, steps, guidance)
        save_png(draw_grid(captions, rows), paths[-1], facts)
    return paths


def label(folder: Path, most: int = 60) -> str:
    """An adapter's name: that of its card, else of its folder."""
    card = folder / CARD_FILE
    return (read_card(folder).name if card.is_file() else folder.name)[:most]


def _facts(
    base: DiffusionBase,
    adapters: Mapping[str, Path],
    weights: Mapping[str, float],
    steps: int,
    guidance: float,
) -> dict[str, str]:
    """What all pictures for one choice of adapters have in common."""
    on = {adapters[name]: weight for name, weight in weights.items()}
    versions = [
        f"{label(path)}@{hash_file(path / WEIGHTS)[:16]}*{weight:g}" for path, weight in on.items()
    ]
    quantized = {} if base.quantized == "none" else {"quantize": base.quantized}
    return quantized | {
        "steps": str(steps),
        "guidance": f"{guidance:g}",
        "base": base.name,
        "base_hash": base.fingerprint,
        "dtype": str(base.dtype).removeprefix("torch."),
        "adapter": ", ".join(str(path) for path in on),
        "adapter_version": ", ".join(versions),
        "weight": ", ".join(f"{weight:g}" for weight in on.values()) or "0",
    }
