"""Write docs/settings.md again, from the models of the settings: `make settings`."""

from __future__ import annotations

from pathlib import Path

from mmtune.config import RunConfig
from mmtune.runs.modalities import find_modality, modality_names
from mmtune.settings.declare import sections_of
from mmtune.settings.explain import page_of

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
COMMAND = "make settings"


def page() -> str:
    """The page's text."""
    tasks = [
        (f"{name.capitalize()} recipes", list(sections_of(find_modality(name).options, "task.")))
        for name in modality_names()
    ]
    return page_of(list(sections_of(RunConfig)), tasks, COMMAND)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
