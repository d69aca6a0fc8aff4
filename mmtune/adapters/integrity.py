"""Whether an adapter's files hold what was saved: hashes in the card, finite weights, its base.

The hash in a card finds accidents: a flipped bit, a file that was cut off or mixed up. It doesn't
stop somebody who can change the card too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmtune.adapters.card import CARD_FILE, PEFT_FILES, read_card
from mmtune.adapters.foreign import refuse_pickled, require_small_header
from mmtune.errors import AdapterError, first_line
from mmtune.system.base_name import found_from_anywhere
from mmtune.system.files import finished_files, write_text
from mmtune.system.hashing import hash_json
from mmtune.system.stored import require_regular
from mmtune.system.tensors import make_reproducible, read_metadata, tensors_hash

MAX_WEIGHTS, MAX_JSON = 16 * 2**30, 64 * 2**20  # bytes; an adapter may come from somebody else
PEFT_CONFIG = PEFT_FILES[0]
BASE = "base_model_name_or_path"
SETS = ("target_modules", "exclude_modules")  # PEFT writes these sets in no fixed order


def adapter_files(folder: Path) -> list[Path]:
    """List the files of an adapter that decide what it does: weights and their configuration."""
    kinds = (".safetensors", ".json")
    names = (path for path in finished_files(folder.iterdir()) if path.suffix in kinds)
    return [path for path in names if path.name != CARD_FILE and path.is_file()]


def content_hash(path: Path) -> str:
    """Hash what a file of an adapter holds, whatever the order in it.

    Of a safetensors file, tensors and metadata are hashed: the metadata may hold rank and alpha.

    Raises:
        AdapterError: the file is missing, too large, can't be read, or holds weights that aren't
            finite.
    """
    most = MAX_WEIGHTS if path.suffix == ".safetensors" else MAX_JSON
    try:
        require_regular(path)  # a pipe would be read for ever
    except FileNotFoundError:
        raise AdapterError(f"{path} is missing", "restore the file") from None
    except OSError as error:
        raise AdapterError(f"{path}: {error.strerror}", "restore the file") from None
    if path.stat().st_size > most:
        raise AdapterError(
            f"{path} has {path.stat().st_size:,} bytes; an adapter has at most {most:,}",
            "restore the file",
        )
    if path.suffix == ".safetensors":
        if path.is_file():
            require_small_header(path)
        found = tensors_hash(path, AdapterError, finite=True)
        return hash_json([found, read_metadata(path, AdapterError)])
    try:
        return hash_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise AdapterError(f"{path} is missing", "restore the file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"{path} is damaged: {first_line(error)}", "restore the file") from None


def seal_adapter(folder: Path, base: str | None = None) -> dict[str, str]:
    """Make the files that a library has just written reproducible, and hash their content.

    Args:
        folder: the adapter folder, before it gets its final name.
        base: what PEFT's configuration names as the base; None: what it names already, from any
            working directory.

    Returns:
        For the card's `files`: the hash of each file's content, by the file's name.

    Raises:
        AdapterError: the folder holds no weights, or they aren't finite.
    """
    config = folder / PEFT_CONFIG
    if config.is_file():
        values = json.loads(config.read_text(encoding="utf-8"))
        lists: dict[str, Any] = {k: sorted(v) for k in SETS if isinstance(v := values.get(k), list)}
        if isinstance(named := values.get(BASE), str):
            # peft looks for a relative path in the working directory
            lists[BASE] = found_from_anywhere(named) if base is None else base
        write_text(config, json.dumps(values | lists, indent=2, sort_keys=True))
    weights = finished_files(folder.glob("*.safetensors"))
    if not weights:
        raise AdapterError(f"{folder} holds no .safetensors file", "repeat the command")
    for path in weights:
        make_reproducible(path)
    try:
        return {path.name: content_hash(path) for path in adapter_files(folder)}
    except AdapterError as error:
        raise AdapterError(
            error.found, "lower train.lr, or set train.precision to fp32, and train again"
        ) from None


def damages(folder: Path) -> Iterator[tuple[str, str]]:
    """Find the files of an adapter that are damaged.

    Each file must be readable and finite, and have the hash that the card names. A card of an
    earlier version, or a folder without a card, names none.

    Yields:
        The file's name, and what is wrong with it as a sentence that names the file.

    Raises:
        AdapterError: the card can't be read.
    """
    stored = read_card(folder).files if (folder / CARD_FILE).exists() else {}
    paths = {path.name: path for path in adapter_files(folder)}
    if not any(name.endswith(".safetensors") for name in stored.keys() | paths.keys()):
        yield "weights", f"{folder} holds no .safetensors file"
        return
    for name in sorted(stored.keys() | paths.keys()):
        try:
            found = content_hash(paths.get(name, folder / name))
        except AdapterError as error:
            yield name, error.found
            continue
        wanted = stored.get(name, "none")
        if stored and found != wanted:
            yield (
                name,
                f"{folder / name} is damaged: its content has SHA-256 {found[:12]}, but "
                f"{CARD_FILE} names {wanted[:12]}",
            )


def check_adapter(folder: Path) -> None:
    """Refuse an adapter whose weights or configuration are damaged; see `damages`.

    Whatever loads, copies or merges an adapter calls it before it uses the weights.

    Raises:
        AdapterError: a file is missing, damaged or not finite, the card can't be read, or the
            weights are in PyTorch's pickled format.
    """
    if not any(folder.glob("*.safetensors")):
        refuse_pickled(folder)
    for _, found in damages(folder):
        raise AdapterError(found, cure_of(folder))


def cure_of(folder: Path) -> str:
    """Return what to do about a damaged adapter: repair it if its run has checkpoints."""
    if folder.name == "adapter" and (folder.parent / "checkpoints").is_dir():
        return f"restore it from its checkpoint: mmtune repair {folder.parent}"
    return "copy the folder again from where it came, or train the adapter again"


def check_base(folder: Path, name: str, fingerprint: str, *, any_name: bool = False) -> None:
    """Refuse a base with other weights than the adapter was trained on.

    Args:
        folder: the adapter folder; without a card, or with a card that names no hash, nothing is
            compared.
        name: of the base, as the user or the card gave it.
        fingerprint: of the base.
        any_name: accept other weights under another name. Users of diffusion models often put an
            adapter on another fine-tune of its base, which they name; but the base that the card
            names must be what it was.

    Raises:
        AdapterError: the base has other weights, or the card can't be read.
    """
    if not (folder / CARD_FILE).exists():
        return
    card = read_card(folder)
    if not card.base_hash or card.base_hash == fingerprint or (any_name and name != card.base):
        return
    if name == card.base:
        raise AdapterError(
            f"{folder} was trained on {card.base!r} with other weights or settings "
            f"({card.base_hash[:12]}) than it has now ({fingerprint[:12]})",
            f"restore the files of {card.base}, or train the adapter again",
        )
    raise AdapterError(
        f"{folder} was trained on {card.base!r} ({card.base_hash[:12]}), not on {name!r} "
        f"({fingerprint[:12]})",
        f"use --base {card.base}, or train it again on this base",
    )
