"""Read a base model's licence from its model card, and tell whether it restricts use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mmtune.system.base_name import SUFFIX, is_hub_id, split_base
from mmtune.system.tensors import read_metadata

MODEL_CARD = "README.md"
# Parts of the names of licences that forbid commercial use or sharing changed copies:
# cc-by-nc-4.0, cc-by-nd-4.0, flux-1-dev-non-commercial-license, sai-nc-community.
RESTRAINED = {"nc", "nd", "noncommercial", "research", "academic"}
VAGUE = {"", "other", "unknown"}


@dataclass(frozen=True)
class Licence:
    """A licence by the name that the model card gives it ("apache-2.0"), in lower case."""

    name: str

    @property
    def restrained(self) -> bool:
        """Whether the name says that commercial use or changed copies are forbidden."""
        words = set(re.split(r"[^a-z0-9]+", self.name))
        return bool(words & RESTRAINED) or {"non", "commercial"} <= words

    @property
    def vague(self) -> bool:
        """Whether the name says nothing about the terms."""
        return self.name in VAGUE


def read_licence(page: Path) -> Licence | None:
    """Read the licence from a model card's front matter; None if the card names no licence.

    With `license: other` the name is in `license_name`.
    """
    from huggingface_hub.repocard import metadata_load
    from yaml import YAMLError

    try:
        facts = metadata_load(page) or {}
    except (OSError, ValueError, YAMLError):
        return None
    names = facts.get("license"), facts.get("license_name")
    given = [n for name in names for n in (name if isinstance(name, list) else [name]) if n]
    lower = [str(name).strip().lower() for name in given]
    told = [name for name in lower if name not in VAGUE] or lower
    return Licence(", ".join(told)) if told else None


def licence_of(base: str) -> Licence | None:
    """Find the licence of a base: a folder with a README.md, a file whose metadata says it
    (`modelspec.license` of Stability's ModelSpec), or a hub id; None if unknown.

    The model card of a hub id is downloaded unless it is on this machine already. A hub that can't
    be reached is no error.
    """
    folder = Path(base).expanduser()
    if folder.is_dir():
        return read_licence(folder / MODEL_CARD)
    file = Path(split_base(base)[0]).expanduser()
    if file.suffix == SUFFIX and file.is_file():
        said = read_metadata(file).get("modelspec.license", "").strip().lower()
        return Licence(said) if said else None
    if not is_hub_id(base):
        return None
    from huggingface_hub import hf_hub_download

    try:
        return read_licence(Path(hf_hub_download(base, MODEL_CARD)))
    except Exception:  # the hub's client raises errors of its own, of its transport and of the OS
        return None
