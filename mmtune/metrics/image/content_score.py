"""Content: do images show their captions as clearly as the brand's own images do?

The score of an image is its similarity to its own caption minus the mean similarity to the other
captions (in CLIP's or another scorer's space). It is 0 for images that show nothing of their
captions, whatever a look does to all similarities alike. The mean score of the brand's own held-out
images is the scale's 1.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmtune.metrics.bootstrap import Interval
from mmtune.metrics.image.clip_score import similarities
from mmtune.metrics.jackknife import jackknife, leave_one_out
from mmtune.metrics.metric import Quantity, Stat

Vectors = NDArray[np.float64]
CONTENT = Quantity(
    "content",
    "content (0 = any caption fits, 1 = brand's own images)",
    "How clearly a scorer sees the captions in the images; 1 is the brand's own images.",
    higher_is_better=True,
)
MIN_CONTENT = 0.4  # content that the brand's own images must reach, as in eval/brand_style.yaml
MIN_HELD_OUT = 10  # held-out images below which a scorer can't be tested
SPLITS = 100  # of the brand's held-out images into halves, to test a scorer
MIN_RIGHT = 95  # splits that must come out right


def caption_gaps(images: Vectors, texts: Vectors, captions: Sequence[str]) -> Stat:
    """Score each image: similarity to its own caption minus the mean of the others', [images, 1].

    Args:
        images: embeddings of the images, [images, width]; their norms don't matter.
        texts: embedding of each image's caption, [images, width].
        captions: caption of each image; two different ones or more.
    """
    similar, right = similarities(images, texts, captions)
    others = (similar.sum(1, keepdims=True) - right) / (similar.shape[1] - 1)
    gaps: Stat = 100 * (right - others)
    return gaps


def content(
    drawn: Stat,
    prompts: Sequence[Hashable],
    real: Stat,
    prompts_of_real: Sequence[Hashable],
) -> Interval:
    """Compute the mean score of images in units of the real images' mean score.

    The interval is Fieller's for a ratio. It is nan if the real images' scores aren't clearly
    above 0.

    Args:
        drawn, real: `caption_gaps` of the images and of the brand's held-out images.
        prompts, prompts_of_real: prompt of each. If both hold the same prompts, the two are paired.
    """
    shown, shown_without = leave_one_out(drawn, prompts)
    one, one_without = leave_one_out(real, prompts_of_real)
    whole = np.concatenate([shown, one])
    if list(dict.fromkeys(prompts)) == list(dict.fromkeys(prompts_of_real)):
        found = jackknife(whole, np.concatenate([shown_without, one_without], 1))
    else:
        found = jackknife(
            whole,
            np.concatenate([shown_without, np.broadcast_to(one, shown_without.shape)], 1),
            np.concatenate([np.broadcast_to(shown, one_without.shape), one_without], 1),
        )
    return found.ratio(0, 1)


@dataclass(frozen=True)
class SplitTest:
    """What a scorer says of halves of the brand's own images, with the other half as the scale.

    Attributes:
        own: splits in which the half reaches `MIN_CONTENT` with the captions that are its own.
        permuted: splits in which it doesn't, with the captions of other images.
        splits: number of splits.
    """

    own: int
    permuted: int
    splits: int

    @property
    def valid(self) -> bool:
        """Whether the scorer may judge: both came out right in `MIN_RIGHT` of 100 splits."""
        least = MIN_RIGHT * self.splits / 100
        return self.own >= least and self.permuted >= least

    def __str__(self) -> str:
        return (
            f"of {self.splits} halves of the brand's own images {self.own} pass with their own "
            f"captions and {self.permuted} fail with others'"
        )


def split_test(
    images: Vectors, texts: Vectors, captions: Sequence[str], seed: int = 0
) -> SplitTest:
    """Test a scorer on the brand's held-out images, before it judges an adapter's images.

    Args:
        images, texts, captions: as for `caption_gaps`, of the held-out images.
        seed: random seed of the splits.
    """
    rng = np.random.default_rng(seed)
    half = len(captions) // 2
    own = permuted = 0
    gaps = caption_gaps(images, texts, captions)
    for _ in range(SPLITS):
        order = rng.permutation(len(captions))
        scale, rest = order[:half], order[half:]
        wrong = np.roll(rest, 1 + int(rng.integers(max(len(rest) - 1, 1))))
        shown = content(gaps[rest], list(rest), gaps[scale], list(scale))
        mixed = caption_gaps(images[rest], texts[wrong], [captions[i] for i in wrong])
        others = content(mixed, list(rest), gaps[scale], list(scale))
        own += shown.low >= MIN_CONTENT
        permuted += others.value < MIN_CONTENT
    return SplitTest(own, permuted, SPLITS)
