"""Write settings for people: the help of a recipe, and the page docs/settings.md."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Callable, Collection, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from mmtune.errors import ConfigError
from mmtune.settings.declare import Setting
from mmtune.settings.foreign_names import NAMES
from mmtune.settings.naming import SHORT_NAMES, resolve

_AFTERWARDS = "`mmtune evaluate` may set it too."
Sections = Sequence[tuple[str, str, list[Setting]]]
"""Name of a section, what it holds, and its settings; see `sections_of`."""
ORDER = ("data", "", "train", "lora", "report")  # of the sections; others follow
INDENT = 26  # columns of the help before a description


def help_of(sections: Sections, value_of: Callable[[str], Any], width: int) -> str:
    """All settings with their values, grouped; the common ones first.

    Args:
        sections: of the run and of its `task`.
        value_of: gives the value of a setting by full name.
        width: of a line, in characters.
    """
    sections = sorted(sections, key=_order)
    every = [each for _, _, settings in sections for each in settings]
    known = [each.name for each in every]
    groups = [("common settings", [each for each in every if each.common])]
    for name, purpose, settings in sections:
        rest = [each for each in settings if not each.common]
        title = f"{name}: {purpose[0].lower()}{purpose[1:]}" if name else purpose.lower()
        groups.append((title, rest))
    lines = []
    for title, settings in filter(itemgetter(1), groups):
        lines += ["", *textwrap.wrap(f"{title}:", width)]
        for each in settings:
            left = f"  --{short_name(each.name, known)} {shown(value_of(each.name))}"
            lines += _entry(left, f"{each.about} {_bracket(each)}".strip(), width)
    return "\n".join(lines[1:])


def page_of(run: Sections, tasks: Sequence[tuple[str, Sections]], command: str) -> str:
    """docs/settings.md: all settings in tables, and the names of other programs.

    Args:
        run: the sections that every recipe has.
        tasks: the sections of each modality's `task`, with a title.
        command: what writes the page again.
    """
    lines = [
        "# Settings",
        "",
        f"<!-- Written by `{command}` from the settings' models. Don't edit it. -->",
        "",
        _INTRODUCTION,
    ]
    for name, purpose, settings in sorted(run, key=_order):
        lines += _table(f"## `{name}`: {purpose}" if name else f"## {purpose}", settings)
    for title, sections in tasks:
        lines += ["", f"## {title}"]
        for name, purpose, settings in sections:
            lines += _table(f"### `{name}`: {purpose}", settings)
    lines += ["", "## Coming from transformers, PEFT, diffusers, kohya or Unsloth", ""]
    lines += [_TAKEN, "", "| there | in mmtune |", "|---|---|"]
    lines += _names(taken=True)
    lines += ["", _ANSWERED, "", "| there | what mmtune does instead |", "|---|---|"]
    lines += _names(taken=False)
    return "\n".join(lines) + "\n"


def short_name(name: str, known: Collection[str]) -> str:
    """The shortest name that means the setting `name`."""
    shorts = [short for short, meant in SHORT_NAMES.items() if meant == name]
    for short in (*shorts, name.rpartition(".")[2]):
        try:
            if resolve(short, known) == name:
                return short
        except ConfigError:
            continue
    return name


def shown(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, tuple | list):
        return shlex.quote(",".join(_word(each) for each in value)) if value else "[]"
    return shlex.quote(_word(value))


def _word(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return value.as_posix() if isinstance(value, Path) else str(value)


def _order(section: tuple[str, str, list[Setting]]) -> int:
    return ORDER.index(section[0]) if section[0] in ORDER else len(ORDER)


def _bracket(each: Setting) -> str:
    facts = "; ".join(part for part in (each.unit, each.limits) if part and part != "text")
    return f"[{facts}]" if facts else ""


def _entry(left: str, text: str, width: int) -> Iterator[str]:
    pad = " " * INDENT
    if len(left) + 2 > INDENT or not text:
        yield left
        left = ""
    yield from textwrap.wrap(
        text,
        width,
        initial_indent=left.ljust(INDENT),
        subsequent_indent=pad,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _table(title: str, settings: Sequence[Setting]) -> list[str]:
    lines = ["", title, "", "| setting | default | unit, range | what it does | why this default |"]
    lines.append("|---|---|---|---|---|")
    for each in settings:
        default = "must be set" if each.required else f"`{shown(each.default)}`"
        facts = "; ".join(part for part in (each.unit, each.limits) if part)
        about = f"{each.about} {_AFTERWARDS}" if each.measuring else each.about
        cells = (f"`{each.name}`", default, facts, about, each.why)
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return lines


def _names(taken: bool) -> Iterator[str]:
    # One row for all names that mean the same.
    rows: dict[str, list[str]] = {}
    for other in NAMES:
        if bool(other.ours) == taken:
            meant = f"`{other.ours}`" if taken else other.answer
            for theirs, value in other.values.items():
                meant += f"; `{theirs}` is `{shown(value)}`"
            there = f"`{other.name}` ({', '.join(other.programs)})"
            rows.setdefault(meant, []).append(there)
    for meant, names in rows.items():
        yield f"| {', '.join(names)} | {_cell(meant)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


_INTRODUCTION = """\
Each setting can be given in a recipe's YAML, on the command line and in Python:

```
mmtune train dialect --epochs 3 --lora.rank 8 --targets q_proj,v_proj
mmtune train dialect --help            # the settings of this recipe, with their values
mmtune train dialect --print-config    # the same as YAML, for a recipe file of your own
```

The full name always works (`train.lr`). The last part of a name works where it is unique (`lr`).
`data`, `batch` and `steps` are short for `data.path`, `train.batch_size` and `train.max_steps`.
Dashes and underscores are the same. A list is written as `a,b` or `[a, b]`; `null` means no value.

Later values win: the defaults, then the recipe, then what the recipe has under `bases` for the
base model, then the command line or Python. The tables have the defaults without a recipe."""
_TAKEN = """\
mmtune also takes these names, on the command line, in YAML and in Python. Names that are the same
in mmtune (`seed`, `weight_decay`, `gradient_checkpointing`, `resolution`) are not listed."""
_ANSWERED = """\
These names are errors that say what to give instead, because mmtune does something else:"""
