"""A decoder that is the exact inverse of the linear encoder, but for what is nearly white.

AutoencoderTiny's decoder doubles pixels and then convolves, and a convolution can't tell the four
copies of a pixel apart: from random weights it takes long to learn the 4x4 pixels of a latent. But
the border of the picture is known, because it is padded with zeros: a few convolutions count the
steps from it, and the difference of two counts says which copy a pixel is. `set_exact` writes such
weights, so nothing has to be trained.

A ground that was drawn is never quite white, and its blocks of 4x4 pixels are seen. So values from
KNEE on are drawn towards white; all others are the inverse's.

It counts `3 * blocks[0]` latents from either side, so it is exact for pictures of up to
8 * 3 * blocks[0] pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BLOCKS = (5, 1, 1)  # at 16x16, 32x32 and 64x64, for a picture of 64x64
LATENT_OFFSET, PIXEL_OFFSET = 1.0, 2.0  # what keeps values above zero through the ReLUs
KNEE = 0.94  # lightness from which values are drawn towards white: (1 + KNEE) / 2 becomes 1
ONE = 24  # the channel that is always 1; those of the latents come before it, so at most 24
LEFT, RIGHT, TOP, BOTTOM = range(ONE + 1, ONE + 5)  # steps from each border
ACROSS, DOWN = ONE + 5, ONE + 6  # where a pixel is, growing from the left and from the top
IN_PAIR_ACROSS, IN_PAIR_DOWN = ONE + 7, ONE + 8  # above 0 for the first of two copies, else 0
OUT = ONE + 9  # the first of the channels that a gate writes


def pixels_of(basis: dict[str, Tensor], channels: int, scale: float) -> tuple[Tensor, Tensor]:
    """The linear map from unscaled latents to pixels in [0, 1]: weight (48, channels), bias (48,).

    Rows are in the order of pixel_shuffle: colour, row, column.
    """
    axes = basis["axes"][:channels] / basis["gain"][:channels, None] * scale
    return axes.T / 2, (basis["mean"] + 1) / 2


def _blank(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.zero_()
            if part.bias is not None:
                part.bias.zero_()


def _copy(conv: nn.Conv2d, *channels: int) -> None:
    for c in channels:
        conv.weight[c, c, 1, 1] = 1.0


def _count(block: nn.Module) -> None:
    """Three steps more from each border. A pixel's count is its neighbour's and one."""
    first, second, third = (block.conv[i] for i in (0, 2, 4))
    old = {c: OUT + i for i, c in enumerate((LEFT, RIGHT, TOP, BOTTOM))}
    neighbours = {LEFT: (1, 0), RIGHT: (1, 2), TOP: (0, 1), BOTTOM: (2, 1)}
    for conv in (first, second, third):
        if conv is not third:
            _copy(conv, ONE)
        for c, (row, column) in neighbours.items():
            conv.weight[c, c, row, column] = 1.0
            conv.weight[c, ONE, row, column] = 1.0
    for c, kept in old.items():  # the block adds its input, which has to be taken away
        first.weight[kept, c, 1, 1] = 1.0
        second.weight[kept, kept, 1, 1] = 1.0
        third.weight[c, kept, 1, 1] = -1.0


def _compare(conv: nn.Conv2d, values: int) -> None:
    """What a doubling is followed by: how much each pixel's place is above its neighbour's.

    Copies of one pixel have one place, so it is 0 for the second and at least 1 for the first.
    """
    _copy(conv, *range(values), ONE, ACROSS, DOWN)
    for place, found, (row, column) in (
        (ACROSS, IN_PAIR_ACROSS, (1, 0)),
        (DOWN, IN_PAIR_DOWN, (0, 1)),
    ):
        conv.weight[found, place, 1, 1] = 1.0
        conv.weight[found, place, row, column] = -1.0


def _choose(block: nn.Module, inputs: range, maps: Tensor, biases: Tensor, out: int) -> None:
    """Write to the channels from `out` on what maps[phase] makes of the inputs.

    maps: (4, n, inputs), biases: (4, n), for the phases (top, left), (top, right), ... A channel
    for each phase is held below zero unless the pixel is in that phase; their sum is the value,
    plus PIXEL_OFFSET. The places are refined for the next doubling.
    """
    first, second, third = (block.conv[i] for i in (0, 2, 4))
    n, closed = maps.shape[1], 4 * PIXEL_OFFSET
    _copy(first, *inputs, ONE, ACROSS, DOWN)
    is_first = {}  # the two channels whose difference is 1 for the first copy, else 0
    for found, high in ((IN_PAIR_ACROSS, OUT), (IN_PAIR_DOWN, OUT + 1)):
        first.weight[found, found, 1, 1] = first.weight[high, found, 1, 1] = 1.0
        first.weight[high, ONE, 1, 1] = -1.0
        is_first[found] = (found, high)
    # The second convolution holds the gates from 0 on, and what is passed on after them.
    passed = range(4 * n, 4 * n + 7)
    sources = (ONE, ACROSS, DOWN, *is_first[IN_PAIR_ACROSS], *is_first[IN_PAIR_DOWN])
    for target, source in zip(passed, sources, strict=True):
        second.weight[target, source, 1, 1] = 1.0
    for phase in range(4):
        gates = slice(phase * n, phase * n + n)
        second.weight[gates, inputs.start : inputs.stop, 1, 1] = maps[phase]
        second.weight[gates, ONE, 1, 1] = biases[phase] + PIXEL_OFFSET
        for second_copy, (plus, minus) in (
            (phase // 2, is_first[IN_PAIR_DOWN]),
            (phase % 2, is_first[IN_PAIR_ACROSS]),
        ):
            sign = 1.0 if second_copy else -1.0
            second.weight[gates, plus, 1, 1] -= sign * closed
            second.weight[gates, minus, 1, 1] += sign * closed
            if not second_copy:
                second.weight[gates, ONE, 1, 1] -= closed
        for k in range(n):
            third.weight[out + k, phase * n + k, 1, 1] = 1.0
    one, across, down, left, left_high, top, top_high = passed
    for place, source, plus, minus in (
        (ACROSS, across, left, left_high),
        (DOWN, down, top, top_high),
    ):  # twice the place, and one more for the second copy; the block adds the place itself
        third.weight[place, source, 1, 1] = 1.0
        third.weight[place, one, 1, 1] = 1.0
        third.weight[place, plus, 1, 1], third.weight[place, minus, 1, 1] = -1.0, 1.0


@torch.no_grad()
def set_exact(vae: nn.Module, basis: dict[str, Tensor], scale: float) -> None:
    """Make the decoder undo the components.

    Args:
        vae: an AutoencoderTiny with decoder blocks BLOCKS, 64 wide.
        basis: of `vae.fit_basis`.
        scale: the scaling factor of the latents.
    """
    channels = vae.config.latent_channels
    if channels > ONE:
        raise ValueError(f"{channels} channels; at most {ONE} fit beside the counts")
    decoder = vae.decoder
    _blank(decoder)
    layers = list(decoder.layers)
    blocks = [layer for layer in layers if hasattr(layer, "fuse")]
    enter, after_first, after_second, leave = (x for x in layers if isinstance(x, nn.Conv2d))
    *counting, coarse, fine = blocks
    weight, bias = pixels_of(basis, channels, scale)
    for c in range(channels):
        enter.weight[c, c, 1, 1] = 1.0
        enter.bias[c] = LATENT_OFFSET
    enter.bias[ONE] = 1.0
    for block in counting:
        _count(block)
    _compare(after_first, channels)
    # The first doubling: places come from the counts, growing from 1 at the border.
    for place, found, near, far, (row, column) in (
        (ACROSS, IN_PAIR_ACROSS, LEFT, RIGHT, (1, 0)),
        (DOWN, IN_PAIR_DOWN, TOP, BOTTOM, (0, 1)),
    ):
        after_first.weight[place, place] = after_first.weight[found, place] = 0.0
        for source, value in ((near, 1.0), (far, -1.0), (ONE, 3.0 * len(counting) + 1)):
            after_first.weight[place, source, 1, 1] = value
            after_first.weight[found, source, 1, 1] = value
            after_first.weight[found, source, row, column] -= value
    # A row of a latent's 4x4 pixels is 2 * a + i, with a the copy after the first doubling and i
    # after the second; a column 2 * b + j.
    split = weight.view(3, 2, 2, 2, 2, channels)  # colour, a, i, b, j
    maps = split.permute(1, 3, 0, 2, 4, 5).reshape(4, 12, channels)
    biases = bias.view(3, 2, 2, 2, 2).permute(1, 3, 0, 2, 4).reshape(4, 12)
    _choose(coarse, range(channels), maps, biases - LATENT_OFFSET * maps.sum(2), OUT)
    # The second: colour, i, j lie in 12 channels, of which each copy takes its three.
    picks = torch.eye(12).view(3, 2, 2, 12).permute(1, 2, 0, 3).reshape(4, 3, 12)
    _compare(after_second, 0)
    for k in range(12):
        after_second.weight[k, OUT + k, 1, 1] = 1.0
    _choose(fine, range(12), picks, torch.full((4, 3), -PIXEL_OFFSET), OUT)
    mixing = fine.conv[4]
    for k in range(3):
        leave.weight[k, OUT + k, 1, 1] = 1.0
        leave.bias[k] = -PIXEL_OFFSET
        # What is above the knee counts twice. The block's ReLU ends what is below.
        mixing.weight[OUT + 3 + k] = mixing.weight[OUT + k]
        mixing.bias[OUT + 3 + k] = -PIXEL_OFFSET - KNEE
        leave.weight[k, OUT + 3 + k, 1, 1] = 1.0
