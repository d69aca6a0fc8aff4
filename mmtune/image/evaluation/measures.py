"""What a comparison says of the images drawn: each metric with its intervals and references."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from mmtune.data.rows import Row
from mmtune.errors import DataError
from mmtune.image.corpus.folders import IMAGE_SUFFIXES
from mmtune.image.corpus.held_out import evenly
from mmtune.image.image_row import ImageRow
from mmtune.image.pictures.pixels import open_image
from mmtune.metrics.bootstrap import Interval, Reduce, bootstrap, paired_bootstrap
from mmtune.metrics.image.clip_score import check_prompts, clip_scores, mean_score, recall, shuffled
from mmtune.metrics.image.diversity import mean_spread, spread_by_prompt
from mmtune.metrics.image.mmd import KernelDistance, gaussian, polynomial
from mmtune.metrics.image.nearest import Nearest, NearestTraining
from mmtune.metrics.image.palette import PaletteShare, estimate_palette, parse_palette, to_hex
from mmtune.metrics.image.style import StyleDistance, StyleScore, control_score, style_score
from mmtune.metrics.measure import Measure
from mmtune.metrics.metric import Stat
from mmtune.system.hashing import hash_text

if TYPE_CHECKING:
    from mmtune.image.looks.backbone import Scorer

Vectors = NDArray[np.float64]
Embed = Callable[[Sequence[Image]], Vectors]
CAPTIONS = "held-out captions"
OUTSIDE = "prompts outside the subjects"
UNDEFINED = Interval(math.nan, math.nan, math.nan)
MOST_CONTROLS = 100  # images of one other style


def short(interval: Interval) -> str:
    """`0.38 [0.28, 0.55]`."""
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


@dataclass(frozen=True)
class Drawn:
    """The images of a comparison.

    Attributes:
        rows: the held-out row of each image drawn; a row's seeds stand together.
        seeds: images of each row, from seed 0 on.
        base, adapter: drawn for `rows`, in their order.
        real: the brand's own image of each held-out row.
        brand: the training images.
    """

    rows: Sequence[Row]
    seeds: int
    base: Sequence[Image]
    adapter: Sequence[Image]
    real: Sequence[Image]
    brand: Sequence[Image]

    @property
    def prompts(self) -> list[str]:
        """Of each image drawn: what is resampled together."""
        return [row.id for row in self.rows]

    @property
    def prompts_of_real(self) -> list[str]:
        """Of each real image."""
        return self.prompts[:: self.seeds]


def once(embed: Embed) -> Embed:
    """`embed` that looks at each image once: several metrics ask for the same ones."""
    known: dict[int, tuple[Image, NDArray[np.float64]]] = {}

    def embedded(images: Sequence[Image]) -> Vectors:
        # The image is kept beside its vector, so that no other can have its id.
        new = list({id(i): i for i in images if id(i) not in known}.values())
        for image, vector in zip(new, embed(new) if new else (), strict=True):
            known[id(image)] = image, vector
        return np.stack([known[id(image)][1] for image in images])

    return embedded


def _paired(
    metric: str,
    drawn: Drawn,
    base: Iterable[Stat],
    adapter: Iterable[Stat],
    reduce: Reduce,
    *,
    better: bool,
    note: str,
    references: dict[str, Interval],
    where: str = CAPTIONS,
) -> Measure:
    """A measure of the images drawn, resampled by prompt and in pairs.

    Args:
        base, adapter: statistics of each image drawn.
        better: whether higher is.
    """
    first, second, difference = paired_bootstrap(
        list(base), list(adapter), reduce, clusters=drawn.prompts
    )
    return Measure(
        metric=metric,
        slice=where,
        items=len(drawn.rows),
        base=first,
        adapter=second,
        difference=difference,
        higher_is_better=better,
        note=note,
        references=references,
    )


def style_of(drawn: Drawn, metric: StyleDistance) -> StyleScore:
    """The style score of the adapter."""
    return style_score(
        metric,
        metric.statistics(drawn.base),
        metric.statistics(drawn.adapter),
        np.repeat(metric.statistics(drawn.real), drawn.seeds, axis=0),
        drawn.prompts,
    )


def style_measures(
    drawn: Drawn, metric: StyleDistance, style: StyleScore, controls: dict[str, Sequence[Image]]
) -> list[Measure]:
    """Style on its scale, with controls on the same scale, and the distance behind it."""
    zero = Interval(0.0, 0.0, 0.0)
    references: dict[str, Interval] = {}
    if style.measurable:
        note = "0 = base, 1 = held-out real images of the brand"
        references = _controls(drawn, metric, controls)
    else:
        note = (
            "not measurable: the base is no farther from the brand than the brand's own held-out "
            f"images are (scale {short(style.scale)})"
        )
    return [
        Measure(
            metric="style",
            slice=CAPTIONS,
            items=len(drawn.rows),
            base=zero if style.measurable else UNDEFINED,
            adapter=style.score,
            difference=style.score,
            higher_is_better=True,
            note=note,
            references=references,
        ),
        Measure(
            metric="style distance",
            slice=CAPTIONS,
            items=len(drawn.rows),
            base=style.base,
            adapter=style.adapter,
            difference=style.difference,
            higher_is_better=False,
            note=f"real {style.real:.2f}",
        ),
    ]


def _controls(
    drawn: Drawn, metric: StyleDistance, controls: dict[str, Sequence[Image]]
) -> dict[str, Interval]:
    prompts = drawn.prompts_of_real
    real, base = metric.statistics(drawn.real), metric.statistics(drawn.base)
    first = base[:: drawn.seeds]  # a set of as many images as `real`
    found = {}
    if drawn.seeds > 1:
        # The base against itself: its second seed on a scale whose 0 is the first.
        second = base[1 :: drawn.seeds]
        again = control_score(metric, first, real, prompts, second, prompts)
        found["base, other seed"] = again
    for name, images in controls.items():
        other = metric.statistics(images)
        found[name] = control_score(metric, first, real, prompts, other)
    return found


def read_controls(folder: Path, background: str = "white") -> dict[str, Sequence[Image]]:
    """Real images of other styles: each subfolder is one, or the folder itself.

    Raises:
        DataError: there are none, a style has fewer than two images, or one can't be opened.
    """
    inner = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    styles = {path.name: path for path in inner} or {folder.name: folder}
    found: dict[str, Sequence[Image]] = {}
    for name, where in styles.items():
        files = [f for f in sorted(where.rglob("*")) if f.suffix.lower() in IMAGE_SUFFIXES]
        if len(files) < 2:
            raise DataError(
                f"task.controls: {where} holds {len(files)} images; a style needs two or more",
                "give a folder with a subfolder of images for each other style",
            )
        found[name] = [open_image(file, background) for file in evenly(files, MOST_CONTROLS)]
    return found


def nearest_measure(
    drawn: Drawn, metric: NearestTraining, train: Sequence[Row]
) -> tuple[Measure, list[Path]]:
    """Likeness to the training images, and the training image nearest to each of the adapter's."""

    def stats(images: Sequence[Nearest]) -> list[Stat]:
        return [np.array([n.similarity]) for n in images]

    near = metric.find(drawn.adapter)
    held_out = bootstrap(stats(metric.find(drawn.real)), metric.reduce)
    measure = _paired(
        "nearest training image",
        drawn,
        stats(metric.find(drawn.base)),
        stats(near),
        metric.reduce,
        better=False,
        note=f"real {held_out.value:.2f}",
        references={"real": held_out},
    )
    return measure, [train[n.index].path for n in near]


