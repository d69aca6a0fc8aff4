"""The forbidden words of a brand's guide, which an adapter carries in its folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mmtune.config import as_yaml
from mmtune.image.brand.brand_guide import BrandGuide, read_guide
from mmtune.system.files import write_text
from mmtune.system.stored import is_file

GUIDE_FILE = "brand.yaml"  # in an adapter's folder: a guide of the forbidden words alone


def write_words(guide: BrandGuide, folder: Path) -> None:
    """Write a guide's forbidden words into an adapter's folder; nothing if there are none."""
    if guide.forbidden_words:
        values = {"brand": guide.brand, "forbidden_words": list(guide.forbidden_words)}
        write_text(folder / GUIDE_FILE, as_yaml(values))


def words_of(guide: Path | None, adapters: Iterable[Path]) -> dict[Path, tuple[str, ...]]:
    """The words that prompts may not have, by the guide that forbids them.

    Args:
        guide: the user's guide, which replaces those of the adapters; None: theirs count.
        adapters: folders of the adapters.

    Raises:
        ConfigError: a guide can't be read.
    """
    if guide is not None:
        return {guide: read_guide(guide).forbidden_words}
    carried = [folder / GUIDE_FILE for folder in dict.fromkeys(adapters)]
    return {path: read_guide(path).forbidden_words for path in carried if is_file(path)}
