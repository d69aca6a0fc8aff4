"""Route rows to adapters by a label: an accent, a language, a product."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmtune.adapters.adopt import Adopt, own_forms
from mmtune.adapters.card import CARD_FILE
from mmtune.adapters.compose import compared, comparison_shown, new_folder
from mmtune.adapters.members import Member, parents_of, read_members
from mmtune.config import read_yaml
from mmtune.data.rows import Row
from mmtune.errors import AdapterError, ConfigError
from mmtune.predict import Prediction, Predictor, Request
from mmtune.system.display import Displayed, Rows
from mmtune.system.files import (
    copy_file,
    finished_files,
    plain_name,
    unique_name,
    write_text,
)
from mmtune.system.formats import with_format, without_format
from mmtune.system.hashing import hash_json
from mmtune.system.inside import inside
from mmtune.system.stored import damaged, read_json_object

ROUTE_FILE = "gate.json"  # kept from version 0.1, which called a route a gate
LOADED = (CARD_FILE, "adapter_config.json")  # files of an adapter besides its tensors
BASE_ALONE = "none"  # written in place of an adapter, it means the base
Weight = Annotated[float, Field(allow_inf_nan=False)]

Router = Callable[[Row], Mapping[str, float]]
"""A function that gives a row's adapters with their weights; an empty mapping means the base."""


class RouteFile(BaseModel):
    """A route as a user writes it, in YAML or JSON; its paths are relative to the file.

    `by` names a label. `labels` gives an adapter, several weighted adapters, or "none" for each
    value of that label.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: str = Field(min_length=1)
    labels: dict[str, str | dict[str, Weight] | None] = Field(min_length=1)
    otherwise: str | dict[str, Weight] | None = None  # for all other rows


class Route(BaseModel):
    """The contents of `gate.json`: weights by the names of the folders in `adapters/`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: str
    base: str
    base_hash: str
    by: str
    labels: dict[str, dict[str, Weight]]
    otherwise: dict[str, Weight]
    parents: list[dict[str, Any]] = Field(default_factory=list)

    def choose(self, row: Row) -> Mapping[str, float]:
        """Select the adapters for a row by its `group`, or by a field of the row (`language`)."""
        label = row.group.get(self.by)
        if label is None:
            field = getattr(row, self.by, None)
            label = field if isinstance(field, str) else None
        return self.of_label(label)

    def of_label(self, label: str | None) -> Mapping[str, float]:
        """Select the adapters for a label; `otherwise` for None and for unknown labels."""
        return self.otherwise if label is None else self.labels.get(label, self.otherwise)


