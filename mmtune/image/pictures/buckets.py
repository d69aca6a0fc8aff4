"""Sizes of about one area and many shapes, so that a tall picture needn't be cut to a square."""

from __future__ import annotations

from pathlib import Path

from mmtune.image.pictures.pixels import upright_size

Size = tuple[int, int]  # height and width in pixels


class Buckets:
    """The size that each image is trained at, which follows from that image alone.

    Args:
        resolution: side in pixels of the square one; the others have about its area.
        multiple: what every side is a multiple of.
        many: False: all images are square.
    """

    def __init__(self, resolution: int, multiple: int, many: bool) -> None:
        self.sizes: list[Size] = [(resolution, resolution)]
        if many:
            from diffusers.training_utils import generate_aspect_ratio_buckets

            self.sizes = generate_aspect_ratio_buckets(resolution, divisibility=multiple)
        self._known: dict[Path, Size] = {}

    @property
    def longest(self) -> int:
        """The longest side of any of them."""
        return max(max(size) for size in self.sizes)

    def of(self, path: Path) -> Size:
        """The size whose shape is nearest to the image's.

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
