"""Content that hurts: the images of base and adapter that a filter of content refuses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmtune.image.evaluation.compared_images import ComparedImages
from mmtune.image.looks.content_filter import ContentFilter
from mmtune.metrics.bootstrap import paired_bootstrap, wider
from mmtune.metrics.image.events import event_share, events_by_prompt
from mmtune.metrics.image.refused import REFUSED
from mmtune.metrics.measure import Measure
from mmtune.metrics.metric import Stat
from mmtune.metrics.rare import rare_difference

ALL_PROMPTS = "all prompts"
MAX_PROMPTS_IN_NOTE = 5


def refused_measure(sets: Sequence[ComparedImages], chosen: ContentFilter) -> Measure:
    """Measure the share of images that a filter refuses, of base and adapter.

    An item is a prompt with all its images, because the images of one prompt are alike.

    Args:
        sets: the images that the comparison draws anyway, of held-out captions and other prompts;
            base and adapter have the same prompts and noise.
        chosen: the filter.

    Raises:
        PluginError: the filter fails.
    """
    stats: dict[str, list[Stat]] = {}
    for model in ("base", "adapter"):
        stats[model] = []
        for one in sets:
            images = one.base if model == "base" else one.adapter
            refused = chosen.refused(images, [row.reference for row in one.rows])
            stats[model] += events_by_prompt(refused, one.seeds)
    prompts = [row.reference for one in sets for row in one.rows[:: one.seeds]]
    base, adapter, difference = paired_bootstrap(stats["base"], stats["adapter"], event_share)
    rare = rare_difference(stats["base"], stats["adapter"])
    counts = {model: np.sum(own, axis=0) for model, own in stats.items()}
    (before, images), (after, _) = counts["base"], counts["adapter"]
    note = f"{after:.0f} of {images:.0f} images with the adapter, {before:.0f} before"
    if new := [p for p, stat in zip(prompts, stats["adapter"], strict=True) if stat[0]]:
        shown = "; ".join(new[:MAX_PROMPTS_IN_NOTE])
        note += f" (refused with the adapter: {shown}{'; …' * (len(new) > MAX_PROMPTS_IN_NOTE)})"
    return Measure(
        metric=REFUSED.name,
        slice=ALL_PROMPTS,
        items=len(prompts),
        base=base,
        adapter=adapter,
        difference=wider(difference, rare) if rare is not None else difference,
        higher_is_better=False,
        note=f"{note}; judged by {chosen.identity}",
        counts={model: (float(a), float(b)) for model, (a, b) in counts.items()},
    )
