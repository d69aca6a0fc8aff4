"""Base against adapter on the test captions: the report card, and a grid to see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from mmtune.adapters.card import read_card
from mmtune.config import RunConfig
from mmtune.data.rows import Row
from mmtune.errors import AdapterError, ConfigError
from mmtune.evaluate.answers import StoredPredictor
from mmtune.evaluate.comparison import Comparison
from mmtune.image.corpus.held_out import MIN_TEST_ROWS, evenly, held_out
from mmtune.image.corpus.prompt import caption_of
from mmtune.image.diffusion.base import load_base
from mmtune.image.diffusion.stages import TextStage
from mmtune.image.evaluation.copies import Copy, copies_measure
from mmtune.image.evaluation.measures import (
    CAPTIONS,
    OUTSIDE,
    Drawn,
    cmmd_measure,
    nearest_measure,
    once,
    outside_rows,
    palette_measure,
    prompt_measure,
    read_controls,
    set_measures,
    short,
    style_measures,
    style_of,
)
from mmtune.image.image_options import ImageOptions
from mmtune.image.image_task import ImageTask
from mmtune.image.looks.backbone import MATCH, STYLE, Embed, load_backbone, load_scorer
from mmtune.image.looks.describe import StyleDescriptor
from mmtune.image.pictures.grid import draw_grid
from mmtune.image.pictures.pixels import open_image
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.image.sampling.sampler import Sampler
from mmtune.metrics.image.nearest import NearestTraining
from mmtune.metrics.image.style import StyleDistance, StyleScore
from mmtune.metrics.measure import Measure
from mmtune.predict import Request
from mmtune.prefix.cache import PrefixCache
from mmtune.prefix.features import Features
from mmtune.system.hashing import hash_text
from mmtune.system.precision import DTYPES, choose_precision
from mmtune.system.processes import pick_device
from mmtune.train.selection import COMPARED

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset

LOADED_ADAPTER = "adapter"
MOST_COPIES = 12  # pairs that the report shows


def compare(
    config: RunConfig, dataset: Dataset, folder: Path, task: ImageTask | None = None
) -> Comparison | None:
    """Sample base and adapter for each test caption and seed, with the same noise, and measure.

    Writes `folder/samples/{base,adapter,training captions}/*.png` and `folder/grid.png`. Images in
    its `answers/` aren't drawn again.

    Args:
        folder: the run's; its `adapter/` is loaded strictly.
        task: the one that was trained, whose base and caption embeddings serve again; it can't be
            used afterwards. None: the base is loaded.

    Returns:
        None in the processes that only draw, see `mmtune.evaluate.parallel`.

    Raises:
        DataError: fewer than two held-out images or two training images.
        AdapterError: the adapter doesn't load, changes nothing, or was trained on other weights.
    """
    options = config.task
    if not isinstance(options, ImageOptions):
        raise ConfigError(f"{config.recipe} has no image settings", "set modality: image")
    test, train = held_out(dataset), dataset.split("train")
    if task is not None:
        base, features = task.release(), task.features
    else:
        device = pick_device()
        dtype = DTYPES[choose_precision(config.train.precision, device)]
        base = load_base(config.base, device, dtype, options.quantize)
        # Each caption is drawn several times, by base and by adapter: encode it once.
        features = Features({"text": TextStage(base)}, PrefixCache() if config.cache else None)
    trained_on = read_card(folder / "adapter").base_hash
    if trained_on != base.fingerprint:
        raise AdapterError(
            f"{folder / 'adapter'} was trained on other weights of {config.base} "
            f"({trained_on[:12]}, now {base.fingerprint[:12]}): a comparison would mislead",
            "restore that base, or train again under another --name",
        )
    sampled = ImagePredictor(
        base,
        {LOADED_ADAPTER: folder / "adapter"},
        features,
        steps=options.steps,
        guidance=options.guidance,
        resolution=options.resolution,
        batch=options.sample_batch,
    )
    predictor = StoredPredictor(
        folder, sampled.fingerprint, lambda: sampled, chunk=options.sample_batch
    )
    asked = [(row, seed) for row in test for seed in range(options.seeds)]
    real = [open_image(row.path, options.background) for row in test]
    brand = [open_image(row.path, options.background) for row in train]
    similar = NearestTraining(brand)
    copies: tuple[Measure, list[Copy]] | None = None
    outside: Drawn | None = None
    with predictor.asking() as main:
        if not main:
            return None

        def draw(asked: Sequence[tuple[Row, int]], weights: dict[str, float]) -> list[Image.Image]:
            requests = [
                Request(
                    r.model_copy(update={"caption": caption_of(r, options.trigger)}), weights, s
                )
                for r, s in asked
            ]
            return [p.value for p in predictor.predict(requests)]

        drawn = Drawn(
            rows=[row for row, _ in asked],
            seeds=options.seeds,
            base=draw(asked, {}),
            adapter=draw(asked, {LOADED_ADAPTER: 1.0}),
            real=real,
            brand=brand,
        )
        files = {
            "base": _write(folder / "samples" / "base", asked, drawn.base),
            LOADED_ADAPTER: _write(folder / "samples" / LOADED_ADAPTER, asked, drawn.adapter),
        }
        if options.copy_seeds:
            again = [
                (row, seed)
                for row in evenly(train, options.copy_captions)
                for seed in range(options.copy_seeds)
            ]
            repeated = draw(again, {LOADED_ADAPTER: 1.0})
            written = _write(folder / "samples" / "training captions", again, repeated)
            copies = copies_measure(
                again, repeated, written, real, similar, train, lambda of: draw(of, {})
            )
        outside = _outside(options, dataset, brand, draw) if options.clip_model else None

    metric = StyleDistance(once(judge_of(options, sampled.sampler)), drawn.brand)
    style = style_of(drawn, metric)
    controls = (
        read_controls(options.controls, options.background) if options.controls is not None else {}
    )
    nearest, near = nearest_measure(drawn, similar, train)
    measures = [*style_measures(drawn, metric, style, controls), nearest]
    measures.append(palette_measure(drawn, options.palette))
    measures += [copies[0]] if copies else []
    measures += set_measures(drawn, metric)
    if options.clip_model is not None:
        scorer = load_scorer(options.clip_model, base.device)
        images = once(scorer.images)
        measures.append(prompt_measure(drawn, scorer, images))
        if outside is not None:
            measures.append(prompt_measure(outside, scorer, images, OUTSIDE, "base"))
        if options.clip_model != MATCH:  # distances of sets need a space that knows more than icons
            measures.append(cmmd_measure(drawn, images))
    elif options.backbone not in (None, STYLE):
        measures.append(cmmd_measure(drawn, metric.describe))

    grid = folder / "grid.png"
    firsts = range(0, len(asked), options.seeds)
    draw_grid(
        [row.reference for row in test],
        {
            "base": [drawn.base[i] for i in firsts],
            "adapter": [drawn.adapter[i] for i in firsts],
            "brand": drawn.real,
        },
    ).save(grid)
    examples: list[dict[str, Any]] = [
        {
            "kind": CAPTIONS,
            "made": ["base", LOADED_ADAPTER],
            "prompt": row.reference,
            "base": files["base"][i],
            "adapter": files[LOADED_ADAPTER][i],
            "brand": row.path,
            "nearest training image": near[i],
        }
        for i, (row, seed) in enumerate(asked)
        if seed == 0
    ]
    return Comparison(
        modality="image",
        measures=measures,
        headline=headline(config.name, style, nearest, grid),
        examples=[*map(_shown, copies[1][:MOST_COPIES] if copies else ()), *examples],
        files={"grid": grid}
        | {name: p for name in COMPARED if (p := folder / f"{name}.png").is_file()},
    )


def _outside(
    options: ImageOptions,
    dataset: Dataset,
    brand: list[Image.Image],
    draw: Callable[[Sequence[tuple[Row, int]], dict[str, float]], list[Image.Image]],
) -> Drawn | None:
    """Prompts that have nothing to do with the brand's subjects; None where too few are left."""
    others = outside_rows(options.outside_prompts, [row.reference for row in dataset.rows])
    if len(others) < MIN_TEST_ROWS:
        return None
    asked = [(row, seed) for row in others for seed in range(options.seeds)]
    plain = draw(asked, {})
    return Drawn(
        rows=[row for row, _ in asked],
        seeds=options.seeds,
        base=plain,
        adapter=draw(asked, {LOADED_ADAPTER: 1.0}),
        real=plain[:: options.seeds],  # nobody has drawn them in the brand's look
        brand=brand,
    )


