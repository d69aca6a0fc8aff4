"""The speech modality: all that the shared packages need from Whisper and speech data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.adapters.model_card import HERE
from mmtune.config import RunConfig, Section
from mmtune.data.importing import Imported
from mmtune.data.rows import Row
from mmtune.methods import BY_LAYER
from mmtune.modality import Modality
from mmtune.speech.corpus.speech_reader import SpeechReader
from mmtune.speech.export import FORMATS
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import speech_row

if TYPE_CHECKING:
    from mmtune.adapters.adopt import ForeignAdapter
    from mmtune.adapters.card import Card
    from mmtune.adapters.combinations import TestSet
    from mmtune.adapters.members import Merge
    from mmtune.adapters.model_card import Usage
    from mmtune.adapters.routing import Router
    from mmtune.data.dataset import Dataset
    from mmtune.evaluation.comparison import Comparison
    from mmtune.predict import Predictor
    from mmtune.prefix.cache import PrefixCache
    from mmtune.prefix.features import Features
    from mmtune.training.task import Task


class SpeechModality(SpeechReader, Modality):
    """Implements `mmtune.modality.Modality`; imports torch only if a model is needed."""

    options: type[Section] = SpeechOptions
    export_formats: Mapping[str, str] = FORMATS
    methods = (*BY_LAYER, "prefix")
    compares_bases = True
    adapters_read = "a LoRA adapter of Whisper"
    adapter_settings = ("task.encoder_layers",)
    adapter_files = ("adapter_config.json", "adapter_model.safetensors")
    slice_names = ("trimmed windows", "padded windows", "in parts", "real recordings")
    slice_endings = (" without repeats", " with times")
    slice_labels = ("speaker",)

    def recognise(self, source: Path, layout: str | None = None) -> bool:
        """Whether `importers.LAYOUTS` has the named layout, or one that fits the source."""
        from mmtune.speech.corpus import importers

        return layout in importers.LAYOUTS if layout else importers.recognise(source) is not None

    def import_data(
        self,
        source: Path,
        to: Path,
        layout: str | None,
        settings: Mapping[str, Any],
        progress: Callable[[int], None] | None = None,
        dry: bool = False,
    ) -> Imported:
        """Import recordings as 16 kHz FLAC files with a manifest."""
        from mmtune.speech.corpus import importers

        return importers.import_speech(source, to, layout, settings, progress, dry)

    def prepare(self, config: RunConfig) -> Path:
        """Return the user's recordings, or synthesize speech of the term list."""
        from mmtune.speech.corpus.synthesize import prepare

        assert isinstance(config.task, SpeechOptions)
        if config.task.calls is not None and config.task.calls.exists():
            from mmtune.speech.evaluation.whole_calls import read_calls

            read_calls(config.task)  # a fault in them is told before training and measuring
        return prepare(config)

    def require_base(self, base: str) -> None:
        """Refuse a folder, a hub id or a starter that can't be found."""
        from mmtune.speech.whisper.base import require_base

        require_base(base)

    def extend(self, config: RunConfig, dataset: Dataset) -> Path | None:
        """Make joined windows, recordings without speech and replayed speech, by `task.mix`."""
        from mmtune.speech.corpus.extra_rows import extend

        return extend(config, dataset)

    def retention(self, config: RunConfig) -> Sequence[Row]:
        """Return retention rows for validation; `compare` scores other rows."""
        from mmtune.speech.corpus.retention import retention_rows

        assert isinstance(config.task, SpeechOptions)
        return retention_rows(config.task, "validation")

    def task(self, config: RunConfig, dataset: Dataset, cache: PrefixCache | None) -> Task:
        """Load the base and make the task that trains an adapter on it."""
        from mmtune.speech.speech_task import SpeechTask
        from mmtune.speech.whisper.base import load_for

        assert isinstance(config.task, SpeechOptions)
        base = load_for(config.base, config.train.precision)
        recompute = config.train.gradient_checkpointing
        adapter = config.adapter.model_copy(update={"method": config.method.name})
        return SpeechTask(
            *(base, config.lora, config.task, cache, config.train.seed, recompute),
            adapter=adapter,
            parent=config.parent,
        )

    def settings_of_adapter(
        self, folder: Path, base: str, beside: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Read rank, alpha, kind and adapted layers of a PEFT folder."""
        from mmtune.speech.whisper.decoder_lora import settings_of_adapter

        return settings_of_adapter(folder, base, beside)

    def later_work(
        self,
        config: RunConfig,
        dataset: Dataset,
        task: Task,
        validations: int,
        validation_seconds: float,
        load_seconds: float,
    ) -> tuple[float, float]:
        """Count the answers of the comparisons, each measured on a few test rows."""
        from mmtune.speech.later_work import later_work
        from mmtune.speech.speech_task import SpeechTask

        assert isinstance(task, SpeechTask)
        return later_work(config, dataset, task, validations, validation_seconds, load_seconds)

    def predictor(
        self, base: str, adapters: Mapping[str, Path], features: Features | None = None
    ) -> Predictor:
        """Load the base with PEFT folders; it decodes greedily on windows of 30 s."""
        from mmtune.speech.transcription.predictor import SpeechPredictor

        return SpeechPredictor(base, adapters, features)

    def compare(
        self, config: RunConfig, dataset: Dataset, folder: Path, task: Task | None = None
    ) -> Comparison | None:
        """Compare base and adapter on the test rows; both are loaded from disk."""
        from mmtune.speech.evaluation.compare import compare

        return compare(config, dataset, folder)

    def compare_two(
        self,
        config: RunConfig,
        dataset: Dataset,
        folder: Path,
        other: Path,
        other_base: str | None = None,
    ) -> Comparison | None:
        """Compare two adapters on the test rows; both are loaded from disk, each on its base."""
        from mmtune.speech.evaluation.compare import compare

        return compare(config, dataset, folder, other=other, other_base=other_base)

    def is_calls(self, source: Path) -> bool:
        """Whether `import` knows the source's layout, and its rows can't be trained on as it is."""
        from mmtune.speech.evaluation.whole_calls import is_calls

        return is_calls(source)

    def knows_adapter(self, keys: Collection[str]) -> bool:
        """Whether these are keys of Whisper's layers."""
        from mmtune.speech.whisper.foreign_lora import knows

        return knows(keys)

    def convert_adapter(self, foreign: ForeignAdapter, base: str, to: Path) -> Mapping[str, str]:
        """Write the adapter as a PEFT folder of LoRA."""
        from mmtune.speech.whisper.foreign_lora import convert

        return convert(foreign, base, to)

    def usage(self, card: Card, adapter: str = HERE) -> Usage:
        """See `mmtune.speech.usage`."""
        from mmtune.speech.usage import usage

        return usage(card, adapter)

    def merge(self, request: Merge) -> float:
        """Merge several adapters into one PEFT folder."""
        from mmtune.speech.whisper.merge_adapters import merge

        return merge(request)

    def try_out(
        self,
        base: str,
        adapters: Mapping[str, Path],
        choices: Mapping[str, Router],
        test_sets: Sequence[TestSet],
    ) -> Mapping[str, Sequence[str]]:
        """Measure the WER of each setting, and the recall of the run's trained terms."""
        from mmtune.speech.evaluation.try_combinations import try_out

        return try_out(base, adapters, choices, test_sets)

    def playable(self, row: Row) -> tuple[str, bytes]:
        """Encode the row's span and channel as 16 kHz FLAC, which all browsers play."""
        import io

        import soundfile

        from mmtune.speech.sound.read import SAMPLE_RATE, read_row

        buffer = io.BytesIO()
        soundfile.write(
            buffer, read_row(speech_row(row)), SAMPLE_RATE, format="FLAC", subtype="PCM_16"
        )
        return "audio/flac", buffer.getvalue()


MODALITY = SpeechModality()
