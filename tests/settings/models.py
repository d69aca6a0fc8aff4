"""All settings of all models, for tests."""

from __future__ import annotations

from mmtune.config import RunConfig
from mmtune.runs.modalities import find_modality, modality_names
from mmtune.settings.declare import Setting, settings_of


def of_modality(name: str) -> list[Setting]:
    """The settings of a run of a modality."""
    return [*settings_of(RunConfig), *settings_of(find_modality(name).options, "task.")]


ALL = {each.name: each for name in modality_names() for each in of_modality(name)}
