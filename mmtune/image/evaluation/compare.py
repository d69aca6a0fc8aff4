"""Comparison of base and adapter on the test captions: the report card, samples and a grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from mmtune.adapters.card import CARD_FILE, read_card
from mmtune.adapters.integrity import check_base
from mmtune.config import RunConfig
from mmtune.data.rows import Row
from mmtune.errors import ConfigError
from mmtune.evaluation.answers import StoredPredictor
from mmtune.evaluation.comparison import Comparison
from mmtune.image.corpus.evaluation_rows import MIN_TEST_ROWS, evenly_spaced, held_out_rows
from mmtune.image.corpus.prompt import prompt_of
from mmtune.image.diffusion.base import DiffusionBase, load_base
from mmtune.image.diffusion.stages import TextStage
from mmtune.image.evaluation.compared_images import (
    HELD_OUT_CAPTIONS,
    OUTSIDE_PROMPTS,
    ComparedImages,
    format_interval,
    memoized,
)
from mmtune.image.evaluation.copies import Copy, copies_measure
from mmtune.image.evaluation.guide_rules import JudgedBy, judge_guide, with_guide
from mmtune.image.evaluation.measures import (
    adapter_style,
    added_measures,
    cmmd_measure,
    nearest_measure,
    palette_measure,
    read_controls,
    set_measures,
    style_measures,
)
from mmtune.image.evaluation.prompt_measures import (
    content_measure,
    outside_rows,
    prompt_measure,
    unknown_content,
)
from mmtune.image.evaluation.refused_images import refused_measure
from mmtune.image.image_options import ImageOptions
from mmtune.image.image_task import ImageTask
from mmtune.image.looks.backbone import STYLE, load_backbone
from mmtune.image.looks.content_filter import ContentFilter, load_filter
from mmtune.image.looks.describe import StyleDescriptor
from mmtune.image.looks.embedding import Embed, Scorer
from mmtune.image.looks.scorer_choice import choose_scorer
from mmtune.image.pictures.encode import save_picture
from mmtune.image.pictures.grid import draw_grid
from mmtune.image.pictures.pixels import open_image
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.image.sampling.sampler import Sampler
from mmtune.metrics.image.clip_score import PROMPT_MATCH
from mmtune.metrics.image.content_score import CONTENT
from mmtune.metrics.image.nearest import NearestTraining
from mmtune.metrics.image.style import STYLE_QUANTITY, StyleDistance, StyleScore
from mmtune.metrics.measure import Measure
from mmtune.predict import Request
from mmtune.prefix.cache import PrefixCache
from mmtune.prefix.features import Features
from mmtune.system.hashing import hash_text
from mmtune.system.precision import DTYPES, choose_precision
from mmtune.system.processes import pick_device
from mmtune.training.selection import COMPARED

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset

LOADED_ADAPTER, OTHER = "adapter", "other"
MAX_COPY_EXAMPLES = 12  # pairs of copy and training image that the report shows

RowSeeds = Sequence[tuple[Row, int]]  # which rows to generate images for, and with which seeds
Generate = Callable[[RowSeeds, dict[str, float]], list[Image]]  # the second: adapter strengths


@dataclass(frozen=True)
class _Generated:
    """All that the models generated for a comparison.

    Attributes:
        row_seeds: row and seed of each image in `compared`.
        files: where the images of `compared` are, by "base" and `LOADED_ADAPTER`.
        copies: images for training captions that repeat a training image; None if not asked for.
        outside: images for prompts that aren't the brand's; None if not asked for.
    """

    row_seeds: RowSeeds
    compared: ComparedImages
    files: dict[str, list[Path]]
    similar: NearestTraining
    copies: tuple[Measure, list[Copy]] | None
    outside: ComparedImages | None


def compare(
    config: RunConfig,
    dataset: Dataset,
    folder: Path,
    task: ImageTask | None = None,
    *,
    other: Path | None = None,
) -> Comparison | None:
    """Generate with base and adapter for each test caption and seed, and measure the difference.

    Each adapter has the strength that its card recommends; without a card it has all of it. Base
    and adapter start from the same noise. Writes the images to
    `folder/samples/{base,adapter,training captions}/*.png` and a grid to `folder/grid.png`. Images
    that are stored in `folder/answers/` aren't generated again.

    Args:
        folder: the run folder; its `adapter/` is loaded strictly.
        task: the task that was trained; its base and caption embeddings are reused, and it can't
            be used afterwards. None: the base is loaded.
        other: folder of another adapter, which takes the base's place. Copies and the style score,
            whose scale is the base's, aren't measured then.

    Returns:
        None in processes that only generate a share of the images, see
        `mmtune.evaluation.parallel`.

    Raises:
        DataError: there are fewer than two held-out or two training images.
        AdapterError: the adapter can't be loaded, changes nothing, or was trained on another base.
    """
    options = config.task
    if not isinstance(options, ImageOptions):
        raise ConfigError(f"{config.recipe} has no image settings", "set modality: image")
    adapters = {LOADED_ADAPTER: folder / "adapter"}
    if other is not None:
        adapters[OTHER] = other
        options = options.model_copy(update={"copy_seeds": 0})
    options = with_guide(options)
    test, train = held_out_rows(dataset), dataset.split("train")
    base, features = _load(config, options, task)
    for path in adapters.values():
        check_base(path, base.name, base.fingerprint)
    sampled = ImagePredictor(
        base,
        adapters,
        features,
        steps=options.steps,
        guidance=options.guidance,
        resolution=options.resolution,
        batch=options.sample_batch,
    )
    predictor = StoredPredictor(
        folder, sampled.fingerprint, lambda: sampled, chunk=options.sample_batch
    )
    real = [open_image(row.path, options.background) for row in test]
    brand = [open_image(row.path, options.background) for row in train]
    with predictor.asking() as main:
        if not main:
            return None

        def generate(row_seeds: RowSeeds, strengths: dict[str, float]) -> list[Image]:
            if other is not None and not strengths:
                strengths = {OTHER: judged_scale_of(other)}
            requests = [
                Request(
                    row.model_copy(update={"caption": prompt_of(row, options.trigger)}),
                    strengths,
                    seed,
                )
                for row, seed in row_seeds
            ]
            return [prediction.value for prediction in predictor.predict(requests)]

        chosen = choose_scorer(options.clip_model, base.name)
        scorer, reason = chosen.load(base.device)  # a wrong name is told before all is drawn
        named = options.image_filter
        content_filter = load_filter(named, base.device) if named is not None else None
        strength = judged_scale_of(folder / "adapter")
        with_adapter = {LOADED_ADAPTER: strength}
        generated = _generate_all(
            options, dataset, folder, generate, real, brand, with_adapter, scorer is not None
        )

    compared = generated.compared
    metric = StyleDistance(memoized(style_encoder(options, sampled.sampler)), compared.brand)
    style = adapter_style(compared, metric)
    nearest, near = nearest_measure(compared, generated.similar, train)
    grid = _save_grid(folder, test, compared)
    copies = generated.copies[1] if generated.copies else []
    embed = memoized(scorer.images) if scorer is not None else None
    measures = _measures(
        options, base, generated, metric, style, nearest, scorer, embed, reason, content_filter
    )
    content = next(m for m in measures if m.metric == CONTENT.name)
    judged = judge_guide(options, folder, dataset.rows, compared, JudgedBy(content, scorer, embed))
    measures += judged[1] if judged else []
    if other is not None:
        measures = [m for m in measures if m.metric != STYLE_QUANTITY.name]
    measures = [_by_row(m, compared) for m in measures]
    return Comparison(
        modality="image",
        measures=measures,
        headline=headline(config.name, style, nearest, grid, strength),
        examples=[
            *map(_copy_example, copies[:MAX_COPY_EXAMPLES]),
            *_examples(generated, near),
        ],
        files={"grid": grid}
        | {name: p for name in COMPARED if (p := folder / f"{name}.png").is_file()},
        measured_on=f"Measured on {len(test)} captions of pictures that it wasn't trained on.",
        use={
            "Use it": 'mmtune generate --adapter {run} --prompt "TEXT"',
            "Export it": "mmtune export {run} --format kohya --out brand.safetensors",
        },
        guide=judged[0] if judged else None,
    )


def _by_row(measure: Measure, compared: ComparedImages) -> Measure:
    """The measure with its number of images of each held-out row, if these are its items."""
    if measure.slice != HELD_OUT_CAPTIONS or measure.items != len(compared.rows):
        return measure
    return dataclasses.replace(measure, per_row=compared.seeds)


def judged_scale_of(adapter: Path) -> float:
    """The strength at which an adapter folder's adapter is judged; 1 if it has no card."""
    return read_card(adapter).judged_scale if (adapter / CARD_FILE).is_file() else 1.0


