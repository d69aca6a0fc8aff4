"""Generation of images with a base and its adapters, written as PNG files."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL.Image import Image

from mmtune.adapters.adapter_rights import licences_beside
from mmtune.adapters.card import CARD_FILE, read_card
from mmtune.errors import ConfigError
from mmtune.image.corpus.prompt import with_triggers
from mmtune.image.diffusion.base import DiffusionBase, load_base
from mmtune.image.diffusion.denoiser_lora import file_digest
from mmtune.image.image_options import Quantize
from mmtune.image.image_row import ImageRow
from mmtune.image.pictures.generated_metadata import save_png
from mmtune.image.sampling import a1111_parameters
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.image.sampling.sampler import SAMPLE_BATCH
from mmtune.predict import Request
from mmtune.system.files import first_free
from mmtune.system.precision import DTYPES, choose_precision
from mmtune.system.processes import pick_device
from mmtune.system.version import VERSION

PROMPT_KEY = "mmtune.prompt"  # PNG keyword; `prompt` is ComfyUI's, and holds JSON there
Strengths = Mapping[Path, float]  # adapter folders with their strengths; empty: the base


@dataclass(frozen=True)
class SamplingOptions:
    """How images are sampled.

    Attributes:
        steps: denoising steps.
        guidance: guidance scale; 1 switches guidance off.
        precision: number format of the base: "auto", "fp32", "bf16" or "fp16".
        quantize: how the denoiser is held in memory. It need not be as in training.
        batch: images sampled at once.
    """

    steps: int = 30
    guidance: float = 5.0
    precision: str = "auto"
    quantize: Quantize = "none"
    batch: int = SAMPLE_BATCH


def generate(
    prompts: Sequence[str],
    folder: Path,
    *,
    base: str,
    adapter: Path | Strengths | Sequence[Strengths] | None = None,
    weight: float = 1.0,
    seeds: Sequence[int] = (0,),
    grid: bool = False,
    triggers: Mapping[Path, str] | None = None,
    sampling: SamplingOptions | None = None,
    **options: Any,
) -> list[Path]:
    """Sample images and write them as PNG files.

        generate(["a red apple"], Path("out"), base="starter:icons", seeds=(0, 1), steps=20)

    Args:
        prompts: one or more prompts.
        folder: folder for the files; it is made.
        base: hub id, folder or starter.
        adapter: an adapter folder; several with their strengths; or one such mapping for each
            prompt. None, and an empty mapping, sample the base.
        weight: factor on the strengths of all adapters; 0 gives the base.
        seeds: each prompt gets one image per seed.
        grid: also write `grid.png`: the base, each adapter alone, and all of them.
        triggers: trigger phrase of each adapter folder. It is put before each prompt that the
            adapter is used for, unless the prompt holds it. `read_card(folder).trigger` has it.
        sampling: how images are sampled; None: the defaults.
        options: single fields of `sampling`, such as `steps=20`.

    Returns:
        The files, by prompt and then by seed, and the grid last. A file that exists is kept: the
        new one gets the next free number. Each PNG records prompt, seed, settings, base and
        adapters, also as A1111's `parameters`, and that a model made it
        (`mmtune.image.pictures.generated_metadata`).

    Raises:
        BaseModelError: see `load_base`.
        AdapterError: see `load_adapter`; or a picture isn't finite.
        ConfigError: there is no prompt or seed, a number isn't finite, or `folder` has the name of
            an image file.
    """
    if not prompts or not seeds:
        raise ConfigError("nothing to generate: no prompt", 'give --prompt "a red apple"')
    _require_folder_name(folder)
    sampling = replace(sampling or SamplingOptions(), **options)
    _require_finite("weight", weight)
    _require_finite("guidance", sampling.guidance)
    strengths = _strengths_of_prompts(adapter, len(prompts))
    adapters = {
        f"adapter{i}": path
        for i, path in enumerate(dict.fromkeys(path for each in strengths for path in each))
    }
    names = {path: name for name, path in adapters.items()}
    weights = [{names[path]: own * weight for path, own in each.items()} for each in strengths]
    phrases = triggers or {}
    full_prompts = [
        with_triggers(prompt, [phrases.get(path, "") for path in each])
        for prompt, each in zip(prompts, strengths, strict=True)
    ]
    device = pick_device()
    dtype = DTYPES[choose_precision(sampling.precision, device)]
    loaded = load_base(base, device, dtype, sampling.quantize)
    predictor = ImagePredictor(
        loaded,
        adapters,
        steps=sampling.steps,
        guidance=sampling.guidance,
        batch=sampling.batch,
    )
    # The place of a prompt in `prompts`, and a seed.
    place_seeds = [(place, seed) for place in range(len(prompts)) for seed in seeds]

    def sample(by_prompt: Sequence[Mapping[str, float]]) -> list[Image]:
        requests = [
            Request(
                ImageRow(id=str(i), image="-", caption=full_prompts[place]), by_prompt[place], seed
            )
            for i, (place, seed) in enumerate(place_seeds)
        ]
        return [prediction.value for prediction in predictor.predict(requests)]

    images = sample(weights)
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    labels = {name: adapter_label(path) for name, path in adapters.items()}
    facts_of = [_sampling_facts(loaded, adapters, own, sampling) for own in weights]
    for (place, seed), image in zip(place_seeds, images, strict=True):
        facts = facts_of[place]
        name = file_name(prompts[place], seed, None if weight == 1 else weight)
        path = free_path(folder / name)
        said = a1111_parameters.parameters(
            full_prompts[place],
            steps=sampling.steps,
            guidance=sampling.guidance,
            seed=seed,
            size=image.size,
            base=loaded.name,
            scheduler=type(loaded.pipeline.scheduler).__name__,
            adapters={labels[name]: own for name, own in weights[place].items()},
            version=VERSION,
        )
        own = {PROMPT_KEY: full_prompts[place], a1111_parameters.KEY: said, "seed": seed}
        save_png(image, path, own | facts)
        paths.append(path)
    if grid:
        from mmtune.image.pictures.grid import draw_grid

        rows = _grid_rows(images, adapters, weights, sample)
        captions = [f"#{seed} {prompts[place]}" for place, seed in place_seeds]
        common = weights[0] if _all_equal(weights) else {}
        facts = _sampling_facts(loaded, adapters, common, sampling)
        paths.append(free_path(folder / "grid.png"))
        save_png(draw_grid(captions, rows), paths[-1], facts)
    return paths


def file_name(prompt: str, seed: int, weight: float | None) -> str:
    """Name a file after what made the image, such as `a-red-apple-seed0.png`.

    Args:
        weight: factor on the adapters' strengths; None leaves it out of the name.
    """
    words = re.sub(r"[^\w]+", "-", prompt.strip().lower()).strip("-")[:60] or "empty"
    return f"{words}-seed{seed}{'' if weight is None else f'-weight{weight:g}'}.png"


def free_path(path: Path) -> Path:
    """The path itself, or with the first number from 2 on whose file doesn't exist."""

    def place(stem: str) -> Path:
        return path.with_name(stem + path.suffix)

    return place(first_free(path.stem, lambda stem: place(stem).exists()))


