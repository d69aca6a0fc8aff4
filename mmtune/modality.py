"""What the shared parts need to know of a modality, gathered in one object."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mmtune.adapters.model_card import HERE
from mmtune.config import RunConfig, Section
from mmtune.data.importing import Imported
from mmtune.data.ledger import Guess, Used
from mmtune.data.rows import Finding, Inspection, Row
from mmtune.data.rule_result import RuleResult
from mmtune.errors import AdapterError, ConfigError, DataError
from mmtune.methods import LORA_ALONE, MethodNames
from mmtune.system.plugins import Registry

if TYPE_CHECKING:
    from mmtune.adapters.adopt import ForeignAdapter
    from mmtune.adapters.card import Card
    from mmtune.adapters.combinations import TestSet
    from mmtune.adapters.exported import ExportFormat
    from mmtune.adapters.members import Merge
    from mmtune.adapters.model_card import Usage
    from mmtune.adapters.routing import Router
    from mmtune.data.dataset import Dataset
    from mmtune.evaluation.comparison import Comparison
    from mmtune.predict import Predictor
    from mmtune.prefix.cache import PrefixCache
    from mmtune.prefix.features import Features
    from mmtune.training.task import Task


class Modality:
    """One kind of data. Importing the module that defines one must not import torch.

    A modality needs `name`, `row` and `task`, and for its comparison either `predictor` with
    `metrics`, or a `compare` of its own. All else has a default, which gives nothing or refuses
    with an error that says so.
    """

    name: str
    """What users call it: `modality: NAME` in a recipe."""
    row: type[Row]
    options: type[Section] = Section
    """Ways that only this modality has: the section `task` of a recipe."""
    methods: MethodNames = LORA_ALONE
    """Values of `adapter.method` that its task can train."""
    metrics: Sequence[str] = ()
    """Registered names of the metrics of its comparison, the most telling first."""
    compares_bases: bool = False
    """Whether two adapters on different bases can be compared, each on its own."""
    compares_with_training: bool = False
    """Whether a comparison needs training rows beside the test rows, such as images of a look."""
    adapter_files: Sequence[str] = ()
    """Names of the files that an adapter of another program consists of."""
    adapters_read: str = "an adapter that mmtune made"
    """Adapters that it can use, for messages: "a LoRA adapter of Whisper"."""
    adapter_settings: Sequence[str] = ()
    """Full names of its own settings that say which layers an adapter has."""
    slice_names: Sequence[str] = ()
    """Names that it gives to slices itself, after the kind of the rows: "in parts" of "long form,
    in parts". A redacted page shows them; all others may be values of users' labels."""
    slice_endings: Sequence[str] = ()
    """What it adds to the name of a slice for the same rows, measured otherwise: " with times"."""
    slice_labels: Sequence[str] = ()
    """Labels by which it groups rows itself: "speaker"."""
    reference_names: Sequence[str] = ()
    """Names of `Measure.references` that it gives itself; all others may be users' folders."""
    export_formats: Mapping[str, str] = MappingProxyType({})
    """Its own formats to export adapters in, each as "module:record"."""

    @cached_property
    def formats(self) -> Registry[ExportFormat]:
        """Formats that an adapter can be exported in: its own, and those that third parties add
        by the entry points `mmtune.export_formats.NAME`, with the modality's name."""
        group = f"mmtune.export_formats.{self.name}"
        return Registry(f"format for adapters of {self.name}", group, self.export_formats)

    def scan(self, folder: Path) -> Iterator[dict[str, Any] | Finding | Used | Guess]:
        """See `mmtune/data/reader.py`. Default: a folder needs a manifest."""
        return iter(())

    def inspect(self, row: Row) -> Inspection:
        """See `mmtune/data/reader.py`. Default: a row's file is hashed and not opened; where it
        has none, its own fields are hashed."""
        from mmtune.system.hashing import hash_file, hash_json

        if not row.media:
            return Inspection(hash_json(row.own_fields()))
        try:
            content = hash_file(row.path)
            return Inspection(content, hashes={row.media: content})
        except OSError as error:
            found = f"{row.path}: {error.strerror or error}"
            return Inspection("", [Finding("missing", row.id, found, "correct the path")])

    def check_rows(
        self,
        rows: Sequence[Row],
        terms: Path | None = None,
        *,
        seen: Sequence[Inspection] = (),
        base: str | None = None,
        settings: Section | None = None,
    ) -> list[Finding]:
        """See `mmtune/data/reader.py`. Default: no findings."""
        return []

    def judge_rules(self, rows: Sequence[Row], settings: Section | None = None) -> list[RuleResult]:
        """See `mmtune/data/reader.py`. Default: there are no rules."""
        return []

    def recognise(self, source: Path, layout: str | None = None) -> bool:
        """Whether `import_data` knows a source's layout; or the layout's name, if given."""
        return False

    def import_data(
        self,
        source: Path,
        to: Path,
        layout: str | None,
        settings: Mapping[str, Any],
        progress: Callable[[int], None] | None = None,
        dry: bool = False,
    ) -> Imported:
        """Write the data of another layout as a folder with a manifest.

        Raises:
            ConfigError: an unknown layout or setting, or the folder can't be used.
            DataError: the source can't be read at all.
        """
        raise ConfigError(
            f"{self.name}: there is no other layout to import", f"train on it: --data {source}"
        )

    def prepare(self, config: RunConfig) -> Path:
        """The manifest or folder to train on; a recipe may make it (speech from a term list).

        Raises:
            ConfigError: the settings name none, or what they name isn't there.
        """
        if config.data.path is None:
            raise ConfigError(f"{config.recipe}: no data to train on", "give --data PATH")
        if not config.data.path.exists():
            raise ConfigError(
                f"no such file or folder: {config.data.path}", "correct --data (data.path)"
            )
        return config.data.path

    def require_base(self, base: str) -> None:
        """Refuse a base that can't be found, before data are prepared for it. Default: nothing.

        It takes a second at most: no weights are loaded or downloaded.

        Raises:
            BaseModelError: there is no such base, or the hub can't be reached.
            MissingExtra: the package of a starter is not installed.
        """

    def remarks_on_base(self, config: RunConfig) -> Sequence[str]:
        """What the user should know of the base before it is trained. Default: nothing."""
        return ()

    def extend(self, config: RunConfig, dataset: Dataset) -> Path | None:
        """A manifest of rows made to be trained on beside the data's own; None for none."""
        return None

    def retention(self, config: RunConfig) -> Sequence[Row]:
        """Rows on which the adapter's strength is tried, for they must not get worse."""
        return ()

    @abstractmethod
    def task(self, config: RunConfig, dataset: Dataset, cache: PrefixCache | None) -> Task:
        """The task of a run: base loaded, adapter attached, nothing computed."""

    def later_work(
        self,
        config: RunConfig,
        dataset: Dataset,
        task: Task,
        validations: int,
        validation_seconds: float,
        load_seconds: float,
    ) -> tuple[float, float]:
        """How long the comparisons after training take, for the estimate of the whole command.

        Default: each compared row takes as long as one in the validation.

        Args:
            validations: after the base's.
            validation_seconds: of one; 0 without validation rows.
            load_seconds: that loading the base took.

        Returns:
            Seconds of the choice of checkpoint and strength, and of the comparison with the base.
        """
        from mmtune.training.estimate import compared_states

        held, test = len(dataset.split("validation")), len(dataset.split("test"))
        train = config.train
        states = compared_states(train.scales, train.compare_checkpoints, validations)
        share = 2 * test / held if held else 0.0
        return states * validation_seconds, load_seconds + share * validation_seconds

    def predictor(
        self, base: str, adapters: Mapping[str, Path], features: Features | None = None
    ) -> Predictor:
        """A base with adapters loaded strictly, each probed to differ from the base."""
        raise ConfigError(f"{self.name} has no predictor", "use the adapter with its own library")

    def compare(
        self, config: RunConfig, dataset: Dataset, folder: Path, task: Task | None = None
    ) -> Comparison | None:
        """Base against the run's adapter on the dataset's test rows, paired.

        `task` is the one that was just trained: a modality may take its base and features rather
        than load them again, and nobody uses it afterwards. All processes call it, and of several
        the main one alone gets the comparison and writes files: the others help it to answer.

        Default: `metrics` of what `predictor` answers, see `mmtune/evaluation/paired.py`.
        """
        from mmtune.adapters.card import read_card, weights_hash
        from mmtune.evaluation.paired import compare_pairs
        from mmtune.system.hashing import hash_json

        adapter = folder / "adapter"
        known = [read_card(adapter).base_hash, weights_hash(adapter)]
        return compare_pairs(
            self.name,
            config.name,
            dataset.split("test"),
            self.metrics,
            folder,
            lambda: self.predictor(config.base, {"adapter": adapter}),
            hash_json([*known, config.task.model_dump(mode="json")]),
        )

    def compare_two(
        self,
        config: RunConfig,
        dataset: Dataset,
        folder: Path,
        other: Path,
        other_base: str | None = None,
    ) -> Comparison | None:
        """The adapter in `folder` against another one, on the test rows, paired.

        The other adapter stands in the base's place in the measures.

        Default: as `compare`, with both adapters loaded.

        Args:
            other: the other adapter's folder.
            other_base: its base, if it has another one; only with `compares_bases`.

        Raises:
            AdapterError: an adapter can't be loaded on the base.
        """
        from mmtune.adapters.card import weights_hash
        from mmtune.evaluation.paired import compare_pairs
        from mmtune.system.hashing import hash_json

        adapters = {"adapter": folder / "adapter", "other": other}
        known = [config.base, *map(weights_hash, adapters.values())]
        return compare_pairs(
            self.name,
            config.name,
            dataset.split("test"),
            self.metrics,
            folder,
            lambda: self.predictor(config.base, adapters),
            hash_json([*known, config.task.model_dump(mode="json")]),
            {"base": {"other": 1.0}, "adapter": {"adapter": 1.0}},
        )

    def without_training(self, config: RunConfig) -> RunConfig:
        """The settings for a comparison of an adapter whose training rows aren't here.

        What compares answers with training rows, such as a search for copies, is switched off.
        """
        return config

    def is_calls(self, source: Path) -> bool:
        """Whether a source holds whole recordings to be heard from beginning to end, and no rows
        that can be trained on."""
        return False

    def knows_adapter(self, keys: Collection[str]) -> bool:
        """Whether an adapter of another program, whose tensors have these names, is for it."""
        return False

    def convert_adapter(self, foreign: ForeignAdapter, base: str, to: Path) -> Mapping[str, str]:
        """Write an adapter of another program as its own files; see `mmtune.adapters.adopt`.

        Returns:
            Facts about it for its card.

        Raises:
            AdapterError: it doesn't fit the base, or is of a kind that can't be read.
        """
        raise AdapterError(
            f"{self.name} reads no adapters of other programs", f"give {self.adapters_read}"
        )

    def settings_of_adapter(
        self, folder: Path, base: str, beside: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Read the settings by which training goes on from an adapter, such as its rank.

        Args:
            folder: the adapter folder, in mmtune's own form.
            base: its base.
            beside: settings that the user gives, by full name; theirs hold.

        Returns:
            Values by the settings' full names.

        Raises:
            AdapterError: the adapter can't be read, or no training can start from it.
            BaseModelError: the base can't be found.
        """
        raise AdapterError(f"{self.name} can't train on from an adapter", "leave out --init")

    def own_form(self, given: Path, base: str | None = None) -> Path:
        """Return the adapter itself, or for one of another program the folder of its conversion.

        Args:
            given: what the user named.
            base: the base that the user named.

        Raises:
            MmtuneError: see `adopt`; or the adapter can't be read.
        """
        from mmtune.adapters.adopt import find_foreign

        foreign = find_foreign(given)
        return given if foreign is None else self.adopt(foreign, base)

    def adopt(self, foreign: ForeignAdapter, base: str | None) -> Path:
        """Convert an adapter of another program, unless that was done before.

        Args:
            foreign: the adapter.
            base: the base that the user named.

        Returns:
            The folder of its conversion.

        Raises:
            ConfigError: nobody names the base.
            AdapterError: the adapter doesn't fit the base, or is of another modality.
            BaseModelError: the base can't be loaded, or would have to be downloaded unasked.
        """
        from mmtune.adapters.adopt import adopt, base_for

        if not self.knows_adapter(foreign.shapes):
            raise AdapterError(
                f"{foreign.file} is no adapter for {self.name}: its keys are those of another "
                f"model (first: {min(foreign.shapes, default='none')})",
                f"give {self.adapters_read}",
            )
        return adopt(foreign, base_for(foreign, base), self.name, self.convert_adapter)

    def usage(self, card: Card, adapter: str = HERE) -> Usage | None:
        """How other programs load an adapter, for its README.md. Default: the page says nothing.

        Args:
            card: of the adapter.
            adapter: its folder or its id on the hub, for the code.
        """
        return None

    def merge(self, request: Merge) -> float:
        """Write several adapters as one, load it strictly, and see that it changes the output.

        Returns:
            How far it is from the weighted sum of its parts (`distance` in adapters/merge.py).

        Raises:
            AdapterError: a part doesn't load, or the method can't merge them.
        """
        raise AdapterError(f"{self.name} can't merge adapters", "use them one by one")

    def try_out(
        self,
        base: str,
        adapters: Mapping[str, Path],
        choices: Mapping[str, Router],
        test_sets: Sequence[TestSet],
    ) -> Mapping[str, Sequence[str]]:
        """Figures of each setting of the adapters on the test sets, by their names.

        Returns:
            Columns of a table: under each head a cell for each setting, in order.

        Raises:
            DataError: a test set has no usable item.
        """
        raise ConfigError(f"{self.name} can't compare several adapters", "leave out --compare")

    def playable(self, row: Row) -> tuple[str, bytes]:
        """The row's item as a browser can show or play it: media type and content.

        Raises:
            DataError: it can't be read.
        """
        raise DataError(f"{row.id}: {self.name} has nothing to show or play")