def _load(
    config: RunConfig, options: ImageOptions, task: ImageTask | None
) -> tuple[DiffusionBase, Features]:
    """The base without adapters and its caption embeddings, from the task if there is one."""
    if task is not None:
        return task.release(), task.features
    device = pick_device()
    dtype = DTYPES[choose_precision(config.train.precision, device)]
    base = load_base(config.base, device, dtype, options.quantize)
    # Base and adapter need each caption several times: encode it once.
    return base, Features({"text": TextStage(base)}, PrefixCache() if config.cache else None)


def _generate_all(
    options: ImageOptions,
    dataset: Dataset,
    folder: Path,
    generate: Generate,
    real: list[Image],
    brand: list[Image],
    with_adapter: dict[str, float],
    prompts: bool,
) -> _Generated:
    """Generate and write all images that the measures need."""
    test, train = held_out_rows(dataset), dataset.split("train")
    row_seeds = [(row, seed) for row in test for seed in range(options.seeds)]
    similar = NearestTraining(brand)
    compared = ComparedImages(
        rows=[row for row, _ in row_seeds],
        seeds=options.seeds,
        base=generate(row_seeds, {}),
        adapter=generate(row_seeds, with_adapter),
        real=real,
        brand=brand,
    )
    samples = folder / "samples"
    files = {
        "base": _save_images(samples / "base", row_seeds, compared.base),
        LOADED_ADAPTER: _save_images(samples / LOADED_ADAPTER, row_seeds, compared.adapter),
    }
    copies = None
    if options.copy_seeds:
        trained = [
            (row, seed)
            for row in evenly_spaced(train, options.copy_captions)
            for seed in range(options.copy_seeds)
        ]
        repeated = generate(trained, with_adapter)
        written = _save_images(samples / "training captions", trained, repeated)
        copies = copies_measure(
            trained, repeated, written, real, brand, train, lambda some: generate(some, {})
        )
    outside = None
    if prompts:
        outside = _generate_outside_prompts(options, dataset, brand, generate, with_adapter)
    return _Generated(row_seeds, compared, files, similar, copies, outside)


