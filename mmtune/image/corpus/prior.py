"""Images that the base draws of the same things: what it knew, kept beside what it learns.

Prior preservation after DreamBooth (Ruiz et al., arXiv 2208.12242, sec. 3.3): the adapter is also
trained on the base's own images, with captions that lack the trigger. Here they are ordinary rows
with a weight in a folder of their own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.config import RunConfig
from mmtune.data.manifest import write_manifest
from mmtune.errors import ConfigError
from mmtune.image.corpus.prompt import MIX, PRIOR, prompted
from mmtune.image.image_options import ImageOptions
from mmtune.image.image_row import ImageRow
from mmtune.system.hashing import hash_file, hash_json

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmtune.data.dataset import Dataset

PRIOR_VERSION = 1  # raise it when the same settings give other images
FIRST_SEED = 10_000  # other noise than that of validation and evaluation, which count from 0
Draw = Callable[[Sequence[str], Sequence[int]], "Sequence[Image]"]


def extend(config: RunConfig, dataset: Dataset, draw: Draw | None = None) -> Path | None:
    """Draw `task.prior` images into `runs/NAME/data/prior` and say where; None for none.

    They are made once: a folder of the same captions, settings and base is taken as it is.

    Args:
        draw: one image for each prompt and seed; None: the base, which is loaded for it.

    Raises:
        ConfigError: the captions can't be used.
        BaseModelError: the base can't be loaded.
    """
    options = config.task
    assert isinstance(options, ImageOptions)
    if not options.prior:
        return None
    prompts = captions(options, [row.reference for row in dataset.split("train")])
    asked = [(prompts[i % len(prompts)], FIRST_SEED + i) for i in range(options.prior)]
    folder = config.folder / "data" / PRIOR
    facts: dict[str, Any] = {
        "version": PRIOR_VERSION,
        "base": _identity(config.base),
        "precision": config.train.precision,
        "asked": asked,
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
        if json.loads(record.read_text(encoding="utf-8"))["key"] == key:
            return folder
        shutil.rmtree(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images = (draw or _drawer(config, options))([p for p, _ in asked], [s for _, s in asked])
    rows = []
    for i, ((prompt, _), image) in enumerate(zip(asked, images, strict=True)):
        file = Path("images") / f"{i:05}.png"
        image.save(folder / file)
        rows.append(
            ImageRow(
                id=f"{PRIOR}-{i:05}",
                image=file.as_posix(),
                caption=prompt,
                split="train",
                weight=options.prior_weight,
                group={MIX: PRIOR},
            )
        )
    write_manifest(manifest, rows)
    record.write_text(json.dumps({"key": key, **facts}, indent=2) + "\n", encoding="utf-8")
    return folder


def captions(options: ImageOptions, trained: Sequence[str]) -> list[str]:
    """The distinct captions to draw: a file's lines, or those of the training rows.

    Raises:
        ConfigError: the file has none or holds the trigger; or there is no file, and without a
            trigger the same captions would have to mean the brand's look and the base's.
    """
    trigger, source = options.trigger, options.prior_captions
    if source is None and not trigger:
        raise ConfigError(
            f"task.prior = {options.prior}: the same captions would be taught two looks",
            'give a phrase for the brand\'s (--trigger "acme icon"), or other captions to keep: '
            "--prior_captions FILE",
        )
    lines = list(trained)
    if source is not None:
        try:
            lines = source.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"task.prior_captions: {source} can't be read: {error}", "save it as UTF-8"
            ) from None
    distinct = list(dict.fromkeys(words for line in lines if (words := " ".join(line.split()))))
    if not distinct:
        raise ConfigError(f"{source} holds no captions", "write one on each line")
    if source is None:  # a row may hold the trigger itself
        distinct = [words for words in distinct if prompted(words, trigger) != words]
        if not distinct:
            raise ConfigError(
                f"every caption holds the trigger {trigger!r}",
                "name captions without it: --prior_captions FILE",
            )
    elif trigger:
        held = [words for words in distinct if prompted(words, trigger) == words]
        if held:
            raise ConfigError(
                f"{source}: {held[0][:60]!r} holds the trigger {trigger!r}, which is the brand's",
                "leave the trigger out of these captions",
            )
    return distinct


def _identity(base: str) -> str:
    # A folder may be overwritten by another model; hashing all weights would mean loading it.
    folder = Path(base)
    files = sorted(folder.rglob("*.safetensors")) if folder.is_dir() else []
    return hash_json([base, [hash_file(file) for file in files]]) if files else base


def _drawer(config: RunConfig, options: ImageOptions) -> Draw:
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
