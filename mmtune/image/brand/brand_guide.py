"""`brand.yaml`, a brand's guide: colours, grounds, words, things, trigger, references, notes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_origin

import numpy as np
from PIL import ImageColor
from pydantic import ValidationError, ValidationInfo, field_validator, model_validator

from mmtune.config import Section, leaves, read_yaml
from mmtune.errors import ConfigError, did_you_mean, shortened
from mmtune.image.brand.forbidden_words import find_words
from mmtune.metrics.image.palette import Colours
from mmtune.settings.declare import setting
from mmtune.settings.reading import typed
from mmtune.settings.yaml_text import line_of
from mmtune.system.stored import is_file

TRANSPARENT = "transparent"
DOCS = "docs/brand-guide.md explains the keys"
_HEX = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
FOLDER = "folder"  # key of the validation's context: the folder that relative paths start from


class _ItemError(ValueError):
    """An item of a list or mapping is wrong; `place` is its number from 0."""

    def __init__(self, place: int, found: str) -> None:
        super().__init__(found)
        self.place = place


@contextmanager
def _item(place: int) -> Iterator[None]:
    """Give a `ValueError` the number of the item that it is about."""
    try:
        yield
    except ValueError as error:
        raise _ItemError(place, str(error)) from None


class BrandGuide(Section):
    """What pictures of a brand must keep."""

    brand: str = setting("", "Name of the brand, for headings.")
    palette: dict[str, str] = setting(
        {},
        'Colours that pictures may have, by name: `sun: "#FCEA2B"`. The grounds\' colours are '
        "permitted, too. Without a palette any colour is.",
    )
    tolerance: float = setting(
        5.0,
        "Difference up to which a colour counts as one of the palette or as a permitted ground.",
        unit="CIEDE2000",
        why="People see a difference of 5 side by side, but not between separate pictures.",
        gt=0,
        le=100,
    )
    off_palette: float = setting(
        0.02,
        "Share of a picture that may have other colours.",
        unit="share of the area",
        why="Room for noise and for what compression does at edges. The ink of line icons is a few "
        "per cent of the area: they need less.",
        ge=0,
        lt=1,
    )
    grounds: tuple[str, ...] = setting(
        (),
        "What may be behind the subject: names of the palette, white, transparent, other colour "
        "names of CSS, or #rrggbb. Empty: anything.",
    )
    forbidden_words: tuple[str, ...] = setting(
        (), "Words and phrases that no caption or prompt may have, in any case of letters."
    )
    forbidden_things: tuple[str, ...] = setting(
        (),
        "Things that no picture may show, in the words of a caption: a gun, text. Only the report "
        "can judge them, by the model of task.clip_model.",
    )
    trigger: str = setting("", "Phrase that each caption must have.")
    references: tuple[Path, ...] = setting(
        (),
        "Pictures that show what the brand looks like; paths start from the guide's folder. They "
        "must not be held-out pictures, on which the result is measured.",
    )
    notes: str = setting("", "Anything else; it is shown to people and judges nothing.")

    @field_validator("palette", mode="before")
    @classmethod
    def _colours(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            raise ValueError('write a line for each colour, with its name: sun: "#FCEA2B"')
        found: dict[str, str] = {}
        for place, (name, value) in enumerate(given.items()):
            with _item(place):
                key = " ".join(_text(name, "a colour's name").split())
                if key.casefold() in {each.casefold() for each in found}:
                    raise ValueError(f"two colours are called {key!r}; give each its own name")
                if not key or key.casefold() == TRANSPARENT:
                    raise ValueError(f"{key!r} can't be a colour's name; transparent is a ground")
                found[key] = normal_hex(key, value)
        return found

    @field_validator("grounds")
    @classmethod
    def _known_grounds(cls, grounds: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        palette = info.data.get("palette")
        if palette is None:
            return grounds
        known = []
        for place, each in enumerate(grounds):
            with _item(place):
                known.append(_ground(each, palette))
        return tuple(known)

    @field_validator("forbidden_words", "forbidden_things")
    @classmethod
    def _phrases(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        words = [" ".join(each.split()) for each in given]
        for place, each in enumerate(words):
            with _item(place):
                _require_letter(each)
        return tuple(dict.fromkeys(words))

    @field_validator("trigger", "brand")
    @classmethod
    def _one_line(cls, phrase: str, info: ValidationInfo) -> str:
        if phrase.strip() and info.field_name == "trigger":
            _require_letter(phrase)
        return " ".join(phrase.split()).strip(" ,")

    @field_validator("references")
    @classmethod
    def _from_the_guide(cls, given: tuple[Path, ...], info: ValidationInfo) -> tuple[Path, ...]:
        folder = Path((info.context or {}).get(FOLDER, "."))
        return tuple(folder / path.expanduser() for path in given)

    @model_validator(mode="after")
    def _no_contradiction(self) -> BrandGuide:
        for word in find_words(self.trigger, self.forbidden_words):
            raise ValueError(f"the trigger {self.trigger!r} has the forbidden word {word!r}")
        if not self.model_fields_set - {"brand", "notes", "tolerance", "off_palette"}:
            raise ValueError("the guide has no rule; give it a palette, for example")
        return self

    def ground_colours(self, background: str) -> dict[str, str]:
        """The permitted grounds as `#RRGGBB` by name; `transparent` has the background's colour."""
        return {
            name: normal_hex(name, background)
            if name == TRANSPARENT
            else colour_of(name, self.palette)
            for name in self.grounds
        }


