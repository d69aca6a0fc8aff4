"""The strength at which adapters draw, why it is that one, and what speaks against the adapter."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass

from mmtune.adapters.card import Card
from mmtune.adapters.resolve import ResolvedAdapters
from mmtune.errors import ConfigError
from mmtune.evaluation.verdict_against import verdict_against

RANDOM_SEED = -1  # stands for a seed that is drawn at random, as in A1111
SEEDS = 2**32 - 2**20  # below the largest seed of other programs, with room to count from it


@dataclass(frozen=True)
class Strength:
    """The factor on all adapters' weights, and what a user should know about it."""

    scale: float
    notes: tuple[str, ...]


def draw_seed() -> int:
    """Draw a seed at random."""
    return secrets.randbelow(SEEDS)


def strength_of(model: ResolvedAdapters, *, routed: bool, scale: float | None) -> Strength:
    """Choose the strength, and say which it is and why.

    Args:
        model: the adapters.
        routed: whether a route chooses them.
        scale: the strength that was asked for; None: the one at which a single adapter was
            judged, else 1.

    Raises:
        ConfigError: the strength isn't a finite number, or there is no adapter that has one.
    """
    if scale is not None and not math.isfinite(scale):
        raise ConfigError(f"--scale is {scale:g}, which is not a finite number", "give a number")
    if not model.adapters:
        if scale:
            raise ConfigError(
                f"--scale {scale:g} is the strength of an adapter, and none is given",
                "add --adapter RUN, or leave --scale out",
            )
        return Strength(1.0 if scale is None else scale, ())
    weights = {} if routed else dict(model.choose(None))
    alone = len(model.cards) == 1 and not routed
    card = next(iter(model.cards.values()))
    if scale is None and alone and weights == {next(iter(model.cards)): 1.0}:
        used, why = card.default_scale, _why(card)
    elif scale is None:
        used = 1.0
        why = "as the route gives it" if routed else "as the weights of --adapter are given"
    else:
        used, why = scale, "as --scale gives it"
    return Strength(used, (_said(model, weights, used, why), *_warnings(model, used)))


def _said(model: ResolvedAdapters, weights: dict[str, float], used: float, why: str) -> str:
    if used == 0:
        return f"strength 0: the base model alone, {why}"
    if len(weights) == 1:
        return f"drawn at strength {weights.popitem()[1] * used:g}, {why}"
    if not weights:
        return f"drawn at strength {used:g} of the chosen adapters, {why}"
    each = ", ".join(f"{model.adapters[name]} {own * used:g}" for name, own in weights.items())
    return f"drawn at strengths {each}, {why}"


def _why(card: Card) -> str:
    full = "" if card.default_scale == 1 else "; a scale of 1 is its full strength"
    if card.measures or card.judged is not None:
        return f"at which the adapter was judged{full}"
    if card.advised:
        return f"which was recommended after training ({card.advice}){full}"
    return "its full strength; the adapter wasn't judged"


def _warnings(model: ResolvedAdapters, used: float) -> tuple[str, ...]:
    """What the verdicts of the adapters' runs say against them."""
    if used == 0:
        return ()
    return tuple(
        f"the verdict on {folder} is: {decision} (see {folder.parent / 'report.html'}); "
        "--scale 0 draws with the base"
        for folder in model.adapters.values()
        if (decision := verdict_against(folder)) is not None
    )
