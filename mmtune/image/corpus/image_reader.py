"""The reader of image data: finds rows in folders, and checks them. It loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmtune.config import Section
from mmtune.data.ledger import Guess, Used
from mmtune.data.rows import Finding, Inspection, Row
from mmtune.data.rule_result import RuleResult
from mmtune.errors import ConfigError
from mmtune.image.image_options import ImageOptions
from mmtune.image.image_row import ImageRow


class ImageReader:
    """Finds and checks image rows; implements `mmtune.data.reader.Reader`."""

    name = "image"
    row: type[Row] = ImageRow

    def scan(self, folder: Path) -> Iterator[dict[str, Any] | Finding | Used | Guess]:
        """List the images of a folder as rows, see `mmtune.image.corpus.folders.scan`."""
        from mmtune.image.corpus import folders

        return folders.scan(folder)

    def inspect(self, row: Row) -> Inspection:
        """Decode one image and check it, see `mmtune.image.corpus.check_picture.inspect`."""
        from mmtune.image.corpus import check_picture

        return check_picture.inspect(row)

    def check_rows(
        self,
        rows: Sequence[Row],
        terms: Path | None = None,
        *,
        seen: Sequence[Inspection] = (),
        base: str | None = None,
        settings: Section | None = None,
    ) -> list[Finding]:
        """Check all rows together, and against the base if one is given.

        See `mmtune.image.corpus.check_picture.check_rows`.

        Raises:
            ConfigError: a term list is given.
            BaseModelError: the base can't be read.
        """
        from mmtune.image.corpus import check_picture

        if terms is not None:
            raise ConfigError(
                "--terms is for speech: images have no term list", "leave out --terms"
            )

        options = settings if isinstance(settings, ImageOptions) else ImageOptions()
        return check_picture.check_rows(
            rows, seen, base, options.resolution, options.trigger, options.background
        )

    def judge_rules(self, rows: Sequence[Row], settings: Section | None = None) -> list[RuleResult]:
        """Judge rows by the brand's guide, see `mmtune.image.brand.rules_of_data.judge_data`.

        Raises:
            ConfigError: the guide can't be read.
        """
        if not isinstance(settings, ImageOptions) or settings.brand_guide is None:
            return []
        from mmtune.image.brand.brand_guide import read_guide
        from mmtune.image.brand.rules_of_data import judge_data

        guide = read_guide(settings.brand_guide)
        return judge_data(guide, rows, settings.trigger, settings.background)


READER = ImageReader()
