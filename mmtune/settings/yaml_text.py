"""Read YAML that a user wrote, within limits: no dates, no deep nesting, no bomb of aliases."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

MAX_DEPTH = 60  # nested lists and mappings
MAX_OPEN = 300  # brackets that are open at one place
MAX_NODES = 100_000  # values, with those that an alias repeats


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, without dates, and with a limit on what a text may expand to."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node, and count how deep it is.

        Raises:
            YAMLError: it is too deep.
        """
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested deeper than {MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> Any:
        """Compose the document, and count its values.

        Raises:
            YAMLError: aliases repeat too many values, or a value holds itself.
        """
        node = super().get_single_node()
        if node is not None:
            _size(node, {})
        return node


# A date such as 2024-01-31 is text: no setting is a date, and a name may look like one.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in each if not tag.endswith(":timestamp")]
    for first, each in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which loses three characters that end a line in YAML 1.1."""


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if {"\x85", "\u2028", "\u2029"} & set(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _quoted)


def dump_yaml(values: Any, width: int = 80) -> str:
    """Values as YAML that `load_yaml` reads back equal; keys keep their order."""
    return str(yaml.dump(values, None, _Dumper, sort_keys=False, allow_unicode=True, width=width))


def load_yaml(text: str) -> Any:
    """The value of a YAML text; a date stays text.

    Raises:
        YAMLError: it isn't YAML, it is nested too deeply, or its aliases repeat too much.
    """
    _require_closed(text)
    try:
        return yaml.load(text, _Loader)
    except (ValueError, TypeError, RecursionError) as error:  # such as a number of 5,000 digits
        raise yaml.YAMLError(str(error)) from None


def line_of(text: str, place: Sequence[str | int]) -> int | None:
    """The number of the line on which a value of a YAML text begins, or else what it is in.

    Args:
        text: what `load_yaml` reads.
        place: the way to the value: names of keys, and places in lists and mappings from 0.

    Returns:
        None if not even the first part of the way is there.
    """
    node, line = _Loader(text).get_single_node(), None
    for part in place:
        inner: Mapping[str | int, tuple[Any, Any]] = {}
        if isinstance(node, yaml.MappingNode):
            named = {key.value: (key, value) for key, value in node.value}
            inner = named if isinstance(part, str) else dict(enumerate(named.values()))
        elif isinstance(node, yaml.SequenceNode):
            inner = {i: (value, value) for i, value in enumerate(node.value)}
        if part not in inner:
            break
        found, node = inner[part]
        line = found.start_mark.line + 1
    return line


def _require_closed(text: str) -> None:
    # PyYAML takes time squared for brackets inside brackets before it composes the first. Brackets
    # in comments and texts count here too, so this limit is wider.
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_OPEN:
            raise yaml.YAMLError(f"it has more than {MAX_OPEN} open brackets")


def _size(node: Any, known: dict[int, int]) -> int:
    """Number of values in a node, with what its aliases repeat."""
    found = known.get(id(node), 0)
    if found < 0:
        raise yaml.YAMLError("a value holds itself")
    if not found:
        known[id(node)] = -1
        inner: list[Any] = []
        if isinstance(node, yaml.SequenceNode):
            inner = list(node.value)
        elif isinstance(node, yaml.MappingNode):
            inner = [each for pair in node.value for each in pair]
        found = known[id(node)] = 1 + sum(_size(each, known) for each in inner)
    if found > MAX_NODES:
        raise yaml.YAMLError(f"with its aliases it has more than {MAX_NODES:,} values")
    return found
