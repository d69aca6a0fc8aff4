"""Filters of content: which pictures nobody should see. Users bring them; none comes with mmtune.

`task.image_filter` names one: a function of an installed module (`package.module:function`), a
plugin (entry points `mmtune.image_filters`), or Stable Diffusion's safety checker, by folder or
hub id.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from mmtune.errors import ConfigError, did_you_mean, first_line
from mmtune.system.base_name import is_hub_id
from mmtune.system.hashing import hash_file
from mmtune.system.plugins import PluginError, Registry, import_named

if TYPE_CHECKING:
    import torch

SETTING = "task.image_filter"
GROUP = "mmtune.image_filters"
FILTERS: Registry[Callable[..., Any] | type] = Registry("image filter", GROUP, {})
FILTER_BATCH = 32  # images that a filter gets at once
SHOWN_HASH = 12  # letters of a hash in a filter's identity
WITHOUT = "correct it, name another, or do without: --image_filter null"


@dataclass(frozen=True)
class ContentFilter:
    """A filter that is loaded.

    Attributes:
        name: as `task.image_filter` gives it.
        identity: name, version and hash of its code or weights, for the stored comparison.
        judge: the filter itself.
    """

    name: str
    identity: str
    judge: Callable[..., Any]

    def refused(self, images: Sequence[Image], prompts: Sequence[str]) -> list[bool]:
        """Ask for each image whether the filter refuses it.

        Args:
            images: the images; the filter gets copies.
            prompts: the prompt of each, which a filter gets that has a parameter `prompts`.

        Raises:
            PluginError: the filter fails, or its answers can't be understood.
        """
        found: list[bool] = []
        for start in range(0, len(images), FILTER_BATCH):
            some = [image.copy() for image in images[start : start + FILTER_BATCH]]
            texts = list(prompts[start : start + FILTER_BATCH])
            more = {"prompts": texts} if _takes_prompts(self.judge) else {}
            try:
                answers = list(self.judge(some, **more))
            except Exception as error:  # whatever other people's code raises
                raise PluginError(
                    f"{SETTING}: the filter {self.name} failed on {len(some)} images: "
                    f"{type(error).__name__}: {first_line(error)}",
                    WITHOUT,
                ) from error
            if len(answers) != len(some):
                raise PluginError(
                    f"{SETTING}: the filter {self.name} gave {len(answers)} answers for "
                    f"{len(some)} images",
                    "return one answer for each image, in their order",
                )
            found += [self._answer(answer) for answer in answers]
        return found

    def _answer(self, given: Any) -> bool:
        """True or False as they are; a number against the filter's `threshold`."""
        value = given.item() if hasattr(given, "item") else given
        if isinstance(value, bool):
            return value
        if not isinstance(value, int | float) or math.isnan(value):
            raise PluginError(
                f"{SETTING}: the filter {self.name} answered {str(given)[:60]!r} for an image",
                "return True for an image that is refused, else False; or a number",
            )
        threshold = getattr(self.judge, "threshold", None)
        if not isinstance(threshold, int | float):
            raise PluginError(
                f"{SETTING}: the filter {self.name} answered {value:g}, and has no threshold",
                "give the function an attribute `threshold`, from which on images are refused; "
                "or return True and False",
            )
        return value >= threshold


def load_filter(name: str, device: torch.device) -> ContentFilter:
    """Load a filter of content.

    Args:
        name: `task.image_filter`: package.module:function, a plugin's name, or the folder or hub id
            of a safety checker.
        device: device of a safety checker.

    Raises:
        ConfigError: there is no such filter.
        PluginError: its code can't be used.
        BaseModelError: the safety checker can't be loaded.
    """
    if Path(name).expanduser().is_dir() or is_hub_id(name):
        from mmtune.image.looks.safety_checker import SafetyChecker

        checker = SafetyChecker(name, device)
        return ContentFilter(name, checker.identity, checker)
    if ":" in name:
        return _made(name, import_named(name, SETTING))
    if name not in FILTERS:
        known = [*FILTERS, "package.module:function", "a safety checker's folder or hub id"]
        raise ConfigError(f"{SETTING}: unknown image filter {name!r}", did_you_mean(name, known))
    return _made(name, FILTERS.find(name, SETTING))


def _made(name: str, target: Any) -> ContentFilter:
    """Make a filter of a function, or of a class that needs no arguments."""
    try:
        judge = target() if isinstance(target, type) else target
    except Exception as error:  # whatever other people's code raises
        raise PluginError(
            f"{SETTING}: the filter {name} can't be made: {type(error).__name__}: "
            f"{first_line(error)}",
            WITHOUT,
        ) from error
    if not callable(judge):
        raise PluginError(
            f"{SETTING}: {name} is a {type(judge).__name__}, which can't be called",
            "name a function that takes a list of images",
        )
    return ContentFilter(name, ", ".join([name, *_version(name, target, judge)]), judge)


def _version(name: str, target: Any, judge: Any) -> list[str]:
    """What tells one version of a filter's code from another."""
    found = []
    if (version := getattr(judge, "version", None)) is not None:
        found.append(f"version {version}")
    found += [
        f"{entry.dist.name} {entry.dist.version}"
        for entry in entry_points(group=GROUP)
        if entry.name == name and entry.dist is not None
    ]
    if (source := _source(target) or _source(type(judge))) is not None:
        found.append(f"code {hash_file(source)[:SHOWN_HASH]}")
    return found


def _source(target: Any) -> Path | None:
    """The file that defines a function or class; None if it isn't of Python."""
    try:
        source = inspect.getsourcefile(target)
    except TypeError:
        return None
    return Path(source) if source is not None and Path(source).is_file() else None


def _takes_prompts(judge: Callable[..., Any]) -> bool:
    try:
        return "prompts" in inspect.signature(judge).parameters
    except (TypeError, ValueError):  # a function of C without a signature
        return False
