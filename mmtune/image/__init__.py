"""Diffusion models and the look of a brand: what the shared parts need to know of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mmtune.config import RunConfig, Section
from mmtune.data.rows import Row
from mmtune.errors import ConfigError
from mmtune.image.corpus.image_reader import ImageReader
from mmtune.image.image_options import ImageOptions
from mmtune.modality import Modality

if TYPE_CHECKING:
    from mmtune.adapters.exported import Export, Exported
    from mmtune.adapters.members import Merge
    from mmtune.adapters.routing import Router
    from mmtune.adapters.ways import TestSet
    from mmtune.data.dataset import Dataset
    from mmtune.evaluate.comparison import Comparison
    from mmtune.predict import Predictor
    from mmtune.prefix.cache import PrefixCache
    from mmtune.prefix.features import Features
    from mmtune.train.task import Task


class ImageModality(ImageReader, Modality):
    """Implements `mmtune.modality.Modality`; torch is imported only where a model is needed."""

    options: type[Section] = ImageOptions
    formats: Mapping[str, str] = MappingProxyType(
        {
            "diffusers": "a LoRA folder for load_lora_weights",
            "kohya": "one .safetensors for ComfyUI and A1111",
            "fused": "the whole pipeline, the adapter in its weights",
        }
    )

    def prepare(self, config: RunConfig) -> Path:
        """The images that the settings name.

        Raises:
            ConfigError: they name none, or what they name isn't there.
        """
        if config.data.path is None:
            raise ConfigError(
                f"{config.recipe}: no images to learn from",
                "give --data FOLDER, or make the demo's brand: "
                "python recipes/brand_style/openmoji.py runs/openmoji",
            )
        if not config.data.path.exists():
            raise ConfigError(
                f"no such file or folder: {config.data.path}", "correct --data (data.path)"
            )
        return config.data.path

    def extend(self, config: RunConfig, dataset: Dataset) -> Path | None:
        """Images that the base draws, as `task.prior` says."""
        from mmtune.image.corpus.prior import extend

        return extend(config, dataset)

    def task(self, config: RunConfig, dataset: Dataset, cache: PrefixCache | None) -> Task:
        """A LoRA on the base's denoiser."""
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

    def predictor(
        self, base: str, adapters: Mapping[str, Path], features: Features | None = None
    ) -> Predictor:
        """The base with diffusers LoRA folders, sampled with the default settings."""
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
        """Base against adapter on the test captions: style, nearest training image, a grid."""
        from mmtune.image.evaluation.compare import compare
        from mmtune.image.image_task import ImageTask

        return compare(config, dataset, folder, task if isinstance(task, ImageTask) else None)

    def export(self, request: Export) -> Exported:
        """A LoRA folder, a single file, or the pipeline with the adapter in it."""
        from mmtune.image.export import export

        return export(request)

    def merge(self, request: Merge) -> float:
        """Several adapters as one LoRA folder of diffusers."""
        from mmtune.image.diffusion.merge_adapters import merge

        return merge(request)

    def try_out(
        self,
        base: str,
        adapters: Mapping[str, Path],
        choices: Mapping[str, Router],
        test_sets: Sequence[TestSet],
    ) -> Mapping[str, Sequence[str]]:
        """Style of each setting towards each brand, and likeness to its training images."""
        from mmtune.image.evaluation.tryout import try_out

        return try_out(base, adapters, choices, test_sets)

    def playable(self, row: Row) -> tuple[str, bytes]:
        """The image as a PNG without its metadata."""
        import io

        from mmtune.image.pictures.pixels import open_image

        buffer = io.BytesIO()
        open_image(row.path).save(buffer, "PNG")
        return "image/png", buffer.getvalue()


MODALITY = ImageModality()
