"""Check every file of a run: whether it can be read, and holds what was written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from mmtune.adapters.adopt import find_foreign
from mmtune.adapters.card import CARD_FILE, Card, read_card
from mmtune.adapters.integrity import adapter_files, content_hash, damages
from mmtune.adapters.routing import is_route, read_route
from mmtune.config import PARENT, RunConfig, read_yaml
from mmtune.data.policy import POLICY_FILE, Policy, read_policy
from mmtune.data.rights_file import RIGHTS, read_shown_rows
from mmtune.errors import AdapterError, ConfigError, MmtuneError, first_line
from mmtune.evaluation.answers import ANSWERS_FILE, damaged_answers
from mmtune.evaluation.comparison import COMPARISON_FILE, read_comparison
from mmtune.evaluation.suite import load_suite
from mmtune.evaluation.verdict import VERDICT_FILE, read_verdict
from mmtune.runs.folder import AFTERWARDS, SUITE_FILE
from mmtune.runs.modalities import find_modality
from mmtune.runs.run_record import RECORD, read_record
from mmtune.runs.trained_rows import DATA, ROWS, read_recorded_rows
from mmtune.settings.declare import settings_of
from mmtune.system.display import Displayed, Rows, plain_values
from mmtune.system.formats import without_format
from mmtune.system.nested import flat
from mmtune.system.run_folder import CONFIG_FILE, LOG_FILE, is_run

State = Literal["ok", "no hash stored", "damaged", "missing"]
BAD: tuple[State, ...] = ("damaged", "missing")
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class CheckedFile:
    """A file of a run, or the folder of a checkpoint.

    Attributes:
        path: in the run folder.
        state: "ok": its content is what a hash or another file of the run says. "no hash stored":
            it can be read, but nothing tells whether its content was changed.
        detail: what is wrong.
    """

    path: str
    state: State
    detail: str = ""


@dataclass(frozen=True)
class Verified(Displayed):
    """The files of a run, each with its state.

    Attributes:
        folder: the run folder.
        files: in the order in which a run writes them.
    """

    folder: Path
    files: tuple[CheckedFile, ...]

    @property
    def damaged(self) -> tuple[CheckedFile, ...]:
        """The files that are damaged or missing."""
        return tuple(file for file in self.files if file.state in BAD)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with the number of damaged files."""
        return {**plain_values(self), "damaged": len(self.damaged)}

    def shown(self) -> Iterable[str | Rows]:
        """Show a table of the files, and what to do about damaged ones."""
        rows = [("file", "state"), *((file.path, file.state) for file in self.files)]
        bad = self.damaged
        if not bad:
            return [rows, f"{len(self.files)} files checked, none is damaged"]
        found = [f"{file.path}: {file.detail}" for file in bad]
        return [
            rows,
            *found,
            f"{len(self.files)} files checked, {len(bad)} damaged or missing; "
            f"restore what can be restored: mmtune repair {self.folder}",
        ]


def verify(run: Path) -> Verified:
    """Check the files of a run; nothing is changed, and no model is loaded.

    Args:
        run: a run folder, finished or not, an adapter folder, a route folder, or an adapter of
            another program.

    Raises:
        ConfigError: `run` is none of these.
    """
    if is_route(run):
        _, adapters = read_route(run)
        return Verified(run, tuple(f for each in adapters.values() for f in _adapter(each, run)))
    if (run / CARD_FILE).is_file():
        return Verified(run, tuple(_adapter(run, run)))
    if (foreign := find_foreign(run)) is not None:
        return Verified(run, (_foreign_file(foreign.file, run),))
    if not is_run(run) and not (run / "adapter" / CARD_FILE).is_file():
        raise ConfigError(
            f"{run} is not a run folder", "give a run folder (runs/NAME) or an adapter folder"
        )
    return Verified(run, tuple(_checked(run)))


def _checked(run: Path) -> Iterator[CheckedFile]:
    card = _card(run / "adapter")
    yield _file(run, CONFIG_FILE, lambda path: _settings(path, card))
    if (run / DATA).exists():
        yield _file(run, DATA, lambda path: _data(path, card))
    if (run / ROWS).exists():
        yield _file(run, ROWS, _rows)
    if (run / RECORD).exists():
        yield _file(run, RECORD, lambda path: _record(path, card))
    if (run / RIGHTS).exists():
        yield _file(run, RIGHTS, _rights)
    if (run / POLICY_FILE).exists():
        yield _file(run, POLICY_FILE, _policy)
    if (run / LOG_FILE).exists():
        yield _file(run, LOG_FILE, _log)
    yield from _weights(run)
    for adapter in (run / PARENT, run / "adapter"):
        if adapter.is_dir():
            yield from _adapter(adapter, run)
    if (run / ANSWERS_FILE).exists():
        lines, images = damaged_answers(run)
        found = [f"line {number} can't be read" for number in lines]
        found += [f"the image {name} is missing or can't be read" for name in images]
        yield CheckedFile(ANSWERS_FILE, "damaged" if found else "no hash stored", "; ".join(found))
    if (run / COMPARISON_FILE).exists():
        yield _file(run, COMPARISON_FILE, lambda path: _comparison(path, card))
    if (run / VERDICT_FILE).exists():
        yield _file(run, VERDICT_FILE, _verdict)
    if (run / SUITE_FILE).exists():
        yield _file(run, SUITE_FILE, _suite)


