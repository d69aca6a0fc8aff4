"""The policy of a run's data, and what its card keeps of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.adapters.adapter_rights import policy_file
from mmtune.adapters.card import CARD_FILE, read_card
from mmtune.config import RunConfig
from mmtune.data.rights import Rights, joined_rights, rights_of
from mmtune.runs.modalities import find_modality

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset


def kept_policy(config: RunConfig, source: Path) -> Path | None:
    """The policy's file for a run's data; the run's copy where the team's file isn't here.

    Args:
        config: the run's settings.
        source: the manifest or folder.
    """
    return policy_file(config.folder, config.data.policy, source, config.out, config.name)


def renew_rights(config: RunConfig, dataset: Dataset) -> None:
    """Write into the card of a finished run what its rows state today, if they are the same rows.

    So a consent that was renewed counts for the adapter, too.

    Args:
        config: the run's settings; the caller holds the lock of its folder.
        dataset: the run's data.
    """
    adapter = config.folder / "adapter"
    if not (adapter / CARD_FILE).is_file():
        return
    card = read_card(adapter)
    if card.dataset != dataset.fingerprint:
        return
    rights = learned_rights(config, dataset)
    if rights != card.rights:
        renewed = card.model_copy(update={"rights": rights})
        renewed.write(adapter, find_modality(card.modality).usage(renewed))


def learned_rights(config: RunConfig, dataset: Dataset) -> Rights | None:
    """What the rows allow that a run learns from and chooses by, and those of its parent."""
    rows = (*dataset.split("train"), *dataset.split("validation"))
    own = rights_of(rows, dataset.policy, dict(dataset.refused))
    parent = read_card(config.parent).rights if config.parent is not None else None
    return joined_rights([own, parent])
