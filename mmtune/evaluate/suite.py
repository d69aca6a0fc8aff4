"""Suites: what an adapter must show before it is shipped, as YAML (`eval/`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from mmtune.config import RunConfig, Section, read_yaml
from mmtune.errors import ConfigError, did_you_mean
from mmtune.system.resources import resource

Level = Literal["must", "should"]
Text = Annotated[str, Field(min_length=1)]


class Selector(Section):
    """One measure of a comparison."""

    metric: Text
    slice: Text  # "general speech"; of gates also a pattern: "test, accent *"


class Gate(Selector):
    """A bound on one end of one interval.

    `end` is what has to lie within the bound: an upper or lower end asks for evidence, `point` only
    for the figure itself. With `times` the bound is a multiple: of the base's figure ("base"), or
    of a reference of the measure ("real").
    """

    name: Text
    asks: Text  # a question that a reader who knows no metric understands; "yes" is good
    of: Literal["difference", "adapter"] = "difference"
    end: Literal["lower", "point", "upper"] = "upper"
    at_most: float | None = None
    at_least: float | None = None
    times: Text | None = None
    level: Level = "must"
    min_items: Annotated[int, Field(ge=1)] = 10  # fewer: not enough data, whatever they show
    # The figure counts events an item: where none was seen, a bootstrap has no width, and 3 / items
    # is the upper end.
    events: bool = False
    optional: bool = False  # asked only where it was measured
    needs: Text | None = None  # the setting without which it isn't measured
    items_from: Text | None = None  # the setting that says how many items there are

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("give either at_most or at_least")
        return self


class Suite(Section):
    """The gates of one kind of adapter.

    `main` is what shows that it helps: the first of these measures that the comparison has.
    """

    name: Text
    modality: Text
    main: Annotated[tuple[Selector, ...], Field(min_length=1)]
    gates: tuple[Gate, ...] = ()

    @field_validator("gates")
    @classmethod
    def _names_differ(cls, gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
        names = [gate.name for gate in gates]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two gates are called {twice[0]!r}")
        return gates

    def dump(self) -> str:
        """YAML that `load_suite` reads, whole by itself."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)


class Extension(Section):
    """A suite that takes over another's gates: its own come first, and replace those of one name.

    `main` are its own measures, before the other's.
    """

    name: Text
    extends: Text  # a suite's name, or a .yaml file beside this one
    main: tuple[Selector, ...] = ()
    gates: tuple[Gate, ...] = ()

    def of(self, other: Suite) -> Suite:
        """The whole suite."""
        names = {gate.name for gate in self.gates}
        main = (*self.main, *(one for one in other.main if one not in self.main))
        gates = (*self.gates, *(gate for gate in other.gates if gate.name not in names))
        return Suite(name=self.name, modality=other.modality, main=main, gates=gates)


def suites() -> list[str]:
    """Names of the suites that come with mmtune."""
    return sorted(path.stem for path in resource("eval").glob("*.yaml"))


def suite_path(name_or_path: str) -> Path:
    """The file of a suite by name, or the path itself if it ends in .yaml.

    Raises:
        ConfigError: no such suite, with the nearest name.
    """
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        return path
    if name_or_path in suites():
        return resource("eval", f"{name_or_path}.yaml")
    raise ConfigError(
        f"no suite {name_or_path!r}",
        f"{did_you_mean(name_or_path, suites())} (or give a .yaml file)",
    )


def load_suite(
    name_or_path: str, modality: str | None = None, settings: Sequence[str] | None = None
) -> Suite:
    """A suite, validated.

    Args:
        name_or_path: "terminology", or a .yaml file.
        modality: that it has to be for; None: any.
        settings: dotted names of the settings that its gates may name; None: not checked.

    Raises:
        ConfigError: it is missing, is for another modality, or a key or value is wrong.
    """
    path = suite_path(name_or_path)
    suite = _read(path)
    if modality is not None and suite.modality != modality:
        raise ConfigError(
            f"{path} is a suite for {suite.modality}, and the run is of {modality}",
            "name another: --suite NAME, of " + ", ".join(suites()),
        )
    if settings is None:
        return suite
    for gate in suite.gates:
        for named in {gate.needs, gate.items_from} - {None, *settings}:
            assert named is not None
            raise ConfigError(
                f"{path}: gate {gate.name!r} needs {named!r}, which is no setting of "
                f"{suite.modality}",
                did_you_mean(named.rsplit(".", 1)[-1], settings),
            )
    return suite


def _read(path: Path, inner: tuple[Path, ...] = ()) -> Suite:
    """The suite in `path`, with what it extends; `inner` are those that extend it."""
    if path.resolve() in inner:
        chain = " extends ".join(str(one) for one in (*inner, path.resolve()))
        raise ConfigError(f"a suite extends itself: {chain}", "take one `extends` out")
    values = read_yaml(path)
    model = Extension if "extends" in values else Suite
    try:
        suite = model.model_validate(values)
    except ValidationError as error:
        raise _explain(error, path, model) from None
    if isinstance(suite, Suite):
        return suite
    other = suite_path(suite.extends)
    if suite.extends not in suites():
        other = path.parent / other
    return suite.of(_read(other, (*inner, path.resolve())))


def unmet(suite: Suite, config: RunConfig) -> Iterator[Gate]:
    """Gates that will lack data, because the setting that they need is off."""
    for gate in suite.gates:
        if gate.needs is not None and not gate.optional:
            value: Any = config
            for part in gate.needs.split("."):
                value = getattr(value, part, None)
            if not value:
                yield gate


def _explain(error: ValidationError, path: Path, whole: type[Section]) -> ConfigError:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    where = _place(first["loc"]) or "the suite"
    if first["type"] == "extra_forbidden":
        inside: dict[str, type[Section]] = {"gates": Gate, "main": Selector}
        model = inside.get(place[0], whole) if len(place) > 1 else whole
        return ConfigError(
            f"{path}: unknown key {where!r}", did_you_mean(place[-1], list(model.model_fields))
        )
    if first["type"] == "missing":
        return ConfigError(f"{path}: {where!r} is missing", "add it; eval/README.md has the keys")
    found = first["input"]
    shown = f" = {found!r}" if isinstance(found, str | int | float | bool) else ""
    return ConfigError(f"{path}: {where}{shown}: {first['msg']}", "correct this value")


def _place(parts: tuple[str | int, ...]) -> str:
    """`gates[2].metric`, counted from 1 as people do."""
    text = ""
    for part in parts:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