def adapter_label(folder: Path, max_characters: int = 60) -> str:
    """Name an adapter as its card does, or after its folder if it has no card."""
    card = folder / CARD_FILE
    return (read_card(folder).name if card.is_file() else folder.name)[:max_characters]


def _require_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ConfigError(f"{name} is {value:g}, which is not a finite number", "give a number")


def _given_name(folder: Path) -> str:
    """The adapter folder; for an adapter of another program its file, not a path in the cache."""
    card = folder / CARD_FILE
    origin = read_card(folder).origin if card.is_file() else {}
    return origin.get("file", str(folder))


def _require_folder_name(folder: Path) -> None:
    from PIL.Image import registered_extensions

    if folder.suffix.lower() in registered_extensions():
        raise ConfigError(
            f"--out {folder} is no folder: each image gets a name made from its prompt and seed",
            f"name a folder: --out {folder.with_suffix('')}",
        )


def _strengths_of_prompts(
    adapter: Path | Strengths | Sequence[Strengths] | None, prompts: int
) -> list[Strengths]:
    """The adapters of each prompt, whichever way they were given."""
    if isinstance(adapter, Sequence):
        return list(adapter)
    if isinstance(adapter, Mapping):
        return [adapter] * prompts
    return [{adapter: 1.0} if adapter else {}] * prompts


def _grid_rows(
    images: Sequence[Image],
    adapters: Mapping[str, Path],
    weights: Sequence[Mapping[str, float]],
    sample: Callable[[Sequence[Mapping[str, float]]], list[Image]],
) -> dict[str, Sequence[Image]]:
    """The base's images, those of each adapter alone, and `images`, by the label of the row.

    Args:
        images: already sampled with `weights`.
        weights: strengths of each prompt, by the adapters' names.
        sample: samples all prompts and seeds with other strengths.
    """
    if not adapters:
        return {"base": images}
    rows: dict[str, Sequence[Image]] = {"base": sample([{}] * len(weights))}
    if len(adapters) == 1:
        return rows | {"adapter": images}
    for name, path in adapters.items():
        alone = next(each[name] for each in weights if name in each)
        rows[adapter_label(path, 8)] = sample([{name: alone}] * len(weights))
    return rows | {"together" if _all_equal(weights) else "gated": images}


def _all_equal(weights: Sequence[Mapping[str, float]]) -> bool:
    return all(each == weights[0] for each in weights)


def _sampling_facts(
    base: DiffusionBase,
    adapters: Mapping[str, Path],
    weights: Mapping[str, float],
    sampling: SamplingOptions,
) -> dict[str, str]:
    """What the PNG records besides prompt and seed.

    Args:
        adapters: folders by the name under which they are loaded.
        weights: strengths by that name.
    """
    on = {adapters[name]: weight for name, weight in weights.items()}
    versions = [
        f"{adapter_label(path)}@{file_digest(path)[:16]}*{weight:g}" for path, weight in on.items()
    ]
    licences: dict[str, str] = {}
    for path in (path for path, weight in on.items() if weight):
        for name, value in licences_beside(path).items():
            known = licences.get(name)
            licences[name] = value if known in (None, value) else f"{known}; {value}"
    quantized = {} if base.quantized == "none" else {"quantize": base.quantized}
    return quantized | {
        "steps": str(sampling.steps),
        "guidance": f"{sampling.guidance:g}",
        "base": base.name,
        "base_hash": base.fingerprint,
        "dtype": str(base.dtype).removeprefix("torch."),
        "adapter": ", ".join(_given_name(path) for path in on),
        "adapter_version": ", ".join(versions),
        "weight": ", ".join(f"{weight:g}" for weight in on.values()) or "0",
        **licences,
    }
