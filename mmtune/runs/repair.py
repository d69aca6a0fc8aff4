"""Restore what can be restored of a damaged run, and remove what is measured again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.adapters.card import read_card
from mmtune.errors import MmtuneError
from mmtune.evaluation.answers import ANSWERS_FILE, drop_damaged_answers
from mmtune.evaluation.comparison import COMPARISON_FILE
from mmtune.evaluation.verdict import VERDICT_FILE
from mmtune.runs.folder import require_consent
from mmtune.runs.recipes import load_run
from mmtune.runs.verify import CHECKPOINTS, CheckedFile, Verified, verify
from mmtune.system.display import Displayed, Rows
from mmtune.system.locks import locked

if TYPE_CHECKING:
    from mmtune.training.reporter import Reporter


@dataclass(frozen=True)
class Repaired(Displayed):
    """The result of a repair.

    Attributes:
        folder: the run folder.
        done: what was restored or removed.
        left: what could not be repaired, each with what to do about it.
    """

    folder: Path
    done: tuple[str, ...]
    left: tuple[str, ...]

    def shown(self) -> Iterable[str | Rows]:
        """Show what was done, what is left, and the next command."""
        if not self.done and not self.left:
            return [f"{self.folder}: nothing is damaged"]
        return [*self.done, *(f"not repaired: {each}" for each in self.left)]


def repair(run: Path, reporter: Reporter | None = None) -> Repaired:
    """Restore a run's damaged adapter from its checkpoint; remove damaged answers and figures.

    The adapter is saved again as `mmtune train` saves it, which needs the run's data and base, and
    its content is compared with the hash in its card. Nothing is trained and nothing is measured.

    Args:
        run: a run folder.
        reporter: receives notes while the adapter is restored; None: nobody.

    Raises:
        ConfigError: `run` is not a run folder.
        Locked: another command works in the run folder.
    """
    if not verify(run).damaged:
        return Repaired(run, (), ())
    with locked(run):
        return _repair(run, reporter)


def _repair(run: Path, reporter: Reporter | None) -> Repaired:
    found = verify(run)
    done: list[str] = []
    left: list[str] = []
    _checkpoints(found, done, left)
    _adapter(found, reporter, done, left)
    _measured(found, done)
    known = (f"{CHECKPOINTS}/", "adapter/", "validated/", ANSWERS_FILE, COMPARISON_FILE)
    others = [f for f in found.damaged if not f.path.startswith((*known, VERDICT_FILE))]
    left += [f"{run / file.path}: {file.detail}; copy it from a backup" for file in others]
    return Repaired(run, tuple(done), tuple(left))


def _within(found: Verified, start: str) -> list[CheckedFile]:
    return [file for file in found.damaged if file.path.startswith(start)]


def _checkpoints(found: Verified, done: list[str], left: list[str]) -> None:
    """Remove damaged checkpoints, which are skipped anyway, if an intact one is left."""
    whole = any(f.path.startswith(f"{CHECKPOINTS}/") and f.state == "ok" for f in found.files)
    for file in _within(found, f"{CHECKPOINTS}/"):
        path = found.folder / file.path
        if whole:
            shutil.rmtree(path, ignore_errors=True)
            done.append(f"removed {path}: it was damaged, and another checkpoint is intact")
        else:
            left.append(
                f"{path}: {file.detail}, and no checkpoint is intact; `mmtune train` would begin "
                "again from the base"
            )


def _adapter(found: Verified, reporter: Reporter | None, done: list[str], left: list[str]) -> None:
    """Save a damaged adapter again; then snapshots that are damaged are no longer needed."""
    from mmtune.training.checkpoint import newest

    folder = found.folder / "adapter"
    damaged = _within(found, "adapter/")
    if damaged:
        names = ", ".join(str(found.folder / file.path) for file in damaged)
        checkpoint, _ = newest(found.folder / CHECKPOINTS)
        if checkpoint is None or not checkpoint.state.get("finished"):
            left.append(
                f"{names}: the run has no intact checkpoint of its end; copy the adapter from a "
                f"backup, or delete {folder} and repeat the run's `mmtune train` command"
            )
            return
        try:
            _save_again(found.folder, reporter)
        except MmtuneError as error:
            left.append(f"{names}: {error.found}; {error.cure}")
            return
        same = "with the same content" if read_card(folder).files else "(no hash to compare)"
        done.append(f"restored {names} from the run's checkpoint {same}")
    for file in _within(found, "validated/"):
        path = found.folder / file.path
        if folder.is_dir():
            path.unlink(missing_ok=True)
            done.append(f"removed {path}: it was damaged, and the adapter was chosen already")
        else:
            left.append(f"{path}: {file.detail}; delete it to compare the other checkpoints alone")


def _save_again(run: Path, reporter: Reporter | None) -> None:
    from mmtune.runs.pipeline import train_adapter

    config = load_run(run)
    require_consent(config)
    train_adapter(config, reporter=reporter)


def _measured(found: Verified, done: list[str]) -> None:
    """Remove damaged answers and figures; the next evaluation makes them again."""
    run = found.folder
    if _within(found, ANSWERS_FILE):
        count = drop_damaged_answers(run)
        done.append(f"removed {count} damaged answers from {run / ANSWERS_FILE}")
    for name in (COMPARISON_FILE, VERDICT_FILE):
        if any(file.path == name for file in found.damaged):
            (run / name).unlink(missing_ok=True)
            done.append(f"removed {run / name}: it was damaged")
    had = any(file.path == COMPARISON_FILE for file in found.files)
    if had and not ((run / COMPARISON_FILE).exists() and _within(found, VERDICT_FILE) == []):
        done.append(f"next: measure it again: mmtune evaluate {run}")
