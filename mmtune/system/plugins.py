"""Registration: what is built in, what installed packages add, and what a program adds itself.

A third-party package names its additions in the entry points of its metadata (PyPA, "Entry points
specification"). Names are listed from the metadata; code is imported when a name is used.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from mmtune.errors import ConfigError, MmtuneError, did_you_mean, first_line

T = TypeVar("T")


class PluginError(MmtuneError):
    """A third-party package that can't be used; the message names it."""


class Registry(Mapping[str, T], Generic[T]):
    """Values by name: those that are built in first, then those of installed packages.

    Looking a name up imports what it stands for; listing names imports nothing.

    Args:
        kind: what an error calls one of the values, such as "modality".
        group: the group of entry points by which packages add theirs.
        built_in: values, or where they are defined: "package.module:attribute".
    """

    def __init__(self, kind: str, group: str, built_in: Mapping[str, T | str]) -> None:
        self.kind, self.group, self.built_in = kind, group, built_in
        self._added: dict[str, T] = {}

    def add(self, name: str, value: T) -> None:
        """Register a value for the rest of this process.

        Raises:
            ConfigError: the name is taken.
        """
        if name in self:
            raise ConfigError(f"{self.kind} {name!r} is registered already", "choose another name")
        self._added[name] = value

    def remove(self, name: str) -> None:
        """Take back what `add` registered."""
        del self._added[name]

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys((*self.built_in, *self.third_party()))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in list(self)

    def third_party(self) -> list[str]:
        """Names that aren't built in: of installed packages, and those that `add` registered."""
        found = {entry.name for entry in _entries(self.group, tuple(sys.path))}
        return [*sorted(found - set(self.built_in)), *self._added]

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise KeyError(name)
        return self.find(name)

    def find(self, name: str, source: str = "") -> T:
        """The value called `name`.

        Args:
            source: the file or setting that names it, for the error.

        Raises:
            ConfigError: there is none of that name.
            PluginError: a package adds it that can't be loaded, or two packages add it.
        """
        entries = [e for e in _entries(self.group, tuple(sys.path)) if e.name == name]
        if name in self.built_in:
            if entries:
                _warn(
                    f"{_packages(entries)} adds a {self.kind} {name!r}, which mmtune has built in: "
                    "mmtune's is used"
                )
            value = self.built_in[name]
            return _imported(value) if isinstance(value, str) else value
        if name in self._added:
            return self._added[name]
        if not entries:
            where = f"{source}: " if source else ""
            raise ConfigError(f"{where}unknown {self.kind} {name!r}", did_you_mean(name, self))
        if len(entries) > 1:
            raise PluginError(
                f"the {self.kind} {name!r} is added by {_packages(entries)}",
                "pip uninstall one of them",
            )
        return self._load(entries[0])

    def _load(self, entry: EntryPoint) -> T:
        try:
            value: T = entry.load()
        except Exception as error:  # whatever other people's code raises when it is imported
            raise PluginError(
                f"the {self.kind} {entry.name!r} of the package {_packages([entry])} can't be "
                f"loaded: {type(error).__name__}: {first_line(error)}",
                f"update it, or remove it: pip uninstall {_packages([entry]).split(' ')[0]}",
            ) from error
        return value

    def usable(self, *, third_party: bool = False) -> Iterator[tuple[str, T]]:
        """Each name with its value; a package that can't be used is left out with a warning.

        Args:
            third_party: only what isn't built in.
        """
        for name in self.third_party() if third_party else self:
            try:
                value = self.find(name)
            except PluginError as error:
                _warn(str(error))
            else:
                yield name, value


@lru_cache
def _entries(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Entry points of a group; `path` is where packages are looked for."""
    return tuple(entry_points(group=group))


def _packages(entries: list[EntryPoint]) -> str:
    names = (f"{e.dist.name} {e.dist.version}" if e.dist else e.value for e in entries)
    return " and ".join(sorted(names))


def import_named(target: str, source: str) -> Any:
    """Import what a user names as "package.module:attribute".

    Args:
        target: the name.
        source: the file or setting that names it, for the error.

    Raises:
        PluginError: the module can't be imported.
        ConfigError: it has no such attribute.
    """
    module = target.partition(":")[0]
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever other people's code raises when it is imported
        raise PluginError(
            f"{source}: {module!r} can't be imported: {type(error).__name__}: {first_line(error)}",
            "install its package, or name its folder in the environment: PYTHONPATH=FOLDER",
        ) from error
    try:
        return _imported(target)
    except AttributeError:
        names = [key for key, value in vars(found).items() if callable(value)]
        attribute = target.partition(":")[2]
        raise ConfigError(
            f"{source}: {module} has no {attribute!r}", did_you_mean(attribute, names)
        ) from None


def _imported(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=3)