def _generate_outside_prompts(
    options: ImageOptions,
    dataset: Dataset,
    brand: list[Image],
    generate: Generate,
    with_adapter: dict[str, float],
) -> ComparedImages | None:
    """Images for prompts outside the brand's subjects; None if fewer than four prompts are left."""
    rows = outside_rows(options.outside_prompts, [row.reference for row in dataset.rows])
    if len(rows) < MIN_TEST_ROWS:
        return None
    row_seeds = [(row, seed) for row in rows for seed in range(options.seeds)]
    base = generate(row_seeds, {})
    return ComparedImages(
        rows=[row for row, _ in row_seeds],
        seeds=options.seeds,
        base=base,
        adapter=generate(row_seeds, with_adapter),
        real=base[:: options.seeds],  # real images of these in the brand's look don't exist
        brand=brand,
    )


def _measures(
    options: ImageOptions,
    base: DiffusionBase,
    generated: _Generated,
    metric: StyleDistance,
    style: StyleScore,
    nearest: Measure,
    scorer: Scorer | None,
    embed: Embed | None,
    reason: str,
    content_filter: ContentFilter | None,
) -> list[Measure]:
    """All measures of the report card, in its order."""
    compared = generated.compared
    controls = (
        read_controls(options.controls, options.background) if options.controls is not None else {}
    )
    measures = [*style_measures(compared, metric, style, controls), nearest]
    measures.append(palette_measure(compared, options.palette))
    measures += [generated.copies[0]] if generated.copies else []
    measures += set_measures(compared, metric)
    if scorer is None or embed is None:
        measures.append(unknown_content(compared, f"no model judges captions: {reason}"))
    else:
        measures.append(content_measure(compared, scorer, embed))
        measures.append(prompt_measure(compared, scorer, embed))
        if generated.outside is not None:
            measures.append(
                prompt_measure(generated.outside, scorer, embed, OUTSIDE_PROMPTS, "base")
            )
        # starter:match was trained on icons alone: too little for distances between sets.
        if scorer.metric != PROMPT_MATCH.name:
            measures.append(cmmd_measure(compared, embed))
    if scorer is None and options.backbone not in (None, STYLE):
        measures.append(cmmd_measure(compared, metric.describe))
    if content_filter is not None:
        sets = [compared] if generated.outside is None else [compared, generated.outside]
        measures.append(refused_measure(sets, content_filter))
    return [*measures, *added_measures(compared)]


