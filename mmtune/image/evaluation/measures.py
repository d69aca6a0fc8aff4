"""Measures of a look: style, likeness to training images, palette, diversity, KID and CMMD."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL.Image import Image

from mmtune.data.rows import Row
from mmtune.errors import DataError
from mmtune.image.corpus.evaluation_rows import evenly_spaced
from mmtune.image.evaluation.compared_images import (
    HELD_OUT_CAPTIONS,
    ComparedImages,
    paired_measure,
)
from mmtune.image.looks.embedding import Embed, Vectors
from mmtune.image.pictures.pixels import open_image
from mmtune.image.pictures.suffixes import IMAGE_SUFFIXES
from mmtune.metrics.bootstrap import UNDEFINED, Interval, bootstrap, paired_bootstrap
from mmtune.metrics.image.diversity import DIVERSITY, mean_spread, spread_by_prompt
from mmtune.metrics.image.mmd import CMMD, KID, KernelDistance, gaussian, polynomial
from mmtune.metrics.image.nearest import Nearest, NearestTraining
from mmtune.metrics.image.palette import PaletteShare, estimate_palette, parse_palette, to_hex
from mmtune.metrics.image.style import (
    STYLE_QUANTITY,
    StyleDistance,
    StyleScore,
    control_score,
    style_score,
)
from mmtune.metrics.measure import Measure
from mmtune.metrics.metric import Metric, Stat
from mmtune.metrics.registry import added_metrics
from mmtune.predict import Prediction

MAX_CONTROL_IMAGES = 100  # images read of each other style


def adapter_style(compared: ComparedImages, metric: StyleDistance) -> StyleScore:
    """Compute the adapter's style score: 0 is the base, 1 the brand's held-out real images."""
    return style_score(
        metric,
        metric.statistics(compared.base),
        metric.statistics(compared.adapter),
        np.repeat(metric.statistics(compared.real), compared.seeds, axis=0),
        compared.prompts,
    )


def style_measures(
    compared: ComparedImages,
    metric: StyleDistance,
    style: StyleScore,
    controls: dict[str, Sequence[Image]],
) -> list[Measure]:
    """Report the style score, other styles on the same scale, and the distance behind the score.

    Args:
        style: from `adapter_style`.
        controls: real images of other styles, see `read_controls`.

    Returns:
        The measures "style" and "style distance". Without a measurable scale "style" is NaN.
    """
    zero = Interval(0.0, 0.0, 0.0)
    references: dict[str, Interval] = {}
    if style.measurable:
        note = "0 = base, 1 = held-out real images of the brand"
        references = _control_scores(compared, metric, controls)
    else:
        note = style.reason
    return [
        Measure(
            metric=STYLE_QUANTITY.name,
            slice=HELD_OUT_CAPTIONS,
            items=len(compared.rows),
            base=zero if style.measurable else UNDEFINED,
            adapter=style.score,
            difference=style.score,
            higher_is_better=True,
            note=note,
            references=references,
        ),
        Measure(
            metric="style distance",
            slice=HELD_OUT_CAPTIONS,
            items=len(compared.rows),
            base=style.base,
            adapter=style.adapter,
            difference=style.difference,
            higher_is_better=False,
            note="to the brand's held-out images, corrected for their number",
        ),
    ]


def _control_scores(
    compared: ComparedImages, metric: StyleDistance, controls: dict[str, Sequence[Image]]
) -> dict[str, Interval]:
    prompts = compared.prompts_of_real
    real, base = metric.statistics(compared.real), metric.statistics(compared.base)
    first = base[:: compared.seeds]  # as many images as `real` has
    scores = {}
    if compared.seeds > 1:
        # The base against itself: its second seed on a scale whose 0 is the first seed.
        second = base[1 :: compared.seeds]
        scores["base, other seed"] = control_score(metric, first, real, prompts, second, prompts)
    for name, images in controls.items():
        other = metric.statistics(images)
        scores[name] = control_score(metric, first, real, prompts, other)
    return scores


def read_controls(
    folder: Path, background: str = "white", max_images: int = MAX_CONTROL_IMAGES
) -> dict[str, Sequence[Image]]:
    """Read real images of other styles.

    Args:
        folder: each subfolder is one style; without subfolders the folder itself is one.
        background: colour behind transparent parts.
        max_images: images to read of each style, evenly spaced over its files.

    Raises:
        DataError: a style has fewer than two images, or an image can't be opened.
    """
    inner = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    styles = {path.name: path for path in inner} or {folder.name: folder}
    images: dict[str, Sequence[Image]] = {}
    for name, place in styles.items():
        files = [f for f in sorted(place.rglob("*")) if f.suffix.lower() in IMAGE_SUFFIXES]
        if len(files) < 2:
            raise DataError(
                f"task.controls: {place} holds {len(files)} images; a style needs at least two",
                "give a folder that holds one subfolder of images for each other style",
            )
        images[name] = [open_image(file, background) for file in evenly_spaced(files, max_images)]
    return images


def nearest_measure(
    compared: ComparedImages, metric: NearestTraining, train: Sequence[Row]
) -> tuple[Measure, list[Path]]:
    """Measure how similar images are to their nearest training image.

    Args:
        metric: made from the images of `train`, in their order.

    Returns:
        The measure, and for each image of the adapter the file of the nearest training image.
    """

    def stats(images: Sequence[Nearest]) -> list[Stat]:
        return [np.array([n.similarity]) for n in images]

    nearest = metric.find(compared.adapter)
    held_out = bootstrap(stats(metric.find(compared.real)), metric.reduce)
    measure = paired_measure(
        metric.name,
        compared,
        stats(metric.find(compared.base)),
        stats(nearest),
        metric.reduce,
        higher_is_better=False,
        note=f"real {held_out.value:.2f}",
        references={"real": held_out},
    )
    return measure, [train[n.index].path for n in nearest]


def palette_measure(compared: ComparedImages, written: Sequence[str]) -> Measure:
    """Measure the share of pixels whose colour is in the brand's palette.

    Args:
        written: the palette as #rrggbb; empty: it is estimated from the training images.
    """
    palette = parse_palette(written) if written else estimate_palette(compared.brand)
    metric = PaletteShare(palette)
    source = "given" if written else "estimated from the training images"
    return paired_measure(
        metric.name,
        compared,
        metric.statistics(compared.base),
        metric.statistics(compared.adapter),
        metric.reduce,
        higher_is_better=True,
        note=f"share of pixels within ΔE2000 5 of {len(palette)} colours, {source}: "
        + " ".join(to_hex(palette)),
        references={"real": bootstrap(list(metric.statistics(compared.real)), metric.reduce)},
    )


def set_measures(compared: ComparedImages, metric: StyleDistance) -> list[Measure]:
    """Measure the diversity of each prompt's seeds, and the KID of the sets of images.

    Both use the style embeddings, in units of the training images' deviation.
    """

    def vectors(images: Sequence[Image]) -> Vectors:
        standardised: Vectors = metric.describe(images) / metric.feature_scale - metric.mean
        return standardised

    base, adapter = vectors(compared.base), vectors(compared.adapter)
    measures = []
    if compared.seeds > 1:
        base_spread, adapter_spread = (
            list(spread_by_prompt(v, compared.prompts)) for v in (base, adapter)
        )
        first, second, difference = paired_bootstrap(base_spread, adapter_spread, mean_spread)
        measures.append(
            Measure(
                metric=DIVERSITY.name,
                slice="seeds of one prompt",
                items=len(base_spread),
                base=first,
                adapter=second,
                difference=difference,
                higher_is_better=True,
                note="mean distance between two seeds of a prompt; 0 if all seeds give one image",
            )
        )
    distance = KernelDistance(polynomial, vectors(compared.brand))
    note = "compare it only with values of the same encoder and brand"
    return [*measures, _set_distance(KID.name, compared, distance, vectors, note)]


def cmmd_measure(compared: ComparedImages, embed: Embed) -> Measure:
    """Measure CMMD (arXiv 2401.09603) to the training images.

    Args:
        embed: gives unit vectors, of CLIP or of another encoder of the hub.
    """
    distance = KernelDistance(gaussian, embed(compared.brand))
    return _set_distance(CMMD.name, compared, distance, embed, "of unit vectors, times 1000")


def _set_distance(
    name: str, compared: ComparedImages, distance: KernelDistance, embed: Embed, note: str
) -> Measure:
    base, adapter, difference = distance.paired(
        embed(compared.base), embed(compared.adapter), compared.prompts
    )
    return Measure(
        metric=name,
        slice=HELD_OUT_CAPTIONS,
        items=len(compared.rows),
        base=base,
        adapter=adapter,
        difference=difference,
        higher_is_better=False,
        note=f"distance to the training images; {note}",
        references={"real": distance.interval(embed(compared.real), compared.prompts_of_real)},
    )


def added_measures(compared: ComparedImages) -> Iterator[Measure]:
    """Measure the metrics that third parties add to comparisons of images."""
    for metric in added_metrics("image"):

        def observed(images: Sequence[Image], metric: Metric = metric) -> list[Stat]:
            pairs = zip(compared.rows, images, strict=True)
            return [metric.observe(row, Prediction(row.id, image)) for row, image in pairs]

        yield paired_measure(
            metric.name,
            compared,
            observed(compared.base),
            observed(compared.adapter),
            metric.reduce,
            higher_is_better=metric.higher_is_better,
            note="",
            references={},
        )
