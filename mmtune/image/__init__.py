"""The image modality: LoRA on diffusion models for the look of a brand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.adapters.model_card import HERE
from mmtune.config import RunConfig, Section
from mmtune.data.importing import FRAMES, Imported
from mmtune.data.rows import Row
from mmtune.errors import ConfigError
from mmtune.image.corpus.image_reader import ImageReader
from mmtune.image.export import FORMATS
from mmtune.image.image_options import ImageOptions
from mmtune.methods import BY_LAYER
from mmtune.modality import Modality

if TYPE_CHECKING:
    from mmtune.adapters.adopt import ForeignAdapter
    from mmtune.adapters.card import Card
    from mmtune.adapters.combinations import TestSet
    from mmtune.adapters.members import Merge
    from mmtune.adapters.model_card import Usage
    from mmtune.adapters.routing import Router
    from mmtune.data.dataset import Dataset
    from mmtune.evaluation.comparison import Comparison
    from mmtune.predict import Predictor
    from mmtune.prefix.cache import PrefixCache
    from mmtune.prefix.features import Features
    from mmtune.training.task import Task


class ImageModality(ImageReader, Modality):
    """The image modality as the shared code uses it; implements `mmtune.modality.Modality`.

    torch is imported only when a model is needed.
    """

    options: type[Section] = ImageOptions
    methods = BY_LAYER
    compares_with_training = True
    adapters_read = "a LoRA adapter of a diffusion model"
    adapter_settings = ("task.text_encoder",)
    adapter_files = ("pytorch_lora_weights.safetensors",)
    reference_names = (
        *("real", "real, others' captions", "own less others' captions", "base, other seed"),
    )
    export_formats: Mapping[str, str] = FORMATS

    def recognise(self, source: Path, layout: str | None = None) -> bool:
        """Whether the layout is that of frames of videos; it is never guessed from the content."""
        return layout == FRAMES

    def import_data(
        self,
        source: Path,
        to: Path,
        layout: str | None,
        settings: Mapping[str, Any],
        progress: Callable[[int], None] | None = None,
        dry: bool = False,
    ) -> Imported:
        """Import frames of videos, see `mmtune.image.corpus.import_frames`."""
        if layout != FRAMES:
            return super().import_data(source, to, layout, settings, progress, dry)
        from mmtune.image.corpus.import_frames import import_frames

        return import_frames(source, to, settings, progress, dry)

    def prepare(self, config: RunConfig) -> Path:
        """Return the data path of the settings.

        Raises:
            ConfigError: the settings name no data, or the path doesn't exist.
        """
        if config.data.path is None:
            raise ConfigError(
                f"{config.recipe}: no training images are given",
                "give --data FOLDER, or make the demo's brand: "
                "python recipes/brand_style/openmoji.py runs/openmoji",
            )
        if not config.data.path.exists():
            raise ConfigError(
                f"no such file or folder: {config.data.path}", "correct --data (data.path)"
            )
        return config.data.path

    def require_base(self, base: str) -> None:
        """Refuse a folder, a file, a hub id or a starter that can't be found."""
        from mmtune.image.source import read_index, resolve_base

        read_index(resolve_base(base))

    def remarks_on_base(self, config: RunConfig) -> Sequence[str]:
        """Warn of a base that is distilled to few steps."""
        from mmtune.image.diffusion.distilled import distilled_note

        note = distilled_note(config.base)
        return () if note is None else (note,)

    def extend(self, config: RunConfig, dataset: Dataset) -> Path | None:
        """Generate images for prior preservation, see `mmtune.image.corpus.prior.draw_prior`."""
        from mmtune.image.corpus.prior import draw_prior

        return draw_prior(config, dataset)

    def task(self, config: RunConfig, dataset: Dataset, cache: PrefixCache | None) -> Task:
        """Load the base and make the training task, see `ImageTask`."""
        from mmtune.image.diffusion.base import load_base
        from mmtune.image.image_task import ImageTask
        from mmtune.system.precision import DTYPES, choose_precision
        from mmtune.system.processes import pick_device

        options = config.task
        assert isinstance(options, ImageOptions)
        device = pick_device()
        dtype = DTYPES[choose_precision(config.train.precision, device)]
        base = load_base(config.base, device, dtype, options.quantize)
        return ImageTask(config, dataset, base, cache)

    def settings_of_adapter(
        self, folder: Path, base: str, beside: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Read rank, alpha, kind and whether text encoders are adapted from a LoRA folder."""
        from mmtune.image.diffusion.denoiser_lora import settings_of_adapter

        return settings_of_adapter(folder, beside)

    def later_work(
        self,
        config: RunConfig,
        dataset: Dataset,
        task: Task,
        validations: int,
        validation_seconds: float,
        load_seconds: float,
    ) -> tuple[float, float]:
        """Count the pictures that the comparisons draw."""
        from mmtune.image.image_task import ImageTask
        from mmtune.image.later_work import later_work

        assert isinstance(task, ImageTask)
        return later_work(config, dataset, task, validations)

    def predictor(
        self, base: str, adapters: Mapping[str, Path], features: Features | None = None
    ) -> Predictor:
        """Load the base with diffusers LoRA folders, to sample with the default settings."""
        from mmtune.image.diffusion.base import load_base
        from mmtune.image.sampling.predictor import ImagePredictor
        from mmtune.system.precision import DTYPES, choose_precision
        from mmtune.system.processes import pick_device

        device = pick_device()
        loaded = load_base(base, device, DTYPES[choose_precision("auto", device)])
        defaults = ImageOptions()
        return ImagePredictor(
            loaded, adapters, features, steps=defaults.steps, guidance=defaults.guidance
        )

    def compare(
        self, config: RunConfig, dataset: Dataset, folder: Path, task: Task | None = None
    ) -> Comparison | None:
        """Compare base and adapter on the test captions, see `mmtune.image.evaluation.compare`."""
        from mmtune.image.evaluation.compare import compare
        from mmtune.image.image_task import ImageTask

        return compare(config, dataset, folder, task if isinstance(task, ImageTask) else None)

    def compare_two(
        self,
        config: RunConfig,
        dataset: Dataset,
        folder: Path,
        other: Path,
        other_base: str | None = None,
    ) -> Comparison | None:
        """Compare two adapters of one base on the test captions (`image/evaluation/compare.py`)."""
        from mmtune.image.evaluation.compare import compare

        return compare(config, dataset, folder, other=other)

    def without_training(self, config: RunConfig) -> RunConfig:
        """The settings without the search for copies of training images."""
        task = config.task.model_copy(update={"copy_seeds": 0})
        return config.model_copy(update={"task": task})

    def knows_adapter(self, keys: Collection[str]) -> bool:
        """Whether these are keys of sd-scripts, LyCORIS, diffusers, peft or ComfyUI."""
        from mmtune.image.diffusion.foreign_lora import knows

        return knows(keys)

    def convert_adapter(self, foreign: ForeignAdapter, base: str, to: Path) -> Mapping[str, str]:
        """Write the adapter as a LoRA folder of diffusers."""
        from mmtune.image.diffusion.foreign_lora import convert

        return convert(foreign, base, to)

    def usage(self, card: Card, adapter: str = HERE) -> Usage:
        """See `mmtune.image.usage`."""
        from mmtune.image.usage import usage

        return usage(card, adapter)

    def merge(self, request: Merge) -> float:
        """Merge several adapters into one LoRA folder of diffusers."""
        from mmtune.image.diffusion.merge_adapters import merge

        return merge(request)

    def try_out(
        self,
        base: str,
        adapters: Mapping[str, Path],
        choices: Mapping[str, Router],
        test_sets: Sequence[TestSet],
    ) -> Mapping[str, Sequence[str]]:
        """Measure ways to combine adapters: see `mmtune.image.evaluation.try_combinations`."""
        from mmtune.image.evaluation.try_combinations import try_out

        return try_out(base, adapters, choices, test_sets)

    def playable(self, row: Row) -> tuple[str, bytes]:
        """Encode the image as a PNG without its metadata, for a page.

        Returns:
            The media type and the bytes.
        """
        import io

        from mmtune.image.pictures.pixels import open_image

        buffer = io.BytesIO()
        open_image(row.path).save(buffer, "PNG")
        return "image/png", buffer.getvalue()


MODALITY = ImageModality()
