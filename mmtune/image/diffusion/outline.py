"""The modules of a base with their shapes and without weights, from its configurations alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mmtune.errors import BaseModelError, first_line
from mmtune.image.diffusion.base import MODEL_PARTS, DiffusionBase, load_base
from mmtune.image.diffusion.families import family_class
from mmtune.image.source import INDEX_FILE, Source, read_index, read_json, resolve_base
from mmtune.system.quiet import quiet

LIBRARIES = ("diffusers", "transformers")  # an index may name any; others are not imported


def outline(base: str) -> DiffusionBase:
    """Build the models of a base that adapters can change, on PyTorch's meta device.

    Only configurations are read, so this takes seconds and little memory, whatever the base's size.
    Those of a single file are in the folder that describes it.

    Args:
        base: a hub id, a local folder, a single file or `starter:icons`.

    Returns:
        A base for looking up modules and shapes; its pipeline holds these models alone.

    Raises:
        BaseModelError: the base can't be found, is of another class, or a configuration can't be
            read.
    """
    import torch

    device, dtype = torch.device("cpu"), torch.bfloat16
    source = resolve_base(base)
    if isinstance(source, Path) and not (source / INDEX_FILE).is_file():
        return load_base(base, device, dtype)
    index = read_index(source)
    family = family_class(str(index.get("_class_name")))
    parts = [] if family is None else [family.denoiser_name, *getattr(family, "text_parts", ())]
    named: dict[str, Any] = {part: index.get(part) or (None, None) for part in parts}
    if family is None or any(library not in (None, *LIBRARIES) for library, _ in named.values()):
        return load_base(base, device, dtype)  # which says what is wrong
    # A family may ask whether the pipeline has a part.
    components: dict[str, Any] = {part: SimpleNamespace() for part in MODEL_PARTS}
    for part, (library, kind) in named.items():
        components[part] = _model(base, source, part, library, kind) if library else None
    pipeline = SimpleNamespace(**components)
    try:
        return DiffusionBase(base, pipeline, family(pipeline), {}, device, dtype)
    except AttributeError:  # a third party's family may need more of the pipeline
        return load_base(base, device, dtype)


def _model(base: str, source: Source, part: str, library: str, kind: str) -> Any:
    import importlib

    from accelerate import init_empty_weights

    config = read_json(source, f"{part}/config.json")
    try:
        module = importlib.import_module(library)  # its log can be silenced once it is imported
        with quiet(), init_empty_weights():
            cls = getattr(module, kind)
            if library == "diffusers":
                return cls.from_config(config)
            return cls(cls.config_class.from_dict(config))
    except Exception as error:  # diffusers and transformers raise many kinds
        raise BaseModelError(
            f"{base}: {part}/config.json can't be used: {first_line(error)}",
            "copy or download the base again",
        ) from error
