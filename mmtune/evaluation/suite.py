"""Suites: the gates that an adapter must pass before it is shipped, as YAML (`eval/`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator

from mmtune.config import RunConfig, Section, as_yaml, read_yaml
from mmtune.errors import ConfigError, did_you_mean
from mmtune.system.resources import resource

Level = Literal["must", "should"]
Text = Annotated[str, Field(min_length=1)]


class Selector(Section):
    """Selects a measure of a comparison by metric and slice."""

    metric: Text
    slice: Text  # "general speech"; a gate's slice may be a pattern: "test, accent *"


class Gate(Selector):
    """Compares one end of a confidence interval with a threshold (`at_most` or `at_least`).

    `end` names the end. The upper or lower end demands evidence; `point` looks only at the value
    itself. With `times` the threshold is a multiple of the base's value ("base"), or of another
    reference of the measure ("real").
    """

    name: Text
    asks: Text  # a question in plain words, without metrics; "yes" is good
    of: Literal["difference", "adapter"] = "difference"
    end: Literal["lower", "point", "upper"] = "upper"
    at_most: float | None = None
    at_least: float | None = None
    times: Text | None = None
    level: Level = "must"
    min_items: Annotated[int, Field(ge=1)] = 10  # with fewer items there is not enough data
    # The value counts events per item. If there was no event, the bootstrap interval has zero
    # width, so 3 / items is its upper end.
    events: bool = False
    optional: bool = False  # left out if the measure is missing
    needs: Text | None = None  # the setting that must be on for the measure to exist
    items_from: Text | None = None  # the setting that sets the number of items
    several: bool = False  # that setting gives several items for each that it counts
    where: Text | None = None  # the slice in words, if it is a pattern
    # Options of `mmtune evaluate` that give the gate its data, as an example for readers. Suites
    # of earlier versions call them "closing".
    data_options: Annotated[
        Text | None, Field(validation_alias=AliasChoices("data_options", "closing"))
    ] = None

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("give either at_most or at_least")
        return self


class Suite(Section):
    """The gates for one kind of adapter.

    `main` lists measures that show whether the adapter helps; the first one in the comparison
    counts.
    """

    name: Text
    modality: Text
    main: Annotated[tuple[Selector, ...], Field(min_length=1)]
    gates: tuple[Gate, ...] = ()
    units: Text = "groups"  # what items belong to, by which intervals are made: "speakers"
    # What new test rows are, where they go into a folder of their own; empty: into the data.
    new_rows: str = ""

    @field_validator("gates")
    @classmethod
    def _names_differ(cls, gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
        names = [gate.name for gate in gates]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two gates are named {twice[0]!r}")
        return gates

    def dump(self) -> str:
        """Write the suite as YAML that `load_suite` can read, without `extends`."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return as_yaml(values, width=100)


class Extension(Section):
    """A suite that extends another one.

    Its own measures and gates come first, and a gate replaces the other suite's gate of the same
    name.
    """

    name: Text
    extends: Text  # a suite's name, or a .yaml file beside this one
    main: tuple[Selector, ...] = ()
    gates: tuple[Gate, ...] = ()
    units: Text | None = None
    new_rows: str | None = None

    def of(self, other: Suite) -> Suite:
        """Combine this extension with the suite that it extends."""
        names = {gate.name for gate in self.gates}
        main = (*self.main, *(one for one in other.main if one not in self.main))
        gates = (*self.gates, *(gate for gate in other.gates if gate.name not in names))
        return Suite(
            name=self.name,
            modality=other.modality,
            main=main,
            gates=gates,
            units=self.units or other.units,
            new_rows=other.new_rows if self.new_rows is None else self.new_rows,
        )


_PATTERN = re.compile(r"(, by|,|:)? ?\*")


def without_patterns(text: str) -> str:
    """Remove the wildcards from a pattern of slices.

    Examples:
        "WER on calls, *" becomes "WER on calls"; "test, by *" becomes "test".
    """
    return _PATTERN.sub("", text)


def suites() -> list[str]:
    """List the suites that come with mmtune."""
    return sorted(path.stem for path in resource("eval").glob("*.yaml"))


def suite_path(name_or_path: str) -> Path:
    """Return the file of a suite by its name; a path that ends in .yaml is returned unchanged.

    Raises:
        ConfigError: no suite has this name.
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
    """Read and validate a suite.

    Args:
        name_or_path: a suite's name, such as "terminology", or a .yaml file.
        modality: the modality that the suite must be for; None: any.
        settings: dotted names of the settings that gates may name; None: they aren't checked.

    Raises:
        ConfigError: the suite is missing, is for another modality, or has a wrong key or value.
    """
    path = suite_path(name_or_path)
    suite = _read_suite(path)
    if modality is not None and suite.modality != modality:
        raise ConfigError(
            f"{path} is a suite for {suite.modality}, but the run is for {modality}",
            f"choose another suite: --suite NAME, one of {', '.join(suites())}",
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


def _read_suite(path: Path, inner: tuple[Path, ...] = ()) -> Suite:
    """Read a suite with all that it extends; `inner` are the suites that extend it."""
    if path.resolve() in inner:
        chain = " extends ".join(str(one) for one in (*inner, path.resolve()))
        raise ConfigError(f"a suite extends itself: {chain}", "remove one `extends`")
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
    return suite.of(_read_suite(other, (*inner, path.resolve())))


def unmet(suite: Suite, config: RunConfig) -> Iterator[Gate]:
    """Yield the gates that will have no data, because the setting that they need is off."""
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
    where = _dotted(first["loc"]) or "the suite"
    if first["type"] == "extra_forbidden":
        inside: dict[str, type[Section]] = {"gates": Gate, "main": Selector}
        model = inside.get(place[0], whole) if len(place) > 1 else whole
        return ConfigError(
            f"{path}: unknown key {where!r}", did_you_mean(place[-1], list(model.model_fields))
        )
    if first["type"] == "missing":
        return ConfigError(
            f"{path}: {where!r} is missing", "add it; eval/README.md explains the keys"
        )
    found = first["input"]
    shown = f" = {found!r}" if isinstance(found, str | int | float | bool) else ""
    return ConfigError(f"{path}: {where}{shown}: {first['msg']}", "correct this value")


def _dotted(parts: tuple[str | int, ...]) -> str:
    """Format a key's path as `gates[2].metric`, counted from 1."""
    text = ""
    for part in parts:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
