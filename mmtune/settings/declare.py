"""Declare a setting with its description, unit, range and the reason for its default."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo


def setting(
    default: Any,
    about: str,
    *,
    unit: str = "",
    why: str = "",
    common: bool = False,
    file: bool = False,
    harmless: str = "",
    measuring: bool = False,
    own_data: bool = False,
    code: bool = False,
    **limits: Any,
) -> Any:
    """A field of a settings model that explains itself.

    Args:
        default: its value where nobody sets it; `...` where it must be set.
        about: what it does, in plain English.
        unit: of a number: steps, rows, share, pixels.
        why: the reason for the default; "customary" or "not tuned" where nobody measured.
        common: whether the help shows it first.
        file: whether a text may name a file or folder; a `Path` always does.
        harmless: why a run isn't mixed if the contents of the named file change while it is
            interrupted. Without a reason the run folder records the contents' hash, and a run
            with other contents is refused.
        measuring: whether only the comparison needs it, so that `mmtune evaluate` may set it.
        own_data: whether it names data that is measured beside the run's own, and not where the
            adapter is measured on other data.
        code: whether it may name code to run; then an adapter's card can't set it.
        limits: pydantic's: `ge`, `gt`, `le`, `lt`, `min_length`, `pattern`.
    """
    facts: dict[str, Any] = {"unit": unit, "why": why, "common": common}
    facts |= {"file": file, "harmless": harmless, "measuring": measuring}
    facts |= {"own_data": own_data, "code": code}
    return Field(default, description=about, json_schema_extra=facts, **limits)


@dataclass(frozen=True)
class Setting:
    """One setting of a run, as its model declares it.

    Attributes:
        name: with its sections: "train.lr".
        kind: its type, as annotated.
        default: None where `required`.
        limits: its range or choices in words; may be empty.
        file: whether its value may name a file or folder.
        harmless: why a change of the file's contents doesn't matter to a run; may be empty.
        measuring: whether only the comparison of base and adapter needs it.
        own_data: whether it names data that is measured beside the run's own alone.
        code: whether it may name code to run.
    """

    name: str
    kind: Any
    default: Any
    required: bool
    about: str
    unit: str
    why: str
    common: bool
    limits: str
    file: bool
    harmless: str
    measuring: bool
    own_data: bool
    code: bool

    @property
    def section(self) -> str:
        """The part of the name before the last dot; empty for a setting of the run itself."""
        return self.name.rpartition(".")[0]


def settings_of(model: type[BaseModel], prefix: str = "") -> Iterator[Setting]:
    """All settings of a model and of the models in it, in their order.

    Args:
        prefix: put before each name, such as "task.".
    """
    for name, field in model.model_fields.items():
        inner = section_model(field)
        if inner is not None:
            yield from settings_of(inner, f"{prefix}{name}.")
        else:
            yield _described(f"{prefix}{name}", field)


def sections_of(
    model: type[BaseModel], prefix: str = ""
) -> Iterator[tuple[str, str, list[Setting]]]:
    """The sections of a model: name, what it holds, and its own settings without inner sections.

    Args:
        prefix: put before each name, such as "task."; "" stands for the run itself.
    """
    own = [each for each in settings_of(model, prefix) if each.section == prefix.rstrip(".")]
    if own:
        purpose = (inspect.getdoc(model) or "").split("\n\n")[0].replace("\n", " ")
        yield prefix.rstrip("."), purpose.rstrip("."), own
    for name, field in model.model_fields.items():
        inner = section_model(field)
        if inner is not None:
            yield from sections_of(inner, f"{prefix}{name}.")


def section_model(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a section of settings; None where the field is one setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def is_number(kind: Any) -> bool:
    """Whether a setting of this type is a number, may be one, or is a list of them."""
    return any(each in {int, float} for each in _plain(kind))


def _described(name: str, field: FieldInfo) -> Setting:
    facts = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    required = field.is_required()
    return Setting(
        name=name,
        kind=field.annotation,
        default=None if required else field.get_default(call_default_factory=True),
        required=required,
        about=field.description or "",
        unit=str(facts.get("unit", "")),
        why=str(facts.get("why", "")),
        common=bool(facts.get("common", False)),
        file=bool(facts.get("file", False)) or Path in _plain(field.annotation),
        harmless=str(facts.get("harmless", "")),
        measuring=bool(facts.get("measuring", False)),
        own_data=bool(facts.get("own_data", False)),
        code=bool(facts.get("code", False)),
        limits=_limits(field.annotation, field.metadata),
    )


def _plain(kind: Any) -> Iterator[Any]:
    # The types that an annotation is made of, without Annotated, Optional and tuple.
    origin = get_origin(kind)
    if origin is Annotated:
        yield from _plain(get_args(kind)[0])
    elif origin in {Union, UnionType, tuple, list}:
        for each in get_args(kind):
            yield from _plain(each)
    else:
        yield kind


def _limits(kind: Any, metadata: Sequence[Any]) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = [fact for each in inner[1:] for fact in getattr(each, "metadata", [each])]
        return _limits(inner[0], [*metadata, *found])
    if origin in {Union, UnionType}:
        parts = [_limits(each, metadata) for each in inner if each is not NoneType]
        parts += ["null"] if NoneType in inner else []
        parts = [part for part in parts if part]
        return (", or " if " or " in "".join(parts) else " or ").join(parts)
    if origin is tuple:
        each = _limits(inner[0], ())
        return (
            f"list of numbers {each}"
            if is_number(kind)
            else f"list of {each}".replace("list of text", "list of texts")
        )
    if origin is Literal:
        *first, last = map(str, inner)
        return f"{', '.join(first)} or {last}" if first else last
    if kind in {int, float}:
        return _range(metadata) or ("any whole number" if kind is int else "any number")
    return {bool: "true or false", Path: "path", str: "text"}.get(kind, "")


def _range(metadata: Sequence[Any]) -> str:
    bounds = {
        name: getattr(fact, name)
        for fact in metadata
        for name in ("ge", "gt", "le", "lt")
        if getattr(fact, name, None) is not None
    }
    said = {name: str(n) if isinstance(n, int) else f"{n:g}" for name, n in bounds.items()}
    low = said.get("ge", "")
    above = f"above {said['gt']}" if "gt" in said else ""
    high = said.get("le", "")
    below = f"below {said['lt']}" if "lt" in said else ""
    if low and (high or below):
        return f"{low} to {high or below}"
    if low:
        return f"{low} or more"
    return " and ".join(part for part in (above, below or (high and f"at most {high}")) if part)