def palette_measure(drawn: Drawn, written: Sequence[str]) -> Measure:
    """The share of pixels in the brand's palette, given or estimated from its training images."""
    palette = parse_palette(written) if written else estimate_palette(drawn.brand)
    metric = PaletteShare(palette)
    how = "given" if written else "estimated from the training images"
    return _paired(
        "palette",
        drawn,
        metric.statistics(drawn.base),
        metric.statistics(drawn.adapter),
        metric.reduce,
        better=True,
        note=f"share of pixels within ΔE2000 5 of {len(palette)} colours, {how}: "
        + " ".join(to_hex(palette)),
        references={"real": bootstrap(list(metric.statistics(drawn.real)), metric.reduce)},
    )


def set_measures(drawn: Drawn, metric: StyleDistance) -> list[Measure]:
    """Diversity of a prompt's seeds and KID of the sets, in units of the brand's deviation."""

    def vectors(images: Sequence[Image]) -> Vectors:
        standardised: Vectors = metric.describe(images) / metric.unit - metric.mean
        return standardised

    base, adapter = vectors(drawn.base), vectors(drawn.adapter)
    measures = []
    if drawn.seeds > 1:
        of_base, of_adapter = (list(spread_by_prompt(v, drawn.prompts)) for v in (base, adapter))
        first, second, difference = paired_bootstrap(of_base, of_adapter, mean_spread)
        measures.append(
            Measure(
                metric="diversity",
                slice="seeds of one prompt",
                items=len(of_base),
                base=first,
                adapter=second,
                difference=difference,
                higher_is_better=True,
                note="mean distance of two seeds; of an adapter that draws one picture for all, 0",
            )
        )
    distance = KernelDistance(polynomial, vectors(drawn.brand))
    note = "comparable only with figures of the same encoder and brand"
    return [*measures, _of_sets("KID", drawn, distance, vectors, note)]


