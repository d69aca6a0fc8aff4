"""Which adapters answer for a row is decided by its labels: an accent, a language, a product."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmtune.adapters.compose import compared, comparison_shown, placed
from mmtune.adapters.members import Member, parents_of, read_members
from mmtune.config import read_yaml
from mmtune.data.rows import Row
from mmtune.errors import AdapterError, ConfigError
from mmtune.predict import Prediction, Predictor, Request
from mmtune.system.display import Displayed, Rows
from mmtune.system.files import unique_name
from mmtune.system.formats import with_format, without_format
from mmtune.system.hashing import hash_json

ROUTE_FILE = "gate.json"  # so called since version 0.1
BASE_ALONE = "none"  # the base, where an adapter could be named
Weight = Annotated[float, Field(allow_inf_nan=False)]

Router = Callable[[Row], Mapping[str, float]]
"""The adapters that answer for a row, by weight; empty is the base."""


class RouteFile(BaseModel):
    """What a user writes: YAML or JSON, paths relative to the file.

    `labels` gives for each value of the label `by` an adapter, several with weights, or "none".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: str = Field(min_length=1)
    labels: dict[str, str | dict[str, Weight] | None] = Field(min_length=1)
    otherwise: str | dict[str, Weight] | None = None  # for rows without a label, or with another


class Route(BaseModel):
    """What `gate.json` holds: weights by the names of the folders in `adapters/`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: str
    base: str
    base_hash: str
    by: str
    labels: dict[str, dict[str, float]]
    otherwise: dict[str, float]
    parents: list[dict[str, Any]] = Field(default_factory=list)

    def choose(self, row: Row) -> Mapping[str, float]:
        """The adapters for a row by its `group`, or by a field of its own (`language`)."""
        label = row.group.get(self.by)
        if label is None:
            field = getattr(row, self.by, None)
            label = field if isinstance(field, str) else None
        return self.of_label(label)

    def of_label(self, label: str | None) -> Mapping[str, float]:
        """The adapters for a label; `otherwise` for None, and for one that isn't known."""
        return self.otherwise if label is None else self.labels.get(label, self.otherwise)


@dataclass(frozen=True)
class Routed(Displayed):
    """A route's folder that was written.

    Attributes:
        comparison: each adapter alone and the whole on test items, head first, if asked for.
        notes: what the user should know of the comparison.
    """

    path: Path
    route: Route
    parts: tuple[Member, ...]
    comparison: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        facts: dict[str, Any] = {"path": str(self.path), "gate": self.route.model_dump()}
        return facts | compared(self.comparison, self.notes)

    def shown(self) -> Iterable[str | Rows]:
        """The folder, and the comparison."""
        return [str(self.path), *comparison_shown(self.comparison, self.notes)]


class RoutedPredictor:
    """A predictor that takes for each row the adapters that its labels ask for.

    Where the route says "none", the answer is the base's bit by bit: its adapters are off.

    Args:
        predictor: has the route's adapters loaded by their names.
    """

    def __init__(self, predictor: Predictor, route: Route) -> None:
        self.predictor = predictor
        self.route = route
        self.fingerprint = hash_json([predictor.fingerprint, route.model_dump()])

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """One prediction for each request, in order; adapters that requests name give way."""
        chosen = [replace(each, adapters=self.route.choose(each.row)) for each in requests]
        return self.predictor.predict(chosen)


def read_route_file(path: Path) -> RouteFile:
    """The route that a user wrote.

    Raises:
        ConfigError: it can't be read, or says something else; it names the setting.
    """
    if not path.is_file():
        raise ConfigError(f"no such file: {path}", "name a route: --route gate.yaml")
    try:
        return RouteFile.model_validate(read_yaml(path), strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][:2]))
        raise ConfigError(
            f"{path}: {where}: {first['msg']}",
            "by: accent; labels: {scottish: runs/A, indian: {runs/A: 0.5, runs/B: 1}, us: none}; "
            "quote a label such as 'no', which YAML reads otherwise",
        ) from None


