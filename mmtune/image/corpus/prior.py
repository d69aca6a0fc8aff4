"""Prior preservation: images of the base that the adapter is also trained on.

After DreamBooth (Ruiz et al., arXiv 2208.12242, sec. 3.3): the base's own images, with captions
that lack the trigger, keep the adapter from changing what the base draws without it. Here they are
ordinary rows with a weight, in a folder of their own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.config import RunConfig
from mmtune.data.manifest import write_manifest
from mmtune.errors import ConfigError
from mmtune.image.corpus.prompt import MIX, PRIOR, with_trigger
from mmtune.image.image_options import ImageOptions
from mmtune.image.image_row import ImageRow
from mmtune.image.pictures.encode import save_picture
from mmtune.system.base_name import split_base
from mmtune.system.files import write_json
from mmtune.system.hashing import hash_file, hash_json
from mmtune.system.stored import read_text, reason_of, stored_key

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmtune.data.dataset import Dataset

PRIOR_VERSION = 1  # bump it when the same settings give other images
FIRST_SEED = 10_000  # validation and evaluation count from 0: no noise is used twice
DrawImages = Callable[[Sequence[str], Sequence[int]], "Sequence[Image]"]


def draw_prior(config: RunConfig, dataset: Dataset, draw: DrawImages | None = None) -> Path | None:
    """Generate `task.prior` images with the base, as training rows.

    The images are made once: a folder made from the same captions, settings and base is reused.

    Args:
        config: the run's settings; the images go to `data/prior` in its run folder.
        dataset: its training captions are used, unless `task.prior_captions` names others.
        draw: generates one image for each prompt and seed; None: the base is loaded for it.

    Returns:
        The folder of the images and their manifest; None if `task.prior` is 0.

    Raises:
        ConfigError: the captions can't be used, see `captions_to_draw`.
        BaseModelError: the base can't be loaded.
    """
    options = config.task
    assert isinstance(options, ImageOptions)
    if not options.prior:
        return None
    prompts = captions_to_draw(options, [row.reference for row in dataset.split("train")])
    prompt_seeds = [(prompts[i % len(prompts)], FIRST_SEED + i) for i in range(options.prior)]
    folder = config.folder / "data" / PRIOR
    facts: dict[str, Any] = {
        "version": PRIOR_VERSION,
        "base": _base_identity(config.base),
        "precision": config.train.precision,
        "asked": prompt_seeds,
        "weight": options.prior_weight,
        "steps": options.steps,
        "guidance": options.guidance,
        "resolution": options.resolution,
    }
    if options.quantize != "none":
        facts["quantize"] = options.quantize
    key = hash_json(facts)
    manifest, record = folder / "manifest.jsonl", folder / "prior.json"
    if record.exists() and manifest.exists():
        if stored_key(record) == key:
            return folder
        shutil.rmtree(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    captions, seeds = [caption for caption, _ in prompt_seeds], [seed for _, seed in prompt_seeds]
    images = (draw or _sampler_of_base(config, options))(captions, seeds)
    rows = [
        _save_row(folder, i, caption, image, options.prior_weight)
        for i, (caption, image) in enumerate(zip(captions, images, strict=True))
    ]
    write_manifest(manifest, rows)
    write_json(record, {"key": key, **facts})
    return folder


def _save_row(folder: Path, number: int, caption: str, image: Image, weight: float) -> ImageRow:
    file = Path("images") / f"{number:05}.png"
    save_picture(image, folder / file)
    return ImageRow(
        id=f"{PRIOR}-{number:05}",
        image=file.as_posix(),
        caption=caption,
        split="train",
        weight=weight,
        group={MIX: PRIOR},
    )


def captions_to_draw(options: ImageOptions, trained: Sequence[str]) -> list[str]:
    """Choose the captions to generate images for: the lines of a file, or the training captions.

    Args:
        options: `trigger` and `prior_captions`.
        trained: captions of the training rows.

    Returns:
        Distinct captions that lack the trigger.

    Raises:
        ConfigError: there is neither a file nor a trigger, so the same captions would stand for
            the brand's look and for the base's; the file can't be read; or no caption is left.
    """
    trigger, source = options.trigger, options.prior_captions
    if source is None and not trigger:
        raise ConfigError(
            f"task.prior = {options.prior}: the same captions would be taught two looks",
            'give a trigger phrase for the brand\'s look (--trigger "acme icon"), or other '
            "captions for the base's look: --prior_captions FILE",
        )
    lines = list(trained)
    if source is not None:
        try:
            lines = read_text(source).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"task.prior_captions: {source} can't be read: {reason_of(error)}",
                "save it as UTF-8",
            ) from None
    distinct = list(dict.fromkeys(words for line in lines if (words := " ".join(line.split()))))
    if not distinct:
        raise ConfigError(f"{source} holds no captions", "write one caption on each line")
    if source is None:  # a training caption may hold the trigger itself
        distinct = [words for words in distinct if with_trigger(words, trigger) != words]
        if not distinct:
            raise ConfigError(
                f"every caption holds the trigger {trigger!r}",
                "give captions without it: --prior_captions FILE",
            )
    elif trigger:
        held = [words for words in distinct if with_trigger(words, trigger) == words]
        if held:
            raise ConfigError(
                f"{source}: {held[0][:60]!r} holds the trigger {trigger!r}, which is only for the "
                "brand's images",
                "leave the trigger out of these captions",
            )
    return distinct


def _base_identity(base: str) -> str:
    # Another model may be written to the same folder. Hashing files needs no loaded model.
    place = Path(split_base(base)[0]).expanduser()
    files = [place] if place.is_file() else sorted(place.rglob("*.safetensors"))
    return hash_json([base, [hash_file(file) for file in files]]) if files else base


def _sampler_of_base(config: RunConfig, options: ImageOptions) -> DrawImages:
    from mmtune.image.diffusion.base import load_base
    from mmtune.image.sampling.sampler import Sampler
    from mmtune.system.precision import DTYPES, choose_precision
    from mmtune.system.processes import pick_device

    device = pick_device()
    dtype = DTYPES[choose_precision(config.train.precision, device)]
    base = load_base(config.base, device, dtype, options.quantize)
    return Sampler(
        base, steps=options.steps, guidance=options.guidance, resolution=options.resolution
    ).sample
