"""Rules of a brand's guide on the pixels of a picture: its colours and its ground."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmtune.image.brand.brand_guide import TRANSPARENT, BrandGuide, rgb_of
from mmtune.image.pictures.pixels import decoded
from mmtune.metrics.image.ground import WRONG_GROUND, find_ground
from mmtune.metrics.image.off_palette import OFF_PALETTE, off_palette
from mmtune.metrics.image.palette import delta_e, to_hex, to_lab
from mmtune.metrics.image.reduced import Reduced, reduce_picture
from mmtune.metrics.metric import Quantity

PALETTE, GROUND = "palette", "ground"


@dataclass(frozen=True)
class PictureRule:
    """A rule that each picture keeps or breaks.

    Attributes:
        name: a short name.
        rule: the rule in words.
        cure: what to do about data that breaks it.
        quantity: the share of pictures that break it, as a figure of the report.
        breach: says how a picture breaks it; empty if it keeps it.
    """

    name: str
    rule: str
    cure: str
    quantity: Quantity
    breach: Callable[[Reduced], str]


def picture_rules(guide: BrandGuide, background: str, *, drawn: bool = False) -> list[PictureRule]:
    """The guide's rules on pixels.

    Args:
        guide: the guide.
        background: colour that lies behind transparent parts.
        drawn: whether the pictures are a model's. These are opaque: where a transparent ground is
            permitted, theirs has the background's colour.
    """
    rules = []
    if guide.palette:
        rules.append(_palette_rule(guide, background, drawn))
    if guide.grounds:
        rules.append(_ground_rule(guide, background, drawn))
    return rules


def read_reduced(path: Path, background: str) -> Reduced:
    """Read a picture as the rules see it.

    Raises:
        DataError: it can't be read.
    """
    with decoded(path) as picture:
        return reduce_picture(*picture.upright().flattened_and_alpha(background))


def _palette_rule(guide: BrandGuide, background: str, drawn: bool) -> PictureRule:
    grounds = guide.ground_colours(background)
    if not drawn:
        grounds.pop(TRANSPARENT, None)
    permitted = rgb_of([*guide.palette.values(), *grounds.values()])
    behind = rgb_of([background])

    def breach(picture: Reduced) -> str:
        # Edges of transparent parts are mixed with what lies behind them.
        mixed = behind if picture.clear.any() else None
        found = off_palette(picture, permitted, guide.tolerance, mixed)
        if found.share <= guide.off_palette:
            return ""
        named = ", ".join(f"{colour} on {share:.1%}" for colour, share in found.colours)
        return f"{found.share:.1%} of the picture has other colours ({named})"

    colours = ", ".join(f"{name} {colour}" for name, colour in guide.palette.items())
    return PictureRule(
        PALETTE,
        f"at most {100 * guide.off_palette:.3g} % of a picture is farther than "
        f"{guide.tolerance:g} (CIEDE2000) from these colours and the grounds': {colours}",
        "correct or remove the picture; or add its colour to palette, or raise off_palette or "
        "tolerance",
        OFF_PALETTE,
        breach,
    )


def _ground_rule(guide: BrandGuide, background: str, drawn: bool) -> PictureRule:
    opaque = guide.ground_colours(background)
    if not drawn:
        opaque.pop(TRANSPARENT, None)
    lab = to_lab(rgb_of(list(opaque.values()))) if opaque else np.empty((0, 3))

    def breach(picture: Reduced) -> str:
        ground = find_ground(picture, guide.tolerance)
        if not ground.is_one:
            return (
                f"no colour has half of the border; the most frequent one has {ground.border:.0%}"
            )
        if ground.colour is None:
            return "" if TRANSPARENT in guide.grounds else "the ground is transparent"
        colour = ground.colour[None]
        away = float(delta_e(colour, lab).min()) if len(lab) else np.inf
        if away <= guide.tolerance:
            return ""
        near = f", {away:.1f} (CIEDE2000) from the nearest permitted one" if len(lab) else ""
        return f"the ground is {to_hex(colour)[0]}{near}"

    return PictureRule(
        GROUND,
        f"the ground is {_listed(guide.grounds)}",
        "put the picture on a permitted ground, or add its ground to grounds",
        WRONG_GROUND,
        breach,
    )


def _listed(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
