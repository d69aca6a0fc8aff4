"""Read results of gates that earlier versions stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmtune.evaluation.suite import without_patterns

# Findings ended with a setting's name, and held the patterns of slices.
_SETTING = re.compile(r"; ((?:set )?[a-z_]+\.[a-z_]+(?: sets the number)?)(?=[).]|$)")


def as_now(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a gate's result in today's form: the setting apart, and slices in words."""
    values = dict(stored)
    if "closing" in values:
        values["data_options"] = values.pop("closing")
    if "where" in values or not isinstance(finding := values.get("finding"), str):
        return values
    if (setting := _SETTING.search(finding)) is not None:
        values["setting"] = setting[1]
    values["finding"] = without_patterns(_SETTING.sub("", finding))
    return values
