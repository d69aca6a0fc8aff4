"""Files of other tools beside a brand's pictures: masks, thumbnails, samples, latents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import ImageChops

from mmtune.data.rows import Finding
from mmtune.errors import DataError

MASKS = (".mask", "-masklabel")  # mmtune's own, and OneTrainer's; all endings in any case
LIKELY_MASKS = ("_mask", "-mask")  # if they are grey, beside the image that they name
MASK_FOLDERS = ("mask", "masks")
CONDITIONS = ("-condlabel",)  # OneTrainer
THUMBNAILS = (
    *(".thumb", "_thumb", "-thumb", ".thumbnail", "_thumbnail", "-thumbnail"),
    *(".preview", "_preview"),
)
_SIZE = re.compile(r"-\d{2,4}x\d{2,4}$")  # "apple-150x150", beside "apple"
# "acme_e000004_02_20240501123000_42" and "acme_000100_00_20240501123000", of sd-scripts.
_SAMPLE = re.compile(r".*_(?:e\d{6}|\d{6})_\d{2}_\d{14}(?:_\d+)?")
# Folders of sd-scripts and of other trainers, and what is in them.
FOLDERS = {
    **dict.fromkeys(
        ("reg", "reg_images", "regularization", "regularisation", "class_images"),
        "regularisation pictures",
    ),
    **dict.fromkeys(("sample", "model"), "models and their samples"),
    **dict.fromkeys(("thumb", "thumbs", "thumbnails"), "thumbnails"),
    **dict.fromkeys(
        ("conditioning", "conditioning_images", "conditioning_data"), "conditioning images"
    ),
}
# Ordinary names, unless weights lie in the folder or beside it.
OUTPUTS = ("samples", "models", "output", "outputs", "log", "logs", "checkpoints", "results")
WEIGHTS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")
STORED = {
    ".npz": "latents or embeddings that another trainer stored",
    ".npy": "latents or embeddings that another trainer stored",
    **dict.fromkeys(WEIGHTS, "weights or tensors that another trainer stored"),
    ".thumb": "a thumbnail",
}


@dataclass
class Pictures:
    """The images of a folder, by what they are for.

    Attributes:
        rows: id and path (relative to the folder) of each image to train on.
        masks: the masks' paths by the image's path.
        guessed: masks that only their name and their grey tell.
        aside: a finding for each image that isn't to be trained on.
    """

    rows: list[tuple[str, Path]]
    masks: dict[Path, Path] = field(default_factory=dict)
    guessed: list[Path] = field(default_factory=list)
    aside: dict[Path, Finding] = field(default_factory=dict)


def sort_pictures(
    folder: Path, files: Sequence[tuple[str, Path]], others: Iterable[Path] = ()
) -> Pictures:
    """Tell a brand's pictures from masks, thumbnails and what other tools wrote.

    Args:
        folder: the dataset's folder.
        files: id and path of each image, relative to `folder`.
        others: the paths of all other files, relative to `folder`; weights among them mark the
            folders that a training wrote.
    """
    found = Pictures([])
    images: dict[str, list[Path]] = {}
    for _, path in files:
        images.setdefault(path.with_suffix("").as_posix(), []).append(path)
    weights = {path.parent for path in others if path.suffix.lower() in WEIGHTS}
    in_folders = {path: why for _, path in files if (why := _folder_of(path, weights))}
    if len(in_folders) == len(files):
        in_folders = {}  # such a folder alone is what the user names
    for name, path in files:
        mask_of = _mask_of(folder, path, images)
        if mask_of is not None:
            masked, guessed = mask_of
            for image in masked:
                found.masks.setdefault(image, path)
            if guessed:
                found.guessed.append(path)
            if not masked and path.stem.casefold().endswith(MASKS[0]):
                found.rows.append((name, path))  # "gas.mask.png" shows a gas mask
            elif not masked:
                why = "it is named as a mask, but no image has the rest of its name"
                found.aside[path] = _aside(folder, path, "unused-mask", why)
        elif why := in_folders.get(path) or _name_of(path, images):
            found.aside[path] = _aside(folder, path, "side-file", why)
        else:
            found.rows.append((name, path))
    kept = {path for _, path in found.rows}
    found.masks = {image: mask for image, mask in found.masks.items() if image in kept}
    return found


def stored_finding(folder: Path, path: Path) -> Finding | None:
    """The note for a file that another tool stored beside the pictures; None: it is no such file.

    Args:
        folder: the dataset's folder.
        path: the file, relative to it.
    """
    what = STORED.get(path.suffix.lower())
    if what is None:
        return None
    place = path.as_posix()
    cure = "no action is needed"
    return Finding("side-file", place, f"it holds {what}", cure, "note", file=str(folder / path))


def _aside(folder: Path, path: Path, kind: str, found: str) -> Finding:
    cure = "no action is needed; rename or move it if it is a picture to train on"
    return Finding(kind, path.as_posix(), found, cure, "warning", file=str(folder / path))


def _folder_of(path: Path, weights: set[Path]) -> str:
    """What the folder of an image holds, if another tool filled it; empty: nothing is known."""
    for depth, part in enumerate(path.parts[:-1], start=1):
        name, place = part.casefold(), Path(*path.parts[:depth])
        if name in FOLDERS:
            return f"it is in {place.as_posix()}/, where trainers keep {FOLDERS[name]}"
        if name in OUTPUTS and any(
            each == place.parent or each.is_relative_to(place) for each in weights
        ):
            return f"it is in {place.as_posix()}/, which a training wrote"
    return ""


def _name_of(path: Path, images: dict[str, list[Path]]) -> str:
    """What an image is by its name, if it is none to train on; empty: nothing is known."""
    stem = path.stem
    if stem.casefold().endswith(CONDITIONS):
        return "it is a conditioning image of OneTrainer"
    if _SAMPLE.fullmatch(stem):
        return "it is a sample that sd-scripts drew in a training"
    for end in THUMBNAILS:
        rest = _without(stem, end)
        if rest != stem and (end == ".thumb" or path.with_name(rest).as_posix() in images):
            return "it is a thumbnail or preview"
    rest = _SIZE.sub("", stem)
    if rest != stem and path.with_name(rest).as_posix() in images:
        return "it is a smaller copy of the image that has the rest of its name"
    return ""


def _mask_of(
    folder: Path, path: Path, images: dict[str, list[Path]]
) -> tuple[list[Path], bool] | None:
    """The images whose mask this is, and whether that is a guess; None: it is no mask."""
    for end in MASKS:
        if path.stem.casefold().endswith(end):
            rest = path.with_name(_without(path.stem, end))
            return images.get(rest.as_posix(), []), False
    if path.parent.name.casefold() in MASK_FOLDERS:
        above = path.parent.parent
        named = [
            image
            for place in images.values()
            for image in place
            if image.stem == path.stem and image.parent != path.parent
            if above in (image.parent, image.parent.parent)
        ]
        return (named, True) if named and _is_grey(folder / path) else None
    for end in LIKELY_MASKS:
        if path.stem.casefold().endswith(end):
            place = path.with_name(_without(path.stem, end)).as_posix()
            if place in images and _is_grey(folder / path):
                return images[place], True
    return None


def _without(stem: str, end: str) -> str:
    """A name without its ending, which may be written in any case."""
    return stem[: -len(end)] if stem.casefold().endswith(end) else stem


def _is_grey(path: Path) -> bool:
    from mmtune.image.pictures.pixels import open_image

    try:
        red, green, blue = open_image(path).split()
    except DataError:
        return False
    differences = (ImageChops.difference(red, green), ImageChops.difference(green, blue))
    return all(each.getextrema()[1] < 16 for each in differences)
