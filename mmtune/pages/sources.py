"""The files that a page may show: regular files inside the run folder or the run's data folders.

A run folder may come from somebody else, and its files name pictures and recordings. Without this
rule a page could hold any file of the reader's machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmtune.config import read_yaml
from mmtune.data.manifest import root_of
from mmtune.errors import ConfigError, MmtuneError
from mmtune.system.inside import inside, leads_out
from mmtune.system.moved import places_of
from mmtune.system.stored import read_json_object

CONFIG = "config.yaml"
EVALUATION = "evaluation.json"  # in results of an evaluation: which adapter on which data
MANIFESTS = (".jsonl", ".ndjson")
# Everything that pages read of a run folder, apart from pictures and recordings.
READ = (
    *(
        CONFIG,
        "suite.yaml",
        "data.json",
        "rights.jsonl",
        "policy.yaml",
        "log.jsonl",
        "predictions.jsonl",
        "comparison.json",
    ),
    *("against.json", "evaluation.json", "verdict.json", "review.json", "adapter/card.json"),
    "adapter",
)


@dataclass(frozen=True)
class Sources:
    """The folders whose files a page may show.

    Attributes:
        run: the run folder; None: only `data`.
        data: folders of the run's data. A file below a hidden folder of them isn't shown.
        name: the run's name when it was made; its folder may have another one now.
    """

    run: Path | None = None
    data: tuple[Path, ...] = field(default=())
    name: str = ""

    def in_run(self, named: str | Path) -> Path | None:
        """Find a file of the run folder, even if the run was moved since it was named.

        Returns:
            The path without links; None if the file isn't there or lies elsewhere.
        """
        if self.run is None:
            return None
        for place in _places(named, self.run, self.name):
            if (found := inside(self.run, place)) is not None:
                return found
        return None

    def find(self, named: str | Path) -> Path | None:
        """Find a file of the run folder or of a data folder.

        Returns:
            The path without links; None if the file isn't there or lies elsewhere.
        """
        if (found := self.in_run(named)) is not None:
            return found
        for folder in self.data:
            for place in _places(named, folder):
                found = inside(folder, place)
                if found is not None and not _hidden(found.relative_to(folder.resolve())):
                    return found
        return None


def sources_of(run: Path | None) -> Sources:
    """List the folders that a page of a run may show files of.

    The run's data folders are those of `data.path`, and of each setting in `task` that names a
    manifest. A relative path counts from the current folder, and from the folder in which the run
    was started; an absolute one is also looked for where it was seen from the run. Results of an
    evaluation on a run's own test rows have that run's folders too. The file system's root and the
    folders above the home folder are never among them.
    """
    if run is None:
        return Sources()
    if not (run / CONFIG).is_file():
        return Sources(run)
    values = read_yaml(run / CONFIG)
    out, name = values.get("out"), str(values.get("name") or "")
    found = []
    for named in _data_named(values):
        try:
            path = Path(named).expanduser()
            places = places_of(path, Path(out), name, run) if isinstance(out, str) else [path]
            folders = [root_of(place) for place in places if place.exists()]
            found += [folder for folder in folders if not _too_wide(folder)]
        except (OSError, ValueError, RuntimeError):
            continue
    measured = _measured_run(run)
    if measured is not None:
        found += [*sources_of(measured).data, *filter(Path.is_dir, [measured / "data"])]
    return Sources(run, tuple(dict.fromkeys(found)), name)


def _measured_run(folder: Path) -> Path | None:
    """The run whose own test rows an evaluation measured; None: `folder` holds no such results."""
    if not (folder / EVALUATION).is_file():
        return None
    try:
        values = read_json_object(folder / EVALUATION, "repeat the evaluation")
    except MmtuneError:
        return None
    named = values.get("adapter")
    if values.get("data") is not None or not isinstance(named, str):
        return None
    run = Path(os.path.normpath(folder / named))
    return run if (run / CONFIG).is_file() and not (run / EVALUATION).is_file() else None


def require_own_files(run: Path) -> None:
    """Refuse a run folder whose files are links that lead out of it, or no regular files.

    Raises:
        ConfigError: names the first such file.
    """
    for name in READ:
        path = run / name
        if path.is_dir():
            if not path.resolve().is_relative_to(run.resolve()):
                raise ConfigError(
                    f"{path} is a link that leads out of the run folder",
                    "copy the folder that it names into the run folder",
                )
        elif leads_out(run, path):
            raise ConfigError(
                f"{path} is no regular file of the run folder: a page would show a file from "
                "elsewhere",
                "copy the file that it names into the run folder, or remove the link",
            )


def _places(named: str | Path, folder: Path, name: str = "") -> Iterator[Path]:
    """Where a file of a folder may be, that was named before the folder was moved or renamed."""
    path = Path(named)
    if not path.is_absolute():
        yield folder / path
    yield path
    for own in dict.fromkeys(each for each in (folder.name, name) if each):
        if own in path.parts:
            yield folder.joinpath(*path.parts[path.parts.index(own) + 1 :])


def _data_named(values: Mapping[str, Any]) -> Iterator[str]:
    data, task = values.get("data"), values.get("task")
    if isinstance(data, Mapping) and isinstance(data.get("path"), str):
        yield data["path"]
    pending = [task]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            pending += value.values()
        elif isinstance(value, str) and value.endswith(MANIFESTS):
            yield value


def _too_wide(folder: Path) -> bool:
    home = Path.home().resolve()
    return folder == Path(folder.anchor) or (folder != home and home.is_relative_to(folder))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