def cmmd_measure(drawn: Drawn, embed: Embed) -> Measure:
    """CMMD: of CLIP's unit vectors, or of another hub encoder's."""
    distance = KernelDistance(gaussian, embed(drawn.brand))
    return _of_sets("CMMD", drawn, distance, embed, "of unit vectors, times 1000")


def _of_sets(name: str, drawn: Drawn, distance: KernelDistance, embed: Embed, note: str) -> Measure:
    base, adapter, difference = distance.paired(
        embed(drawn.base), embed(drawn.adapter), drawn.prompts
    )
    return Measure(
        metric=name,
        slice=CAPTIONS,
        items=len(drawn.rows),
        base=base,
        adapter=adapter,
        difference=difference,
        higher_is_better=False,
        note=f"to the training images; {note}",
        references={"real": distance.interval(embed(drawn.real), drawn.prompts_of_real)},
    )


def prompt_measure(
    drawn: Drawn, scorer: Scorer, images: Embed, where: str = CAPTIONS, of: str = "real"
) -> Measure:
    """CLIP score or prompt match of each image and its caption; whether the adapter keeps it.

    Args:
        images: the scorer's, which may remember.
        where: the slice.
        of: what `drawn.real` is, on which the scorer is judged first.
    """
    captions = [row.reference for row in drawn.rows]
    texts = scorer.texts(captions)
    measure = _paired(
        scorer.metric,
        drawn,
        clip_scores(images(drawn.base), texts),
        clip_scores(images(drawn.adapter), texts),
        mean_score,
        better=True,
        note="captions are all the same: nothing to tell apart",
        references={},
        where=where,
    )
    of_real, own = captions[:: drawn.seeds], texts[:: drawn.seeds]
    must_find = scorer.least_recall
    if len(set(of_real)) < 2:
        return measure if must_find is None else _without_figures(measure)
    real = images(drawn.real)
    found = check_prompts(
        clip_scores(real, own),
        clip_scores(real, own[shuffled(of_real)]),
        measure.difference,
        drawn.prompts_of_real,
        None if must_find is None else recall(real, own, of_real),
        must_find or 0.0,
        on=f"{of} images",
    )
    measure = replace(measure, note=str(found))
    if must_find is not None and not found.valid:
        return _without_figures(measure)
    references = {
        of: found.matched,
        f"{of}, others' captions": found.shuffled,
        "own less others' captions": found.gap,
    }
    return replace(measure, references=references)


def outside_rows(prompts: Sequence[str], subjects: Sequence[str]) -> list[Row]:
    """Rows that ask for `prompts`, those left out that are among the brand's own captions.

    They have no image: they are for drawing alone.
    """

    def plain(words: str) -> str:
        return " ".join(words.casefold().split())

    known = {plain(words) for words in subjects}
    new = [words for words in dict.fromkeys(prompts) if plain(words) not in known]
    return [ImageRow(id=f"outside: {w}", image="-", caption=w, content=hash_text(w)) for w in new]


def _without_figures(measure: Measure) -> Measure:
    return replace(measure, base=UNDEFINED, adapter=UNDEFINED, difference=UNDEFINED)
