"""Aspect buckets: training sizes of equal area, so that images needn't be cut to squares."""

from __future__ import annotations

from pathlib import Path

from mmtune.image.pictures.pixels import upright_size

Size = tuple[int, int]  # height and width in pixels


class Buckets:
    """Chooses the size at which each image is trained, from that image alone.

    The sizes are those of diffusers' `generate_aspect_ratio_buckets`.

    Args:
        resolution: side of the square size in pixels; other sizes have about its area.
        multiple: every side is a multiple of so many pixels.
        many: whether there are other sizes than the square.
    """

    def __init__(self, resolution: int, multiple: int, many: bool) -> None:
        self.sizes: list[Size] = [(resolution, resolution)]
        if many:
            from diffusers.training_utils import generate_aspect_ratio_buckets

            self.sizes = generate_aspect_ratio_buckets(resolution, divisibility=multiple)
        self._known: dict[Path, Size] = {}

    @property
    def longest(self) -> int:
        """The longest side of all sizes, in pixels."""
        return max(max(size) for size in self.sizes)

    def of(self, path: Path) -> Size:
        """Choose the size whose aspect ratio is nearest to the image's.

        Returns:
            Height and width in pixels.

        Raises:
            DataError: the image can't be opened.
        """
        if len(self.sizes) == 1:
            return self.sizes[0]
        if path not in self._known:
            from diffusers.training_utils import find_nearest_bucket

            width, height = upright_size(path)
            self._known[path] = self.sizes[find_nearest_bucket(height, width, self.sizes)]
        return self._known[path]