def write_route(source: Path, out: Path, *, base: str | None = None) -> Routed:
    """Gather a route's adapters in one folder, that can be moved: `gate.json` and `adapters/`.

    Args:
        source: a `RouteFile`; its adapters are a run's or their own folders.
        out: a folder that doesn't exist yet.
        base: None: the one that the cards name.

    Raises:
        ConfigError: the file says something else, names no adapter, or `out` is taken.
        AdapterError: an adapter is missing, or for another base than the first.
    """
    given = read_route_file(source)
    root = source.parent
    wanted = {label: _weights(value, root) for label, value in given.labels.items()}
    otherwise = _weights(given.otherwise, root)
    paths = list(dict.fromkeys(path for each in (*wanted.values(), otherwise) for path in each))
    if not paths:
        raise ConfigError(f"{source} names no adapter", "labels: {scottish: runs/scottish}")
    parts = read_members(dict.fromkeys(paths, 1.0))
    names = _names(parts)
    by_path = dict(zip(paths, names, strict=True))

    def named(weights: Mapping[Path, float]) -> dict[str, float]:
        return {by_path[path]: weight for path, weight in weights.items()}

    card = parts[0].card
    parents = [
        {key: value for key, value in parent.items() if key != "weight"} | {"adapter": name}
        for name, parent in zip(names, parents_of(parts), strict=True)
    ]
    route = Route(
        modality=card.modality,
        base=base or card.base,
        base_hash=card.base_hash,
        by=given.by,
        labels={label: named(weights) for label, weights in wanted.items()},
        otherwise=named(otherwise),
        parents=parents,
    )
    with placed(out) as folder:
        for name, part in zip(names, parts, strict=True):
            shutil.copytree(part.folder, folder / "adapters" / name)
        text = with_format(route.model_dump_json(indent=2))
        (folder / ROUTE_FILE).write_text(text + "\n", encoding="utf-8")
    return Routed(out, route, parts)


def _weights(value: str | Mapping[str, float] | None, root: Path) -> dict[Path, float]:
    if value is None or value == BASE_ALONE:
        return {}
    given = {value: 1.0} if isinstance(value, str) else value
    # A weight of 0 is the adapter switched off, for speech bit by bit as for images.
    return {
        (root / Path(path).expanduser()).resolve(): weight
        for path, weight in given.items()
        if weight
    }


def _names(parts: Sequence[Member]) -> list[str]:
    """Short names that can be folders: of the cards, with a number where two are the same."""
    names: list[str] = []
    for part in parts:
        plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in part.card.name) or "adapter"
        names.append(unique_name(plain, names))
    return names


def read_route(folder: Path) -> tuple[Route, dict[str, Path]]:
    """A route's folder: what it says, and its adapters by name.

    Raises:
        AdapterError: it can't be read, or lacks an adapter.
    """
    path = folder / ROUTE_FILE
    try:
        values = without_format(json.loads(path.read_text(encoding="utf-8")), path)
        route = Route.model_validate(values)
    except FileNotFoundError:
        raise AdapterError(
            f"{folder} holds no {ROUTE_FILE}", "mmtune compose --route makes it"
        ) from None
    except (TypeError, ValueError) as error:
        raise AdapterError(f"{path} can't be read: {error}", "make it again") from None
    used = dict.fromkeys(
        name for each in (*route.labels.values(), route.otherwise) for name in each
    )
    adapters = {name: folder / "adapters" / name for name in used}
    for name, place in adapters.items():
        if not place.is_dir() or Path(name).name != name:
            raise AdapterError(
                f"{folder} lacks adapters/{name}", "copy it, or make the route again"
            )
    return route, adapters


def is_route(folder: Path) -> bool:
    """Whether a folder is one that `write_route` wrote."""
    return (folder / ROUTE_FILE).is_file()
