"""Take adapters of other programs: convert each once into a folder of mmtune's own form.

Such an adapter is a `.safetensors` file, or a folder without mmtune's card that holds one. It is
converted for the base that the user names, and kept in the cache under a hash of its content and
that base. The source is only read. The converted folder is like that of a run, but its card says
where it comes from and holds no results.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mmtune.adapters.card import CARD_FILE, Card, adapter_folder, read_card
from mmtune.adapters.foreign import (
    PICKLED,
    read_config,
    read_shapes,
    refuse_pickled,
)
from mmtune.adapters.integrity import PEFT_CONFIG, check_adapter, content_hash, seal_adapter
from mmtune.adapters.named_base import base_identity, base_of
from mmtune.errors import AdapterError, ConfigError
from mmtune.system.files import folder_aside, plain_name
from mmtune.system.hashing import hash_file, hash_json
from mmtune.system.locks import hold_when_free
from mmtune.system.resources import cache_root
from mmtune.system.run_folder import is_run
from mmtune.system.tensors import read_metadata

FOREIGN = "none"  # the recipe of an adapter that mmtune didn't train
VERSION = 1  # raise it when another folder is made of the same file
SUFFIX = ".safetensors"
KINDS = ("LORA", "LOHA", "LOKR")  # of peft
# The file of a folder that holds several, in the order of preference.
USUAL = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
# A model's weights, as transformers and diffusers name them.
_MODEL = re.compile(r"(diffusion_pytorch_)?model([.-].+)?\.safetensors(\.index\.json)?")
NAME_BASE = "name the model that it was trained on: --base BASE"


@dataclass(frozen=True)
class ForeignAdapter:
    """An adapter of another program, before it is converted.

    Attributes:
        given: the path that the user named.
        file: its safetensors file.
        config: peft's adapter_config.json beside the file; None: there is none.
        shapes: of its tensors, by name.
    """

    given: Path
    file: Path
    config: Mapping[str, Any] | None
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)

    @property
    def name(self) -> str:
        """The name for its card: of the folder, or of the file without its suffix."""
        return self.given.resolve().name if self.given.is_dir() else self.given.stem

    @cached_property
    def metadata(self) -> dict[str, str]:
        """The texts in the file's header."""
        return read_metadata(self.file, AdapterError)

    @cached_property
    def digest(self) -> str:
        """Hash of the file's bytes."""
        return hash_file(self.file)

    @property
    def said_base(self) -> str:
        """What sd-scripts wrote of the base, for messages: " (the file says: sd_v1)"; or nothing.

        It is a kind or a file's name on another machine, so it can't be loaded.
        """
        known = ("ss_base_model_version", "modelspec.architecture", "ss_sd_model_name")
        said = [text[:80] for name in known if (text := self.metadata.get(name, ""))]
        return f" (the file says: {', '.join(said)})" if said else ""

    def base_beside(self, usual: str | None) -> str | None:
        """The base of the adapters that it is used with, if it doesn't name its own."""
        return usual if self.named_base() is None else None

    def named_base(self) -> str | None:
        """The base that its own config names; None if it names none."""
        named = (self.config or {}).get("base_model_name_or_path")
        return named if isinstance(named, str) and named else None


# Writes the files of mmtune's own form for a base, and returns facts about them for the card.
Convert = Callable[[ForeignAdapter, str, Path], Mapping[str, str]]
# Gives the folder that an adapter is converted to, for the base that the user named.
Adopt = Callable[[ForeignAdapter, "str | None"], Path]


def find_foreign(given: Path) -> ForeignAdapter | None:
    """Look for an adapter of another program.

    Args:
        given: a `.safetensors` file, or a folder.

    Returns:
        None if the path holds an adapter with mmtune's card, a run or a route, or no adapter.

    Raises:
        AdapterError: the folder holds several safetensors files or a whole model, or a file is
            pickled or damaged.
    """
    if given.is_file():
        if given.suffix in PICKLED:
            raise AdapterError(
                f"{given} is in PyTorch's pickled format, which can hold code, and mmtune doesn't "
                "read it",
                "ask its author for a safetensors file, or convert it with the library that wrote "
                "it",
            )
        if given.suffix != SUFFIX:
            raise AdapterError(
                f"{given} is not an adapter: mmtune reads {SUFFIX} files",
                f"give an adapter folder, a run folder or a {SUFFIX} file",
            )
        if _MODEL.fullmatch(given.name):
            _refuse_model(given.parent, given)
        return _read(given, given)
    for folder in (given, given / "adapter"):
        if (folder / CARD_FILE).is_file():
            return None
    if not given.is_dir():
        return None
    # A run holds no tensors itself; its adapter/ without a card is damaged, and not another's.
    folders = (given,) if is_run(given) else (given, given / "adapter")
    for folder in folders:
        _refuse_model(folder, given)
        file = _only_file(folder) if folder.is_dir() else None
        if file is not None:
            return _read(given, file)
    if is_run(given):
        return None
    refuse_pickled(given)
    return None


