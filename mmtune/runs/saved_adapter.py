"""The adapter that a run saved before: kept if it is whole, restored from a checkpoint if not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.adapters.card import CARD_FILE, Card, read_card
from mmtune.adapters.foreign import read_config
from mmtune.adapters.integrity import BASE, PEFT_CONFIG, damages, seal_adapter
from mmtune.adapters.method_files import ALL_KINDS
from mmtune.config import RunConfig
from mmtune.errors import AdapterError, MmtuneError
from mmtune.system.files import copy_file, folder_aside

if TYPE_CHECKING:
    from mmtune.training.reporter import FitResult
    from mmtune.training.task import Task


def saved_before(
    config: RunConfig, task: Task, result: FitResult, note: Callable[[str], None]
) -> bool:
    """Whether the run has an adapter already; a damaged one is restored with the same content.

    Args:
        config: the run's settings; its folder has an adapter/.
        task: trained: its module holds the best weights of the run's last checkpoint.
        result: of the training loop.
        note: receives what was done.

    Returns:
        False if the adapter must be saved: its card can't be read, or is of another training.

    Raises:
        AdapterError: the adapter is damaged, and the checkpoint gives another one.
    """
    folder = config.folder / "adapter"
    try:
        card = read_card(folder)
        found = next((sentence for _, sentence in damages(folder)), "")
    except MmtuneError as error:
        note(f"adapter    chosen and saved again, because its card is damaged: {error.found}")
        return False
    if card.steps != result.steps:
        return False
    if found:
        _restore(config, card, task, result, found)
        same = "with the same content" if card.files else "(its card holds no hash to compare)"
        note(f"restored   {folder} from the run's checkpoint {same}, because {found}")
    return True


def _restore(config: RunConfig, card: Card, task: Task, result: FitResult, found: str) -> None:
    """Save the weights that the card describes again, and put them in the place of the damaged."""
    from mmtune.training.kept_weights import read_snapshots
    from mmtune.training.strength import put, scaled

    final = config.folder / "adapter"
    cure = f"train again: mmtune train with --name {config.name}-2, or delete {config.folder}"
    if card.best_step != result.best_step:  # another checkpoint was chosen than validation's best
        try:
            kept = [each for each in read_snapshots(config.folder) if each.step == card.best_step]
        except MmtuneError as error:
            raise AdapterError(f"{found}. It can't be restored: {error.found}", cure) from None
        if not kept:
            raise AdapterError(
                f"{found}. It can't be restored: the weights of step {card.best_step} are gone",
                cure,
            )
        put(task.module, kept[0].weights)
    with folder_aside(final) as partial:
        with nullcontext() if card.scale == 1.0 else scaled(task.module, card.scale):
            task.save(partial)
        files = seal_adapter(partial)
        for base in (_named_base(final), card.base):  # it lay elsewhere, or an earlier mmtune wrote
            if base and card.files and files != card.files:
                files = seal_adapter(partial, base)
        if card.files and files != card.files:
            odd = next(n for n in sorted(files | card.files) if files.get(n) != card.files.get(n))
            raise AdapterError(
                f"{found}. It can't be restored: the run's checkpoint gives another {odd}", cure
            )
        for name in (CARD_FILE, "README.md"):
            if (final / name).is_file():
                copy_file(final / name, partial / name)


def _named_base(folder: Path) -> str:
    """The base that PEFT's configuration of an adapter names; empty if it can't be read."""
    with suppress(AdapterError):
        return str(read_config(folder / PEFT_CONFIG, ALL_KINDS).get(BASE) or "")
    return ""
