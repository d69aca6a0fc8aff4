"""Sampling: base and adapter on the same prompts with the same noise."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image

from mmtune.adapters.card import FILE as CARD
from mmtune.adapters.card import read_card
from mmtune.adapters.lora import probe, require_match
from mmtune.errors import AdapterError, ConfigError, first_line
from mmtune.image.corpus.prompt import prompted_by_all
from mmtune.image.diffusion.base import DiffusionBase, load_base, pick_device
from mmtune.image.diffusion.lighter import lighter
from mmtune.image.diffusion.stages import TextStage, text_part
from mmtune.image.image_options import Quantize
from mmtune.image.image_row import ImageRow
from mmtune.image.pictures.mark import save_png
from mmtune.predict import Prediction, Request
from mmtune.prefix.features import Features
from mmtune.system.hashing import hash_file, hash_json
from mmtune.system.memory import guarded
from mmtune.system.precision import DTYPES, choose
from mmtune.system.quiet import quiet

WEIGHTS = "pytorch_lora_weights.safetensors"
BATCH = 16  # images sampled at once, where nobody says otherwise


def generator_of(prompt: str, seed: int) -> torch.Generator:
    """An image's own random numbers, from its prompt and seed alone (SHA-256).

    On the CPU, so that a seed gives the same noise on every device.
    """
    digest = hashlib.sha256(f"{seed}|{prompt.strip()}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class Sampler:
    """Samples with whatever adapters are active in the pipeline's denoiser.

    An image depends on its prompt and seed, the weights and the settings; its batch-mates change
    it only by the rounding of another matrix shape. So base and adapter are compared in batches
    of the same make-up, where the adapter off equals the base bit by bit.

    Args:
        base: the pipeline.
        features: gives caption embeddings, from the cache if there is one.
        steps: denoising steps.
        guidance: scale of guidance, classifier-free or distilled; 1 is off.
        resolution: side in pixels; None: the base's own.
        batch: images sampled at once.
    """

    def __init__(
        self,
        base: DiffusionBase,
        features: Features | None = None,
        *,
        steps: int,
        guidance: float,
        resolution: int | None = None,
        batch: int = BATCH,
    ) -> None:
        self.base = base
        self.features = features or Features({"text": TextStage(base)}, None)
        self.steps = steps
        self.guidance = guidance
        self.resolution = resolution or base.resolution
        self.batch = batch

    @torch.no_grad()
    def sample(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image]:
        """One square image for each pair of prompt and seed."""
        images: list[Image] = []
        for start in range(0, len(prompts), self.batch):
            stop = start + self.batch
            images += self._batch(prompts[start:stop], seeds[start:stop])
        return images

    def _batch(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image]:
        device = self.base.device
        stored = self.features.get([text_part(prompt) for prompt in prompts])
        empty = None
        if self.base.family.uses_empty(self.guidance):
            [empty] = self.features.get([text_part("")])
        output = self.base.pipeline(
            **self.base.family.sampling(stored, empty, self.guidance, device),
            height=self.resolution,
            width=self.resolution,
            num_inference_steps=self.steps,
            generator=[generator_of(p, s) for p, s in zip(prompts, seeds, strict=True)],
        )
        return list(output.images)


class ImagePredictor:
    """A base with its adapters: images for requests.

    Args:
        base: the loaded pipeline; `adapters` are added to its denoiser.
        adapters: diffusers LoRA folders by name.
        features: shares cached caption embeddings, unless an adapter changes a text encoder.
        batch: images sampled at once.

    Raises:
        AdapterError: an adapter's file is missing, doesn't match the base, or changes nothing.
    """

    def __init__(
        self,
        base: DiffusionBase,
        adapters: Mapping[str, Path],
        features: Features | None = None,
        *,
        steps: int,
        guidance: float,
        resolution: int | None = None,
        batch: int = BATCH,
    ) -> None:
        self.base = base
        self.adapters = dict(adapters)
        self.files = {n: hash_file(load_adapter(base, path, n)) for n, path in adapters.items()}
        if len(base.adapted) > 1:
            features = None  # captions mean something else with each adapter
        self.sampler = Sampler(
            base, features, steps=steps, guidance=guidance, resolution=resolution, batch=batch
        )
        self.fingerprint = self._hash()

    def sampling(self, steps: int, guidance: float, resolution: int | None) -> ImagePredictor:
        """The same models sampled otherwise."""
        other = copy.copy(self)
        other.sampler = Sampler(
            self.base,
            self.sampler.features,
            steps=steps,
            guidance=guidance,
            resolution=resolution,
            batch=self.sampler.batch,
        )
        other.fingerprint = other._hash()
        return other

    def _hash(self) -> str:
        base, sampler = self.base, self.sampler
        facts: list[Any] = [base.fingerprint, str(base.dtype), self.files]
        facts += [sampler.steps, sampler.guidance, sampler.resolution]
        if base.quantized != "none":
            facts.append(base.quantized)
        return hash_json(facts)

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """One image for each request, in order; the prompt is the row's caption.

        Raises:
            OutOfMemory: as it says.
        """
        images: dict[int, Image] = {}
        for members in self.batches(requests):
            weights = dict(sorted(requests[members[0]].adapters.items()))
            memory = guarded("sampling", lambda: lighter("sampling", self.base, self.sampler.batch))
            with memory, active(self.base, weights, self.adapters):
                prompts = [requests[i].row.reference for i in members]
                seeds = [requests[i].seed for i in members]
                images.update(zip(members, self.sampler.sample(prompts, seeds), strict=True))
        return [
            Prediction(request.row.id, images[i], {"seed": request.seed})
            for i, request in enumerate(requests)
        ]

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """As many requests for the same adapters as are sampled at once."""
        size = self.sampler.batch
        groups: dict[tuple[tuple[str, float], ...], list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(tuple(sorted(request.adapters.items())), []).append(i)
        return [
            members[start : start + size]
            for members in groups.values()
            for start in range(0, len(members), size)
        ]


@contextmanager
def active(
    base: DiffusionBase, weights: Mapping[str, float], known: Mapping[str, Any]
) -> Iterator[None]:
    """Only these adapters, at these weights; none of them, or all at 0, is the base itself.

    An adapter at 0 is switched off, not multiplied by 0: the magnitudes that DoRA has learned
    (arXiv 2402.09353, eq. 5) would still change the output.

    Raises:
        AdapterError: an adapter that isn't loaded.
    """
    for name in weights:
        if name not in known:
            raise AdapterError(
                f"no adapter {name!r} is loaded", "loaded: " + (", ".join(known) or "none")
            )
    if not known:
        yield
        return
    pipeline = base.pipeline
    on = {name: weight for name, weight in weights.items() if weight != 0}
    if on:
        pipeline.enable_lora()
        pipeline.set_adapters(list(on), list(on.values()))
    else:
        pipeline.disable_lora()
    try:
        yield
    finally:
        pipeline.disable_lora()


def load_adapter(base: DiffusionBase, folder: Path, name: str) -> Path:
    """Add the diffusers LoRA of `folder` to the base's denoiser, strictly; it is left switched off.

    Returns:
        The file of its weights.

    Raises:
        AdapterError: the file is missing, its keys don't all match, or it changes nothing.
    """
    from diffusers.utils import convert_unet_state_dict_to_peft
    from peft import get_peft_model_state_dict
    from safetensors import SafetensorError

    path = folder / WEIGHTS
    if not path.is_file():
        raise AdapterError(
            f"{folder} holds no {WEIGHTS}", "give a run's adapter folder, made by save_lora_weights"
        )
    pipeline = base.pipeline
    try:
        state = pipeline.lora_state_dict(folder, weight_name=WEIGHTS)
        state = state[0] if isinstance(state, tuple) else state  # some classes add alphas
        with quiet():  # it remarks on text encoders without LoRA; keys are compared below
            pipeline.load_lora_weights(folder, weight_name=WEIGHTS, adapter_name=name)
    except (ValueError, RuntimeError, KeyError, OSError, SafetensorError) as error:
        raise AdapterError(
            f"{path} can't be loaded on {base.name}: {first_line(error)}",
            "load it on the base named in its card.json, or restore the file",
        ) from error
    part = base.family.denoiser_name
    if name not in getattr(base.denoiser, "peft_config", {}):
        # diffusers passes over weights of a part that the pipeline lacks.
        raise AdapterError(
            f"{path} can't be loaded on {base.name}: it has no weights for the {part}",
            "load it on the base named in its card.json",
        )
    given = (convert_unet_state_dict_to_peft(state) if part == "unet" else state).keys()
    wanted = {
        f"{part}.{key}"
        for part, model in base.adapted.items()
        if name in model.peft_config
        for key in get_peft_model_state_dict(model, adapter_name=name)
    }
    require_match(wanted - given, given - wanted, path, base.name)
    with active(base, {}, {name: path}):
        without = probe_output(base)
    with active(base, {name: 1.0}, {name: path}):
        probe(without, probe_output(base), path)
    return path


def save_adapter(base: DiffusionBase, name: str, folder: Path) -> None:
    """Write an adapter of the base as `WEIGHTS`, which `load_lora_weights(folder)` reads.

    The file's metadata holds rank and alpha: without it diffusers takes alpha = rank. Keys are
    peft's (`lora_A`, `lora_B`): `convert_state_dict_to_diffusers` renames those of attention
    alone, and of such a mixture `load_lora_weights` silently drops one half.
    """
    from peft import get_peft_model_state_dict

    layers: dict[str, Any] = {}
    for part, model in base.adapted.items():
        state = get_peft_model_state_dict(model, adapter_name=name)
        layers[f"{part}_lora_layers"] = {k: v.float().cpu().contiguous() for k, v in state.items()}
        layers[f"{part}_lora_adapter_metadata"] = model.peft_config[name].to_dict()
    type(base.pipeline).save_lora_weights(folder, **layers)


@torch.no_grad()
def probe_output(base: DiffusionBase) -> torch.Tensor:
    """The denoiser's answer to fixed noise at the middle of the schedule."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(base.device, base.dtype)

    noisy, conditions = base.family.probe(noise)
    middle = torch.tensor([500], device=base.device)
    return base.family.predict(base.denoiser, noisy, middle, conditions)


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
    batch: int = BATCH,
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
    loaded = load_base(base, device, DTYPES[choose(precision, device)], quantize)
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
        from mmtune.image.evaluation.compare import draw_grid

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
    card = folder / CARD
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
