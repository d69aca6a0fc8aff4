"""What the shared parts need to know of a modality, gathered in one registered object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mmtune.config import RunConfig, Section
from mmtune.data.importing import Imported
from mmtune.data.rows import Finding, Inspection, Row

if TYPE_CHECKING:
    from mmtune.adapters.exported import Export, Exported
    from mmtune.adapters.members import Merge
    from mmtune.adapters.routing import Choose
    from mmtune.adapters.ways import Trial
    from mmtune.data.dataset import Dataset
    from mmtune.evaluate.comparison import Comparison
    from mmtune.predict import Predictor
    from mmtune.prefix.cache import PrefixCache
    from mmtune.prefix.features import Features
    from mmtune.train.task import Task


class Modality(Protocol):
    """One kind of data. Importing the module that defines it must not import torch."""

    name: str
    row: type[Row]
    options: type[Section]
    formats: Mapping[str, str]
    """Formats that an adapter can be exported in, each with what it is."""

    def scan(self, folder: Path) -> Iterator[dict[str, Any] | Finding]:
        """Raw rows of a folder without a manifest (audio with .txt; images with captions).

        What is found on the way (a line that can't be read) is given among them.
        """
        ...

    def inspect(self, row: Row) -> Inspection:
        """Open and fully decode one item; never raises for a bad file, but finds."""
        ...

    def check_rows(
        self,
        rows: Sequence[Row],
        terms: Path | None = None,
        *,
        seen: Sequence[Inspection] = (),
        base: str | None = None,
        settings: Section | None = None,
    ) -> list[Finding]:
        """Findings that need all rows at once, or the model that they are for.

        Args:
            rows: those without errors.
            terms: a list of words to compare with.
            seen: what `inspect` gave for each of them.
            base: the model, if it is known.
            settings: the run's own `options`, if there is a run.
        """
        ...

    def recognise(self, source: Path, layout: str | None = None) -> bool:
        """Whether `import_data` knows a source's layout; or the layout's name, if given."""
        ...

    def import_data(
        self,
        source: Path,
        to: Path,
        layout: str | None,
        settings: Mapping[str, Any],
        progress: Callable[[int], None] | None = None,
    ) -> Imported:
        """Write the data of another layout as a folder with a manifest.

        Raises:
            ConfigError: an unknown layout or setting, or the folder can't be used.
            DataError: the source can't be read at all.
        """
        ...

    def prepare(self, config: RunConfig) -> Path:
        """The manifest or folder to train on; a recipe may make it (speech from a term list)."""
        ...

    def extend(self, config: RunConfig, dataset: Dataset) -> Path | None:
        """A manifest of rows made to be trained on beside the data's own; None for none."""
        ...

    def retention(self, config: RunConfig) -> Sequence[Row]:
        """Rows on which the adapter's strength is tried, for they must not get worse."""
        ...

    def task(self, config: RunConfig, dataset: Dataset, cache: PrefixCache | None) -> Task:
        """The task of a run: base loaded, adapter attached, nothing computed."""
        ...

    def predictor(
        self, base: str, adapters: Mapping[str, Path], features: Features | None = None
    ) -> Predictor:
        """A base with adapters loaded strictly, each probed to differ from the base."""
        ...

    def compare(
        self, config: RunConfig, dataset: Dataset, folder: Path, task: Task | None = None
    ) -> Comparison | None:
        """Base against the run's adapter on the dataset's test rows, paired.

        `task` is the one that was just trained: a modality may take its base and features rather
        than load them again, and nobody uses it afterwards. All processes call it, and of several
        the main one alone gets the comparison and writes files: the others help it to answer.
        """
        ...

    def export(self, request: Export) -> Exported:
        """Write an adapter as `request.to` in one of the `formats`, and prove it.

        Raises:
            AdapterError: the format can't hold the adapter, or it isn't the same when read back.
        """
        ...

    def merge(self, request: Merge) -> float:
        """Write several adapters as one, load it strictly, and see that it changes the output.

        Returns:
            How far it is from the weighted sum of its parts (`mmtune.adapters.merge.distance`).

        Raises:
            AdapterError: a part doesn't load, or the method can't merge them.
        """
        ...

    def try_out(
        self,
        base: str,
        adapters: Mapping[str, Path],
        settings: Mapping[str, Choose],
        trials: Sequence[Trial],
    ) -> Mapping[str, Sequence[str]]:
        """Figures of each setting of the adapters on the trials' test items, by their names.

        Returns:
            Columns of a table: under each head a cell for each setting, in order.

        Raises:
            DataError: a trial has no usable item.
        """
        ...

    def playable(self, row: Row) -> tuple[str, bytes]:
        """The row's item as a browser can show or play it: media type and content.

        Raises:
            DataError: it can't be read.
        """
        ...
