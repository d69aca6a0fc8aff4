"""Many unlike pictures under one name and a number: the name is no caption."""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmtune.data.rows import Finding
from mmtune.image.corpus.caption_sources import caption_from_name
from mmtune.image.pictures.alike import HASH, visual_fingerprint
from mmtune.image.pictures.pixels import ImageFault, decoded

# Fewer pictures under a name are views of one thing. More are a series, unless there are many other
# names: then the names tell things apart.
MIN_PICTURES = 5
MIN_SHARE = 0.25  # of the pictures that have a name
SURELY = 12  # pictures, whatever their share
FEW = 3  # pictures under a name that are a series, if no other name has so many
SEEN = 8  # pictures of a name that are compared
MIN_BITS = 12  # of 64 of their perceptual hashes that differ, in the median
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class SharedName:
    """A name that unlike pictures share.

    Attributes:
        words: the caption that the name would give.
        images: the pictures, relative to the folder.
    """

    words: str
    images: tuple[Path, ...]

    def finding(self, folder: Path) -> Finding:
        """The finding for the name."""
        return Finding(
            "shared-name",
            self.images[0].with_suffix("").as_posix(),
            f"{len(self.images)} pictures that don't look alike are named {self.words!r} and a "
            "number; that says nothing about what they show, and isn't used as a caption",
            f"write captions: mmtune caption {folder} --model MODEL; or, if all show one thing, "
            f"put them into a folder named '1_{self.words}'",
            "warning",
        )


def shared_names(folder: Path, images: Iterable[Path]) -> list[SharedName]:
    """Find the names that many unlike pictures of one folder share, but for a number.

    Args:
        folder: the dataset's folder.
        images: the pictures whose caption would be their name, relative to `folder`.
    """
    groups = _groups(images)
    total = sum(map(len, groups))
    return [
        SharedName(caption_from_name(group[0].stem), tuple(group))
        for group in groups
        if len(group) >= MIN_PICTURES
        if len(group) >= SURELY or len(group) > MIN_SHARE * total
        if _are_unlike(folder, group, MIN_PICTURES)
    ]


def unlike_names(folder: Path, images: Iterable[Path]) -> list[SharedName]:
    """Find the names that are no proposals: `shared_names`, and the only name of a few pictures.

    Where several names have pictures with numbers, the names tell things apart.

    Args:
        folder: the dataset's folder.
        images: its pictures, relative to `folder`.
    """
    images = list(images)
    shared = shared_names(folder, images)
    several = [group for group in _groups(images) if len(group) >= FEW]
    if not shared and len(several) == 1 and _are_unlike(folder, several[0], FEW):
        return [SharedName(caption_from_name(several[0][0].stem), tuple(several[0]))]
    return shared


def _groups(images: Iterable[Path]) -> list[list[Path]]:
    """The pictures of each folder whose names are equal but for a number; single names, too."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for image in images:
        if caption_from_name(image.stem):
            key = (image.parent, _NUMBER.sub("#", image.stem))
            groups.setdefault(key, []).append(image)
    return list(groups.values())


def _are_unlike(folder: Path, images: list[Path], least: int) -> bool:
    hashes = []
    for i in range(min(SEEN, len(images))):
        image = folder / images[i * len(images) // min(SEEN, len(images))]
        try:
            with decoded(image, reduced=True) as picture:
                hashes.append(int.from_bytes(visual_fingerprint(picture)[:HASH], "big"))
        except ImageFault:
            continue
    if len(hashes) < least:
        return False
    differing = [(a ^ b).bit_count() for a, b in itertools.combinations(hashes, 2)]
    return statistics.median(differing) >= MIN_BITS