def judge_of(options: ImageOptions, sampler: Sampler) -> Embed:
    """What describes how images look: the encoder that is named, else the base itself.

    The base's adapters have to be switched off while it does.
    """
    if options.backbone is not None:
        return load_backbone(options.backbone, sampler.base.device)
    return StyleDescriptor(sampler.base, sampler.resolution, sampler.features, sampler.batch)


def _shown(copy: Copy) -> dict[str, Any]:
    """A pair to look at, in the columns of the other examples."""
    return {
        "kind": "like a training image",
        "made": [LOADED_ADAPTER],
        "prompt": f"{copy.prompt} (trained; similarity {copy.similarity:.2f})",
        "adapter": copy.image,
        "nearest training image": copy.training,
    }


def headline(name: str, style: StyleScore, nearest: Measure, grid: Path) -> str:
    """The line for the terminal."""
    score = short(style.score) if style.measurable else "not measurable"
    return (
        f"image    {name.replace('_', ' ')}   style 0 = base, 1 = brand: {score}   "
        f"nearest training image {short(nearest.adapter)} ({nearest.note})   grid {grid}"
    )


def _write(
    folder: Path, asked: Sequence[tuple[Row, int]], images: Sequence[Image.Image]
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    # A row's id may hold anything; its hash is a safe name.
    paths = [folder / f"{hash_text(row.id)[:16]}-{seed}.png" for row, seed in asked]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    return paths