def read_guide(path: Path) -> BrandGuide:
    """Read and validate a brand's guide.

    Raises:
        ConfigError: the file is missing or isn't YAML, or a key or value is wrong; the error names
            the file, line and key.
    """
    if not is_file(path):
        raise ConfigError(
            f"no such brand guide: {path}",
            f"name its file: --brand FILE (of train and evaluate, null means none); {DOCS}",
        )
    values = read_yaml(path)
    known = leaves(BrandGuide)
    for key in values:
        if key not in known:
            raise ConfigError(
                f"{_place(path, [key])}: unknown key {key!r}",
                f"{did_you_mean(key, known)} {DOCS}",
            )
    read: dict[str, Any] = {}
    for key, value in values.items():
        if value is None:  # `notes:` with nothing behind it
            continue
        try:
            _require_encodable(value)
            read[key] = _as_given(typed(value, known[key]), known[key])
        except ValueError as error:
            raise _wrong(path, [key], value, str(error), error) from None
    try:
        return BrandGuide.model_validate(read, context={FOLDER: path.parent})
    except ValidationError as error:
        first = error.errors()[0]
        keys = [each for each in first["loc"] if isinstance(each, str)][:1]
        cause = first.get("ctx", {}).get("error")
        raise _wrong(path, keys, first["input"], first["msg"], cause) from None


def normal_hex(name: str, value: Any) -> str:
    """Write a colour as `#RRGGBB`.

    Args:
        name: what an error should call it.
        value: a text with three or six hexadecimal digits.

    Raises:
        ValueError: it is anything else; YAML reads `#FCEA2B` without quotation marks as a comment,
            and `000000` as a number.
    """
    cure = f'write six hexadecimal digits in quotation marks: {name}: "#FCEA2B"'
    if value is None:
        raise ValueError(f"the colour {name!r} is empty: without quotes # begins a comment; {cure}")
    match = _HEX.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"the colour {name!r} is {value!r}; {cure}")
    digits = match[1] if len(match[1]) == 6 else "".join(2 * digit for digit in match[1])
    return f"#{digits.upper()}"


def colour_of(ground: str, palette: Mapping[str, str]) -> str:
    """The `#RRGGBB` of a ground: of a palette colour's name, a CSS name or a hexadecimal text."""
    if ground in palette:
        return palette[ground]
    red, green, blue, *_ = ImageColor.getrgb(ground)  # a name of CSS, or #RRGGBB already
    return f"#{red:02X}{green:02X}{blue:02X}"


def rgb_of(colours: Sequence[str]) -> Colours:
    """Colours written as `#RRGGBB`, as sRGB from 0 to 255, [colours, 3], each once."""
    distinct = dict.fromkeys(colours)
    return np.array([ImageColor.getrgb(each) for each in distinct], dtype=np.float64)


def _require_letter(phrase: str) -> None:
    """Refuse a phrase that has nothing to look for: hyphens and underscores only join words."""
    if not re.search(r"[^\W_]", phrase):
        raise ValueError(f"{phrase!r} has no letter or digit")


def _ground(given: str, palette: Mapping[str, str]) -> str:
    """A ground by its name as the palette writes it."""
    name = " ".join(given.split())
    own = {each.casefold(): each for each in palette} | {TRANSPARENT: TRANSPARENT}
    if name.casefold() in own:
        return own[name.casefold()]
    if _HEX.fullmatch(name):
        return normal_hex(name, name)
    if name.casefold() not in ImageColor.colormap:
        known = [*palette, "white", TRANSPARENT]
        raise ValueError(f"{given!r} is no ground: {did_you_mean(name, known)}")
    return name.casefold()


def _as_given(value: Any, kind: Any) -> Any:
    """Texts for the settings that are texts: YAML reads 2024 as a number and `no` as false."""
    if kind is str:
        return _text(value, "the value")
    if get_origin(kind) is not tuple:
        return value
    if not isinstance(value, list | tuple):
        raise ValueError("it is a list: [a, b], or a line `- a` for each")
    texts = []
    for place, each in enumerate(value):
        with _item(place):
            texts.append(_text(each, f"value {place + 1}"))
    return tuple(texts)


def _require_encodable(value: Any) -> None:
    """Refuse halves of surrogate pairs (`"\\uD800"` in YAML), which no page could hold."""
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError("it has half of a surrogate pair, which is no character")
    if isinstance(value, Mapping):
        value = [each for pair in value.items() for each in pair]
    if isinstance(value, list | tuple):
        for each in value:
            _require_encodable(each)


def _text(value: Any, what: str) -> str:
    if isinstance(value, bool):
        raise ValueError(f"{what} is {value}; YAML reads yes, no, on and off so: put it in quotes")
    if value is None:
        raise ValueError(f"{what} is empty: put a text with # or ~ in quotes, or remove it")
    if not isinstance(value, str | int | float):
        raise ValueError(f"{what} is {shortened(repr(value))}, not a text")
    return str(value)


def _wrong(
    path: Path, keys: Sequence[str], value: Any, found: str, cause: object = None
) -> ConfigError:
    inner = [cause.place] if isinstance(cause, _ItemError) else []
    place = _place(path, [*keys, *inner])
    found = found.removeprefix("Value error, ")
    if not keys:
        return ConfigError(f"{place}: {found}", f"correct the guide; {DOCS}")
    shown = f" = {value!r}" if isinstance(value, str | int | float) else ""
    return ConfigError(f"{place}: {keys[0]}{shortened(shown)}: {found}", f"correct it; {DOCS}")


def _place(path: Path, keys: Sequence[str | int]) -> str:
    """The file, and the number of the line of a key or of an item in its value."""
    number = line_of(path.read_text(encoding="utf-8"), keys)
    return f"{path}, line {number}" if number is not None else str(path)