def _save_grid(folder: Path, test: Sequence[Row], compared: ComparedImages) -> Path:
    grid = folder / "grid.png"
    drawn = draw_grid(
        [row.reference for row in test],
        {
            "base": list(compared.base[:: compared.seeds]),
            "adapter": list(compared.adapter[:: compared.seeds]),
            "brand": compared.real,
        },
    )
    save_picture(drawn, grid, private=True)
    return grid


def _examples(generated: _Generated, near: Sequence[Path]) -> list[dict[str, Any]]:
    """One example per test caption: the images of the first seed."""
    return [
        {
            "kind": HELD_OUT_CAPTIONS,
            "made": ["base", LOADED_ADAPTER],
            "prompt": row.reference,
            "base": generated.files["base"][i],
            "adapter": generated.files[LOADED_ADAPTER][i],
            "brand": row.path,
            "nearest training image": near[i],
        }
        for i, (row, seed) in enumerate(generated.row_seeds)
        if seed == 0
    ]


def _copy_example(copy: Copy) -> dict[str, Any]:
    """An example of a copy, with the same columns as the other examples."""
    return {
        "kind": "like a training image",
        "made": [LOADED_ADAPTER],
        "prompt": f"{copy.prompt} (trained; similarity {copy.similarity:.2f})",
        "adapter": copy.image,
        "nearest training image": copy.training,
    }


def style_encoder(options: ImageOptions, sampler: Sampler) -> Embed:
    """Choose the encoder that describes looks: `task.backbone`, or the frozen base itself.

    While the base describes images, its adapters must be switched off.

    Raises:
        BaseModelError: the encoder can't be loaded.
    """
    if options.backbone is not None:
        return load_backbone(options.backbone, sampler.base.device)
    return StyleDescriptor(sampler.base, sampler.resolution, sampler.features, sampler.batch)


def headline(
    name: str, style: StyleScore, nearest: Measure, grid: Path, strength: float = 1.0
) -> str:
    """Write the one-line result for the terminal."""
    at = "" if strength == 1 else f" at strength {strength:g}"
    score = format_interval(style.score) if style.measurable else "not measurable"
    return (
        f"image    {name.replace('_', ' ')}{at}   style 0 = base, 1 = brand: {score}   "
        f"nearest training image {format_interval(nearest.adapter)} ({nearest.note})   grid {grid}"
    )


def _save_images(folder: Path, row_seeds: RowSeeds, images: Sequence[Image]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    # A row's id may hold any character; its hash is a safe file name.
    paths = [folder / f"{hash_text(row.id)[:16]}-{seed}.png" for row, seed in row_seeds]
    for path, image in zip(paths, images, strict=True):
        save_picture(image, path, private=True)
    return paths
