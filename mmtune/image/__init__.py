"""Diffusion models and the look of a brand: what the shared parts need to know of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mmtune.config import RunConfig, Section
from mmtune.data.importing import Imported
from mmtune.data.rows import Finding, Inspection, Row
from mmtune.errors import ConfigError
from mmtune.image.image_options import ImageOptions
from mmtune.image.image_row import ImageRow

if TYPE_CHECKING:
    from mmtune.adapters.exported import Export, Exported
    from mmtune.adapters.members import Merge
    from mmtune.adapters.routing import Choose
    from mmtune.adapters.ways import Trial
    from mmtune.data.dataset import Dataset
    from mmtune.evaluate.comparison import Comparison
    from mmtune.predict import Predictor
    from mmtune.prefix.cache import PrefixCache
    from mmtune.prefix.features import Features
    from mmtune.train.task import Task


class ImageModality:
    """Implements `mmtune.modality.Modality`; torch is imported only where a model is needed."""

    name = "image"
    row: type[Row] = ImageRow
    options: type[Section] = ImageOptions
    formats: Mapping[str, str] = MappingProxyType(
        {
            "diffusers": "a LoRA folder for load_lora_weights",
            "kohya": "one .safetensors for ComfyUI and A1111",
            "fused": "the whole pipeline, the adapter in its weights",
        }
    )

    def scan(self, folder: Path) -> Iterator[dict[str, Any] | Finding]:
        """Images with captions in files beside them, in metadata, or in names."""
        from mmtune.image.corpus import folders

        return folders.scan(folder)

    def inspect(self, row: Row) -> Inspection:
        """Decode one image."""
        from mmtune.image.corpus import check_picture as check

        return check.inspect(row)

    def check_rows(
        self,
        rows: Sequence[Row],
        terms: Path | None = None,
        *,
        seen: Sequence[Inspection] = (),
        base: str | None = None,
        settings: Section | None = None,
    ) -> list[Finding]:
        """Findings that need all rows, or the base that they are for.

        Raises:
            ConfigError: a term list is given.
            BaseModelError: the base can't be read.
        """
        from mmtune.image.corpus import check_picture as check

        if terms is not None:
            raise ConfigError("images have no term list", "leave out --terms")

        options = settings if isinstance(settings, ImageOptions) else ImageOptions()
        return check.check_rows(rows, seen, base, options.resolution, options.trigger)

    def recognise(self, source: Path, layout: str | None = None) -> bool:
        """No: images in folders need no import, and no other layout is known yet."""
        return False

    def import_data(
        self,
        source: Path,
        to: Path,
        layout: str | None,
        settings: Mapping[str, Any],
        progress: Callable[[int], None] | None = None,
    ) -> Imported:
        """Not for images yet.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("images are not imported", f"train on them as they are: --data {source}")

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

    def retention(self, config: RunConfig) -> Sequence[Row]:
        """None: what an image adapter must keep isn't measured by its validation."""
        return ()

    def task(self, config: RunConfig, dataset: Dataset, cache: PrefixCache | None) -> Task:
        """A LoRA on the base's denoiser."""
        from mmtune.image.diffusion.base import load_base, pick_device
        from mmtune.image.image_task import ImageTask
        from mmtune.system.precision import DTYPES, choose

        options = config.task
        assert isinstance(options, ImageOptions)
        device = pick_device()
        dtype = DTYPES[choose(config.train.precision, device)]
        base = load_base(config.base, device, dtype, options.quantize)
        return ImageTask(config, dataset, base, cache)

    def predictor(
        self, base: str, adapters: Mapping[str, Path], features: Features | None = None
    ) -> Predictor:
        """The base with diffusers LoRA folders, sampled with the default settings."""
        from mmtune.image.diffusion.base import load_base, pick_device
        from mmtune.image.sampling.generate import ImagePredictor
        from mmtune.system.precision import DTYPES, choose

        device = pick_device()
        loaded = load_base(base, device, DTYPES[choose("auto", device)])
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
        from mmtune.image.evaluation.tryout import merge

        return merge(request)

    def try_out(
        self,
        base: str,
        adapters: Mapping[str, Path],
        settings: Mapping[str, Choose],
        trials: Sequence[Trial],
    ) -> Mapping[str, Sequence[str]]:
        """Style of each setting towards each brand, and likeness to its training images."""
        from mmtune.image.evaluation.tryout import try_out

        return try_out(base, adapters, settings, trials)

    def playable(self, row: Row) -> tuple[str, bytes]:
        """The image as a PNG without its metadata."""
        import io

        from mmtune.image.pictures.pixels import open_image

        buffer = io.BytesIO()
        open_image(row.path).save(buffer, "PNG")
        return "image/png", buffer.getvalue()


MODALITY = ImageModality()
