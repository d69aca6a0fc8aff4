"""The training task of images: LoRA on the denoiser of a diffusion model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmtune.adapters.foreign_layers import Pair
from mmtune.adapters.peft_configs import peft_config
from mmtune.adapters.start import fit, put_layers, require_rank
from mmtune.config import AdapterOptions, LoraOptions, RunConfig
from mmtune.errors import ConfigError, first_line
from mmtune.image.brand.brand_guide import read_guide
from mmtune.image.brand.words_beside import write_words
from mmtune.image.corpus.evaluation_rows import held_out_rows
from mmtune.image.corpus.prompt import prompt_of, wordings
from mmtune.image.diffusion.base import DiffusionBase, memory_hints
from mmtune.image.diffusion.denoiser import Denoiser
from mmtune.image.diffusion.denoiser_lora import read_start, save_adapter
from mmtune.image.diffusion.families import TextFamily
from mmtune.image.diffusion.objective import objective_of
from mmtune.image.diffusion.stages import FLIPPED, LatentStage, TextStage, TokenStage, text_part
from mmtune.image.evaluation.style_monitor import StyleMonitor
from mmtune.image.image_options import ImageOptions
from mmtune.image.pictures.buckets import Buckets
from mmtune.image.sampling.sampler import Sampler
from mmtune.prefix.features import Features
from mmtune.prefix.stage import Part, Stage, Tensors
from mmtune.training.randomness import Draw
from mmtune.training.samples import Sample
from mmtune.training.selection import Advice, Trial
from mmtune.training.task import FIXED_EPOCH, Batch, Example, Monitor, ParamGroup

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset
    from mmtune.data.rows import Row
    from mmtune.prefix.cache import PrefixCache
    from mmtune.system.memory import Phase

TRAINED_ADAPTER = "default"
LOSS_DRAWS = 4  # noise and timesteps drawn for each validation row


class ImageTask:
    """Trains an adapter of the denoiser, from cached latents and caption embeddings.

    Implements `mmtune.training.task.Task`.

    Args:
        config: the run's settings; its `task` is `ImageOptions`.
        dataset: validation measures the style distance to its training rows.
        base: loaded, without adapters; the adapter is added to its denoiser.
        cache: stores the latents and embeddings; None: they are computed when needed.

    Raises:
        ConfigError: the base can't have this resolution, these LoRA targets or an adapted text
            encoder, its training objective is unknown, or the brand's guide can't be read.
        DataError: there are too few images to learn a style and to judge it on others.
    """

    def __init__(
        self, config: RunConfig, dataset: Dataset, base: DiffusionBase, cache: PrefixCache | None
    ) -> None:
        options = config.task
        assert isinstance(options, ImageOptions)
        # Fails now, and not after hours of training, if the comparison will lack images.
        held_out_rows(dataset)
        # Kept, because the file may be moved or broken when the adapter is saved.
        self._guide = None if options.brand_guide is None else read_guide(options.brand_guide)
        self.options = options
        self.base = base
        self.resolution = options.resolution or base.resolution
        self.family = base.family
        step, largest = self.family.multiple, self.family.largest
        if self.resolution % step:
            raise ConfigError(
                f"task.resolution = {self.resolution}: this base needs a multiple of {step}",
                f"use {max(step, round(self.resolution / step) * step)}",
            )
        self.buckets = Buckets(self.resolution, step, options.buckets)
        if largest is not None and self.buckets.longest > largest:
            raise ConfigError(
                f"task.resolution = {self.resolution}: this base has no positions beyond "
                f"{largest} pixels, but the longest side would be {self.buckets.longest} pixels",
                f"use {largest} or less",
            )
        self.objective = objective_of(base.pipeline.scheduler, self.family, options)
        text = TextStage(base)
        self.stages: Mapping[str, Stage] = {
            "latent": LatentStage(base, self.resolution, self.buckets, options.background),
            "text": text,
        }
        self._caption_stage = "text"  # the stage whose values training reads
        if options.text_encoder:
            tokens = TokenStage(self._text_family(), base.hashes["text"])
            self._caption_stage = "tokens"
            self.stages = {**self.stages, "tokens": tokens}
        self.features = Features(self.stages, cache)
        # Embeddings that change from step to step must not be cached.
        self._current_text = (
            Features({"text": text}, None) if options.text_encoder else self.features
        )
        self.sampler = Sampler(
            base,
            self._current_text,
            steps=options.steps,
            guidance=options.guidance,
            resolution=self.resolution,
            batch=options.sample_batch,
            strict=False,
        )
        self._attach(config)
        denoiser = Denoiser(base, self.objective, options.keep_layout, options.train_guidance)
        self.module: nn.Module = denoiser
        self.monitor = Monitor("style_distance", higher_is_better=False)
        if config.train.gradient_checkpointing:
            base.denoiser.enable_gradient_checkpointing()
        self.base_hash = base.fingerprint
        self._brand = dataset.split("train")
        self._folder = config.folder
        self.style_monitor = StyleMonitor(self.sampler, options, self.module, self._brand)

    def _attach(self, config: RunConfig) -> None:
        from diffusers.training_utils import cast_training_params

        denoiser, part = self.base.denoiser, self.family.denoiser_name
        start = {} if config.parent is None else read_start(self.base, config.parent)
        require_rank(config.lora.rank, (p for layers in start.values() for p in layers.values()))
        if start.keys() - {part} and not self.options.text_encoder:
            raise ConfigError(
                "task.text_encoder = false: the adapter of --init changes the text encoder too",
                "leave --text_encoder out, or give --text_encoder true",
            )
        adapter = config.adapter.model_copy(update={"method": config.method.name})
        self._require_lora(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.train.seed)
            try:
                with warnings.catch_warnings():
                    # peft warns that it can't merge into a quantized layer; we never merge.
                    warnings.filterwarnings("ignore", message=".*get_apply_tensor_subclass")
                    own = start.get(part)
                    self._add(denoiser, config.lora, adapter, self.family.lora_targets(), own)
            except ValueError as error:
                raise ConfigError(
                    f"lora.targets: {first_line(error)}",
                    f"name modules of the {self.family.denoiser_name}: "
                    + ", ".join(self.family.targets),
                ) from None
            if self.options.text_encoder:
                # The settings' targets are the denoiser's.
                plain = config.lora.model_copy(update={"targets": []})
                family = self._text_family()
                for name, encoder in family.text_encoders.items():
                    own, targets = start.get(name), family.text_targets(name)
                    self._add(encoder, plain, adapter, targets, own)
        cast_training_params(list(self.base.adapted.values()), dtype=torch.float32)
        for name, layers in start.items():
            put_layers(self.base.adapted[name], layers, TRAINED_ADAPTER)

    def _add(
        self,
        model: Any,
        options: LoraOptions,
        adapter: AdapterOptions,
        targets: Sequence[str] | str,
        start: Mapping[str, Pair] | None,
    ) -> None:
        """Add a fresh adapter: on `targets`, or on the layers of the one that it starts from."""
        chosen = peft_config(options, adapter, targets if start is None else sorted(start))
        model.add_adapter(
            chosen if start is None else fit(chosen, start), adapter_name=TRAINED_ADAPTER
        )

    def _require_lora(self, config: RunConfig) -> None:
        """Refuse what works with LoRA alone."""
        if config.method.peft_type == "LORA":
            return
        for name, used in (
            ("text_encoder", self.options.text_encoder),
            ("quantize", self.base.quantized != "none"),
        ):
            if used:
                raise ConfigError(
                    f"task.{name} works with LoRA and DoRA, not with {config.method.title}",
                    f"leave task.{name} out, or use adapter.method lora",
                )

    def _text_family(self) -> TextFamily:
        if isinstance(self.family, TextFamily) and self.family.text_encoders:
            return self.family
        raise ConfigError(
            f"task.text_encoder: the text encoders of {self.family.name} are not adapted",
            "set it to false: the denoiser can learn a look by itself",
        )

    def variants(self, row: Row) -> Iterable[Part]:
        """List the parts of a row: the image, its mirror image with `flip`, and its captions.

        The empty caption is one of them if captions are dropped.
        """
        yield self._latent(row, 0)
        if self.options.flip:
            yield self._latent(row, FLIPPED)
        yield from (self._text(row, words) for words in wordings(row))
        if self.options.caption_dropout:
            yield text_part("", self._caption_stage)

    def _latent(self, row: Row, view: int) -> Part:
        return Part("latent", row.content, view, origin=row)

    def _text(self, row: Row, words: str | None = None) -> Part:
        return text_part(prompt_of(row, self.options.trigger, words), self._caption_stage)

    def bucket(self, row: Row) -> str:
        """Name the size in pixels that the image is cut to, such as "512x768" (height x width).

        All sizes are square unless `task.buckets` is on.
        """
        return "{}x{}".format(*self.buckets.of(row.path))

    def choose(self, row: Row, draw: Draw) -> Example:
        """Draw whether the image is mirrored, one of its captions, and whether that is dropped."""
        view = FLIPPED if self.options.flip and draw.integer("flip", 2) else 0
        dropped = draw.uniform("caption dropout") < self.options.caption_dropout
        words = wordings(row)
        drawn = words[draw.integer("caption", len(words))]
        text = text_part("", self._caption_stage) if dropped else self._text(row, drawn)
        return Example(row, (self._latent(row, view), text))

    def collate(
        self,
        examples: Sequence[Example],
        tensors: Sequence[Mapping[str, Tensors]],
        draws: Sequence[Draw],
    ) -> Batch:
        """Build a batch; all randomness comes from each row's draw.

        Returns:
            `latents` and `noise`, [rows, channels, h, w]; `timesteps`, [rows]; `mask`,
            [rows, 1, h, w], if a row has one; and what `Family.conditions` gives.
        """
        latents = [_latent(t["latent"], draw) for t, draw in zip(tensors, draws, strict=True)]
        batch: Batch = {
            "latents": torch.stack(latents),
            "noise": torch.stack(
                [d.normal("noise", tuple(x.shape)) for d, x in zip(draws, latents, strict=True)]
            ),
            "timesteps": torch.tensor(
                [
                    self.objective.draw_timestep(d, self.family.tokens(x.shape))
                    for d, x in zip(draws, latents, strict=True)
                ]
            ),
        }
        if any("mask" in t["latent"] for t in tensors):
            batch["mask"] = torch.stack(
                [
                    t["latent"].get("mask", torch.ones(1, *x.shape[-2:]))
                    for t, x in zip(tensors, latents, strict=True)
                ]
            )
        conditions = self.family.conditions(
            [t[self._caption_stage] for t in tensors], [t["latent"] for t in tensors]
        )
        return batch | conditions

    def param_groups(self) -> list[ParamGroup]:
        """List all weights of the adapter, as one group."""
        return [{"params": [p for p in self.module.parameters() if p.requires_grad]}]

    @torch.no_grad()
    def validate(self, rows: Sequence[Row]) -> dict[str, float]:
        """Measure the loss and the style of held-out rows with the current weights.

        Returns:
            `style_distance` and `style`: see `StyleMonitor.validate`; `loss`: of `rows`, always
            with the same noise and timesteps.
        """
        rows = sorted(rows, key=lambda row: row.id)
        loss = self._loss(rows)
        style = self.style_monitor.validate(rows)
        return {"style_distance": style["style_distance"], "loss": loss, **style}

    def samples(self, *, sounds: bool) -> list[Sample]:
        """Return the first images of the last validation."""
        return self.style_monitor.samples()

    @torch.no_grad()
    def advise(self, trials: Sequence[Trial], rows: Sequence[Row], name: str) -> Advice:
        """Generate held-out captions in each state of the adapter, and recommend a state.

        Writes the images to `name`.png in the run folder, one line per state.
        """
        return self.style_monitor.advise(trials, rows, self._folder / f"{name}.png")

    def _loss(self, rows: Sequence[Row]) -> float:
        total = units = 0.0
        for seed in range(LOSS_DRAWS):
            for chosen in self._batches(rows):
                draws = [Draw(seed, FIXED_EPOCH, row.id) for row in chosen]
                loss = self.module(self._plain_batch(chosen, draws))
                total += float(loss.total.sum())
                units += float(loss.units.sum())
        return total / units

    def _plain_batch(self, rows: Sequence[Row], draws: Sequence[Draw]) -> Batch:
        """A batch of rows that are neither mirrored nor lose their caption."""
        examples = [Example(row, (self._latent(row, 0), self._text(row))) for row in rows]
        stored = iter(self.features.get([p for e in examples for p in e.parts]))
        tensors = [{p.stage: next(stored) for p in e.parts} for e in examples]
        batch = self.collate(examples, tensors, draws)
        return {name: values.to(self.base.device) for name, values in batch.items()}

    def _batches(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(self.bucket(row), []).append(row)
        for group in groups.values():
            for start in range(0, len(group), self.options.sample_batch):
                yield group[start : start + self.options.sample_batch]

    def lighter(self, doing: Phase) -> list[str]:
        """List settings that need less memory: images at once, their size, the base's bits."""
        return memory_hints(doing, self.base, self.options.sample_batch, self.resolution)

    def save(self, folder: Path) -> None:
        """Write the adapter; see `save_adapter`.

        With a brand's guide, `brand.yaml` beside it has the words that prompts may not have.
        """
        save_adapter(self.base, TRAINED_ADAPTER, folder)
        if self._guide is not None:
            write_words(self._guide, folder)

    def release(self) -> DiffusionBase:
        """Remove the adapter and return the base as it was loaded.

        The task can't be used afterwards.
        """
        adapted = self.base.adapted
        self.base.pipeline.unload_lora_weights()
        for model in adapted.values():
            model.requires_grad_(False).eval()
        return self.base


def _latent(stored: Tensors, draw: Draw) -> Tensor:
    """The stored latent, or a sample of the stored posterior, [channels, h, w]."""
    if "latent" in stored:
        return stored["latent"]
    return stored["mean"] + stored["std"] * draw.normal("posterior", tuple(stored["std"].shape))
