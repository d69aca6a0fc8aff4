"""Which setting a name means: full and short names, names of other programs, and near ones."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mmtune.errors import ConfigError, did_you_mean
from mmtune.settings.foreign_names import BY_NAME

# Short names that aren't the last part of a name. `--steps` is always the length of the training,
# also where a kind of data has steps of its own (`--task.steps`).
SHORT_NAMES = {
    "data": "data.path",
    "batch": "train.batch_size",
    "steps": "train.max_steps",
    "brand": "task.brand_guide",  # as `mmtune check` and `mmtune generate` have it
}


def resolve(key: str, known: Collection[str], source: str = "") -> str:
    """The setting that a name means.

    Args:
        key: a full name ("train.lr"), a short one ("data"), the end of a single name ("lr"), or
            another program's ("learning_rate", also in its section: "train.learning_rate");
            dashes count as underscores.
        known: full names of all settings.
        source: what an error should name first (a file).

    Raises:
        ConfigError: the name is unknown (with the three nearest), is the end of several, is a
            section, or is another program's for what mmtune does otherwise (with the answer).
    """
    wanted, where = key.replace("-", "_"), f"{source}: " if source else ""
    if wanted in known:
        return wanted
    section, _, last = wanted.rpartition(".")
    for short in (wanted, last):
        ours = SHORT_NAMES.get(short)
        if ours is not None and ours in known and _inside(ours, section):
            return ours
    if wanted in sections(known):
        inner = [name for name in known if name.startswith(f"{wanted}.")]
        raise ConfigError(
            f"{where}{key!r} is a section with settings of its own",
            f"give one of them by its full name, for example {inner[0]}",
        )
    ends = [name for name in known if name.endswith(f".{wanted}")]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ConfigError(
            f"{where}setting {key!r} is ambiguous", "use one of " + ", ".join(sorted(ends))
        )
    other = BY_NAME.get(last)
    if other is not None and not other.ours:
        programs = " and ".join(other.programs)
        raise ConfigError(f"{where}{key!r} is a setting of {programs}, not of mmtune", other.answer)
    if other is not None and other.ours not in known:
        raise ConfigError(
            f"{where}{key!r} is {other.ours} in mmtune, which this recipe doesn't have",
            "leave it out",
        )
    if other is not None and _inside(other.ours, section):
        return other.ours
    meant = {name: each.ours for name, each in BY_NAME.items()} | SHORT_NAMES
    spellings = {name: ours for name, ours in meant.items() if ours in known}
    hint = did_you_mean(wanted, [*known, *sorted(sections(known))], spellings)
    raise ConfigError(
        f"{where}unknown setting {key!r}",
        f"{hint} `mmtune train RECIPE --help` explains all settings",
    )


def translated(key: str, value: Any) -> Any:
    """A value given under another program's name, as mmtune writes it."""
    other = BY_NAME.get(key.replace("-", "_").rpartition(".")[2])
    return other.values.get(value, value) if other and isinstance(value, str) else value


def sections(known: Collection[str]) -> set[str]:
    """Names of the sections that settings are in, such as "train"."""
    found = set()
    for name in known:
        while "." in name:
            name = name.rpartition(".")[0]
            found.add(name)
    return found


def _inside(name: str, section: str) -> bool:
    return not section or name.startswith(f"{section}.")