def _refuse_model(folder: Path, given: Path) -> None:
    """Refuse a folder that transformers or diffusers wrote with a whole model."""
    if any((folder / name).is_file() for name in (PEFT_CONFIG, *USUAL)):
        return
    weights = next((p.name for p in sorted(folder.glob("*")) if _MODEL.fullmatch(p.name)), None)
    parts = ["config.json", weights] if weights is not None else ["model_index.json"]
    if all((folder / part).is_file() for part in parts):
        raise AdapterError(
            f"{given} is a whole model and no adapter: {' and '.join(parts)} are a model's files"
            if len(parts) > 1
            else f"{given} is a whole model and no adapter: {parts[0]} is a pipeline's file",
            f"give an adapter; to work on this model, name it as the base: --base {folder}",
        )


def _only_file(folder: Path) -> Path | None:
    files = sorted(path for path in folder.glob(f"*{SUFFIX}") if path.is_file())
    usual = [folder / name for name in USUAL if (folder / name) in files]
    if len(files) > 1 and len(usual) != 1:
        names = ", ".join(path.name for path in files[:5])
        raise AdapterError(
            f"{folder} holds {len(files)} {SUFFIX} files and no {CARD_FILE}: {names}",
            f"name the adapter's file: {files[0]}",
        )
    return usual[0] if usual else files[0] if files else None


def _read(given: Path, file: Path) -> ForeignAdapter:
    config = file.parent / PEFT_CONFIG
    # Beside a file with another name than peft's, the config may be that of another adapter.
    own = config.is_file() and (given.is_dir() or file.name == USUAL[1])
    read = read_config(config, KINDS) if own else None
    return ForeignAdapter(given, file, read, read_shapes(file))


def base_for(foreign: ForeignAdapter, base: str | None) -> str:
    """Choose the base of an adapter: the one that the user names, or that its config names.

    Raises:
        ConfigError: neither names one.
        BaseModelError: only the config names it, and it would have to be downloaded.
    """
    if base is not None:
        return base
    named = foreign.named_base()
    if named is None:
        raise ConfigError(
            f"{foreign.given} names no model that it can be loaded on{foreign.said_base}", NAME_BASE
        )
    return base_of(named, foreign.given)


def own_forms(weights: Mapping[Path, float], base: str | None, convert: Adopt) -> dict[Path, float]:
    """Replace each adapter of another program by the folder that it is converted to.

    Without a named base, it is that of the first adapter with a card.

    Args:
        weights: adapters of one base, with weights.
        base: the base that the user named.
        convert: converts one adapter, given the base that the user named or that it gets.

    Raises:
        MmtuneError: as `convert` does.
    """
    foreign = {path: find_foreign(path) for path in weights}
    usual = base
    if base is None and any(foreign.values()):
        usual = next((named for path in weights if (named := _base_of_card(path))), None)
    found: dict[Path, float] = {}
    for path, weight in weights.items():
        each = foreign[path]
        own = path if each is None else convert(each, base or each.base_beside(usual))
        if own in found:
            raise ConfigError(f"{path} is given twice", "give it once, as PATH=WEIGHT")
        found[own] = weight
    return found


def _base_of_card(path: Path) -> str | None:
    with suppress(AdapterError):
        folder = adapter_folder(path)
        return base_of(read_card(folder).base, folder)
    return None


def adopt(foreign: ForeignAdapter, base: str, modality: str, convert: Convert) -> Path:
    """Convert an adapter into a folder of mmtune's own form, unless that was done before.

    Args:
        foreign: the adapter.
        base: the base model that it is for.
        modality: the name of its modality.
        convert: the modality's function that writes the files.

    Returns:
        A folder in the cache, with the files of the modality and a card.

    Raises:
        AdapterError: the adapter doesn't fit the base, or is of a kind that mmtune doesn't read.
        BaseModelError: the base can't be loaded.
    """
    config = dict(foreign.config or {})
    key = hash_json([VERSION, foreign.digest, config, base_identity(base), modality])
    folder = cache_root() / "adapters" / f"{plain_name(foreign.name, 'adapter')[:60]}-{key[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with hold_when_free(folder.with_name(f"{folder.name}.lock"), folder):
        if (folder / CARD_FILE).is_file():
            try:
                check_adapter(folder)
                return folder
            except AdapterError:
                pass  # damaged: it is made again
        content_hash(foreign.file)  # refuses numbers that aren't finite
        with folder_aside(folder) as partial:
            partial.chmod(0o700)
            facts = convert(foreign, base, partial)
            card = Card(
                name=foreign.name,
                recipe=FOREIGN,
                modality=modality,
                base=base,
                base_hash="",  # nobody wrote down which weights it was trained on
                dataset="",
                rows={},
                settings={},
                origin={"file": foreign.file.name, "sha256": foreign.digest, **facts},
            )
            card.model_copy(update={"files": seal_adapter(partial)}).write(partial)
    return folder
