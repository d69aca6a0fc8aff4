"""Captions from names: of an image, and of a folder in kohya's layout."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmtune.data.copy_marks import without_copy_mark
from mmtune.system.stored import exists

# A counter at the end numbers images of one thing: "_01", " (2)", "-003". "route-66" has none, nor
# has "photo (2024)".
_COUNTER = re.compile(r"(?:[_ ]+\d+|\s*\(\d{1,3}\)|-0\d+)$")
# Names that cameras and programs give say nothing about the content.
_NO_NAME = re.compile(
    r"(?:img|dsc[nf]?|pxl|p|image|photo|picture|pic|screen ?shot|scan|untitled|download|file)?"
    r"[\d\W_]*(?:(?<![a-z])(?:copy|kopie)[\d\W_]*)?|[0-9a-f]{8}[0-9a-f-]*",
    re.IGNORECASE,
)
# "10_acme icon", but neither a leading zero, as in ordered folders ("01_icons"), nor a year.
_REPEATS = re.compile(r"([1-9]\d{0,2})_+([^_\s].*)", re.DOTALL)


@dataclass(frozen=True)
class Repeats:
    """A folder's name in kohya's layout, "10_acme icon".

    Attributes:
        times: how often an epoch repeats each image of the folder.
        words: caption of images that have none of their own.
    """

    times: int
    words: str


def file_beside(image: Path) -> Callable[[str], bool]:
    """A function that says whether a file of a name lies beside an image, with the same suffix."""
    return lambda name: exists(image.with_name(name + image.suffix))


def caption_from_name(stem: str, is_name: Callable[[str], bool] = lambda name: False) -> str:
    """Read the caption that a file's name holds: "red-apple_01" gives "red apple".

    The result is used for training without review, so all words are kept and only a counter at
    the end and marks of a copy are removed. `mmtune caption`
    (`mmtune.image.corpus.propose_captions.proposal_from_name`) also leaves out numbers, sizes,
    versions and hashes inside the name.

    Args:
        stem: the file's name without suffix.
        is_name: whether another file has this name; see `without_copy_mark`.

    Returns:
        The caption; "" for names that say nothing, such as "IMG_2041", "00017", "3f9ac04e77d1".
    """
    stem = without_copy_mark(stem, is_name)
    if _NO_NAME.fullmatch(stem):
        return ""
    while (shorter := _COUNTER.sub("", stem)) != stem:
        stem = shorter
    return " ".join(re.split(r"[-_\s]+", stem)).strip()


def parse_repeats(name: str) -> Repeats | None:
    """Parse a folder's name as kohya's sd-scripts do: "10_acme icon" repeats its images 10 times.

    Returns:
        None for other names, and for names that just start with a number: "01_icons",
        "2024_summer".
    """
    match = _REPEATS.fullmatch(name.strip())
    if match is None or not (words := " ".join(match[2].replace("_", " ").split())):
        return None
    return Repeats(int(match[1]), words)