def _file(run: Path, name: str, check: Callable[[Path], str | None]) -> CheckedFile:
    """Check one file; `check` gives what is wrong, "" for nothing, None for nothing to compare."""
    path = run / name
    if not path.is_file():
        return CheckedFile(name, "missing", f"{path} is missing or no file")
    try:
        found = check(path)
    except MmtuneError as error:
        found = error.found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        found = f"it can't be read: {first_line(error)}"
    if found is None:
        return CheckedFile(name, "no hash stored")
    return CheckedFile(name, "damaged" if found else "ok", found)


def _card(folder: Path) -> Card | None:
    try:
        return read_card(folder)
    except MmtuneError:
        return None


def _settings(path: Path, card: Card | None) -> str | None:
    # The card holds the settings too. A later version knows more of them than either file.
    values = without_format(read_yaml(path), path)
    if card is None or "compose" in card.settings:
        return None
    found, wanted = flat(yaml.safe_load(json.dumps(values, default=str))), flat(card.settings)
    # A card holds no absolute paths, and a run may be moved with the files that it names.
    places = {each.name for each in settings_of(RunConfig) if each.file} | _files_of_task(card)
    for name in sorted(found.keys() & wanted.keys() - AFTERWARDS - {"name"} - places):
        if found[name] != wanted[name]:
            return f"{name} is {found[name]!r}, but {CARD_FILE} has {wanted[name]!r}"
    return ""


def _files_of_task(card: Card) -> set[str]:
    """The settings of a card's modality that name files; none if it isn't installed."""
    with suppress(MmtuneError):
        options = find_modality(card.modality).options
        return {each.name for each in settings_of(options, "task.") if each.file}
    return set()


def _data(path: Path, card: Card | None) -> str | None:
    values = without_format(json.loads(path.read_text(encoding="utf-8")), path)
    found = str(values["fingerprint"])
    if card is None:
        return None
    return "" if found == card.dataset else f"its fingerprint isn't that of {CARD_FILE}"


def _record(path: Path, card: Card | None) -> str | None:
    values = read_record(path.parent)
    found = {"dataset": values["dataset"]["fingerprint"], "base": values["base"]["sha256"]}
    if card is None:
        return None
    wanted = {"dataset": card.dataset, "base": card.base_hash}
    odd = [name for name in wanted if found[name] != wanted[name]]
    return f"its {' and '.join(odd)} isn't that of {CARD_FILE}" if odd else ""


def _rows(path: Path) -> str | None:
    read_recorded_rows(path.parent)
    return None


def _rights(path: Path) -> str | None:
    read_shown_rows(path.parent, Policy())
    return None


def _policy(path: Path) -> str | None:
    read_policy(path)
    return None


def _log(path: Path) -> str | None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            json.loads(line)
        except ValueError:
            return f"line {number} can't be read"
    return None


def _weights(run: Path) -> Iterator[CheckedFile]:
    from mmtune.system.tensors import read_metadata
    from mmtune.training.checkpoint import load_checkpoint, step_folders
    from mmtune.training.kept_weights import HASH, read_snapshot, snapshot_files

    for folder in reversed(step_folders(run / CHECKPOINTS)):
        whole = load_checkpoint(folder) is not None
        detail = "" if whole else "a file is missing, can't be read or has another SHA-256"
        name = folder.relative_to(run).as_posix()
        yield CheckedFile(name, "ok" if whole else "damaged", detail)
    for path in snapshot_files(run):

        def check(path: Path) -> str | None:
            read_snapshot(path)
            return "" if HASH in read_metadata(path) else None

        yield _file(run, path.relative_to(run).as_posix(), check)


def _adapter(folder: Path, root: Path) -> Iterator[CheckedFile]:
    def named(name: str) -> str:
        return (folder / name).relative_to(root).as_posix()

    yield _file(root, named(CARD_FILE), _read_card)
    card = _card(folder)
    if card is None:
        return
    found = dict(damages(folder))
    names = {path.name for path in adapter_files(folder)} | card.files.keys() | found.keys()
    for name in sorted(names):
        if name in found:
            missing = name in card.files and not (folder / name).exists()
            yield CheckedFile(named(name), "missing" if missing else "damaged", found[name])
        else:
            yield CheckedFile(named(name), "ok" if card.files else "no hash stored")


def _foreign_file(file: Path, root: Path) -> CheckedFile:
    """Check the file of an adapter of another program: its numbers must be finite."""
    name = file.relative_to(root).as_posix() if root.is_dir() else file.name
    try:
        content_hash(file)
    except AdapterError as error:
        return CheckedFile(name, "damaged", error.found)
    return CheckedFile(name, "no hash stored")


def _read_card(path: Path) -> str | None:
    read_card(path.parent)
    return None


def _comparison(path: Path, card: Card | None) -> str | None:
    found = read_comparison(path.parent)
    if card is None:
        return None
    # The card has got the measures of the comparison.
    measures = [plain_values(measure) for measure in found.measures]
    stored = {(m["metric"], m["slice"]): plain_values(m) for m in card.measures}
    for each in measures:
        wanted = stored.get((each["metric"], each["slice"]))
        if wanted is None or any(wanted[k] != each[k] for k in wanted.keys() & each.keys()):
            return f"{each['metric']} on {each['slice']} isn't what {CARD_FILE} has"
    return ""


def _verdict(path: Path) -> str | None:
    read_verdict(path.parent)
    return None


def _suite(path: Path) -> str | None:
    load_suite(str(path))
    return None