@dataclass(frozen=True)
class Routed(Displayed):
    """The result of `write_route`: the folder, the route and its adapters.

    Attributes:
        comparison: a table of each adapter alone and of the route on test items, if asked for; its
            first row is the header.
        notes: messages for the user about the comparison.
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
        """Show the folder and the comparison."""
        return [str(self.path), *comparison_shown(self.comparison, self.notes)]


class RoutedPredictor:
    """A predictor that uses the adapters that the route selects for each row.

    If the route says "none", all adapters are off and the answer equals the base's bit by bit.

    Args:
        predictor: a predictor with the route's adapters loaded under their names.
        route: the route.
    """

    def __init__(self, predictor: Predictor, route: Route) -> None:
        self.predictor = predictor
        self.route = route
        self.fingerprint = hash_json([predictor.fingerprint, route.model_dump()])

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """Predict each request, in order; the route replaces the adapters that requests name."""
        chosen = [replace(each, adapters=self.route.choose(each.row)) for each in requests]
        return self.predictor.predict(chosen)


def read_route_file(path: Path) -> RouteFile:
    """Read a route that a user wrote.

    Raises:
        ConfigError: the file can't be read, or a setting is wrong; the message names it.
    """
    if not path.is_file():
        raise ConfigError(f"no such file: {path}", "give the file of a route: --route route.yaml")
    try:
        return RouteFile.model_validate(read_yaml(path), strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][:2]))
        raise ConfigError(
            f"{path}: {where}: {first['msg']}",
            "write it like this: by: accent; labels: {scottish: runs/A, "
            "indian: {runs/A: 0.5, runs/B: 1}, us: none}; put quotes around a label such as 'no', "
            "which YAML reads as false",
        ) from None


def write_route(
    source: Path,
    out: Path,
    *,
    base: str | None = None,
    convert: Adopt | None = None,
) -> Routed:
    """Copy a route and its adapters into one folder: `gate.json` and `adapters/`.

    Args:
        source: a `RouteFile`, which names run folders or adapter folders.
        out: a folder that doesn't exist yet.
        base: the base model; None: the base that the cards name.
        convert: converts an adapter of another program for a base; None: there may be none.

    Raises:
        ConfigError: the file can't be read as a route, names no adapter, or `out` exists.
        AdapterError: an adapter is missing, or its base differs from the first adapter's.
    """
    given = read_route_file(source)
    root = source.parent
    wanted = {label: _weights(value, root) for label, value in given.labels.items()}
    otherwise = _weights(given.otherwise, root)
    paths = list(dict.fromkeys(path for each in (*wanted.values(), otherwise) for path in each))
    if not paths:
        raise ConfigError(
            f"{source} names no adapter", "name one for a label: labels: {scottish: runs/scottish}"
        )
    weights = dict.fromkeys(paths, 1.0)
    parts = read_members(own_forms(weights, base, convert) if convert else weights)
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
    with new_folder(out) as folder:
        for name, part in zip(names, parts, strict=True):
            _copy_adapter(part.folder, folder / "adapters" / name)
        text = with_format(route.model_dump_json(indent=2))
        write_text(folder / ROUTE_FILE, text + "\n")
    return Routed(out, route, parts)


def _copy_adapter(folder: Path, to: Path) -> None:
    """Copy an adapter's own files; a link to another file of this machine isn't followed."""
    to.mkdir(parents=True)
    for path in finished_files(folder.iterdir()):
        # The hub's cache links these to files elsewhere. They were read as what they are.
        loaded = path.name in LOADED or path.suffix == ".safetensors"
        if path.is_file() and (loaded or inside(folder, path) is not None):
            copy_file(path, to / path.name)


def _weights(value: str | Mapping[str, float] | None, root: Path) -> dict[Path, float]:
    if value is None or value == BASE_ALONE:
        return {}
    given = {value: 1.0} if isinstance(value, str) else value
    # A weight of 0 switches the adapter off, so that answers equal the base's bit by bit.
    return {
        (root / Path(path).expanduser()).resolve(): weight
        for path, weight in given.items()
        if weight
    }


def _names(parts: Sequence[Member]) -> list[str]:
    """Unique names for the adapters that can be folder names, taken from their cards."""
    names: list[str] = []
    for part in parts:
        names.append(unique_name(plain_name(part.card.name, "adapter"), names))
    return names


def read_route(folder: Path) -> tuple[Route, dict[str, Path]]:
    """Read a route folder: the route, and the adapter folders by name.

    Raises:
        AdapterError: the route can't be read, or an adapter is missing.
    """
    path, cure = folder / ROUTE_FILE, "make the route again with mmtune compose --route"
    try:
        values = without_format(read_json_object(path, cure, AdapterError), path)
    except FileNotFoundError:
        raise AdapterError(
            f"{folder} holds no {ROUTE_FILE}", "make the route with mmtune compose --route"
        ) from None
    with damaged(path, cure, AdapterError):
        route = Route.model_validate(values)
    used = dict.fromkeys(
        name for each in (*route.labels.values(), route.otherwise) for name in each
    )
    adapters = {name: folder / "adapters" / name for name in used}
    for name, place in adapters.items():
        if not place.is_dir() or Path(name).name != name:
            raise AdapterError(
                f"{folder}: the adapter adapters/{name} is missing",
                "copy it there, or make the route again with mmtune compose --route",
            )
    return route, adapters


def is_route(folder: Path) -> bool:
    """Whether a folder is a route folder, which `write_route` writes."""
    return (folder / ROUTE_FILE).is_file()
