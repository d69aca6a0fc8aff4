"""The engines of export formats, behind one interface, so that their transcripts can be compared.

Each engine transcribes twice. `same` uses the same options for all engines: greedy search, one
window of 30 s, no times, no second attempt, no context of other windows, the same forbidden ids and
the same limit. `own` uses the engine's defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mmtune.adapters.exported import require_packages
from mmtune.speech.export.whisper_cpp import MODEL_FILE, run
from mmtune.speech.sound.read import SAMPLE_RATE, read_row
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.transcription.predictor import LOADED_ADAPTER, SpeechPredictor
from mmtune.speech.transcription.transcribe import listen
from mmtune.speech.transcription.transcript import make_transcript
from mmtune.speech.whisper.base import WhisperBase
from mmtune.speech.whisper.decode import DecodeOptions, decode_scored, most_ids
from mmtune.speech.whisper.labels import prefix_ids
from mmtune.speech.whisper.stages import MAX_WINDOW
from mmtune.system.quiet import quiet

MAX_IDS = 220  # ids: whisper.cpp stops there (half its positions, less four)
PURPOSE = "checking the export"


@dataclass(frozen=True)
class Clip:
    """One utterance, as all engines get it.

    Attributes:
        samples: [samples] float32, mono, 16 kHz; at most 30 s.
        language: Whisper's code; None for English-only bases.
        task: "transcribe" or "translate".
        prefix: ids that the decoder gets first.
        most: largest number of ids of the transcript.
    """

    samples: NDArray[np.float32]
    language: str | None
    task: str
    prefix: tuple[int, ...]
    most: int

    @property
    def padded(self) -> NDArray[np.float32]:
        """The samples, padded with zeros to 30 s."""
        whole = np.zeros(MAX_WINDOW * SAMPLE_RATE, np.float32)
        heard = self.samples[: len(whole)]
        whole[: len(heard)] = heard
        return whole


class Engine(Protocol):
    """An engine that transcribes clips with an exported model."""

    name: str

    def same(self, clips: Sequence[Clip]) -> list[str]:
        """Transcribe with the options that are common to all engines."""
        ...

    def own(self, clips: Sequence[Clip]) -> list[str]:
        """Transcribe with the engine's defaults; only the language is set."""
        ...


class Reference:
    """mmtune itself, with the unmerged adapter in float32.

    Args:
        base: a loaded base without other adapters.
        adapter: the adapter's folder.
        scale: factor on the adapter's strength.
    """

    name = "mmtune, adapter not merged"

    def __init__(self, base: WhisperBase, adapter: Path, scale: float) -> None:
        self.predictor = SpeechPredictor(base, {LOADED_ADAPTER: adapter})
        self.weights = {LOADED_ADAPTER: scale}

    def clips(self, rows: Sequence[SpeechRow]) -> list[Clip]:
        """Make the clips of rows; the language is the row's, the adapter's, or a detected one.

        Raises:
            DataError: an audio file can't be read.
        """
        sounds = [read_row(row, max_seconds=MAX_WINDOW + 1) for row in rows]
        found: list[Clip] = []
        for row, samples in zip(rows, sounds, strict=True):
            language = row.language or self.predictor.language
            if language is None and self.predictor.base.multilingual:
                hidden = torch.stack(self.predictor.stage.encode_audio([samples], MAX_WINDOW))
                language = self.predictor.languages(hidden, [None])[0]
            if not self.predictor.base.multilingual:
                language = None
            prefix = prefix_ids(self.predictor.base, language, task=row.task)
            most = most_ids(len(samples) / SAMPLE_RATE, MAX_IDS)
            found.append(Clip(samples, language, row.task, tuple(prefix), most))
        return found

    def same(self, clips: Sequence[Clip]) -> list[str]:
        """Transcribe with the common options; see `Engine`."""
        predictor, texts = self.predictor, []
        for first in range(0, len(clips), predictor.batch_size):
            some = clips[first : first + predictor.batch_size]
            hidden = torch.stack(
                predictor.stage.encode_audio([clip.samples for clip in some], MAX_WINDOW)
            )
            options = DecodeOptions(max_new_tokens=tuple(clip.most for clip in some))
            with predictor.adapters.on(self.weights):
                states = predictor.stage.finish(hidden)
                prefixes = [clip.prefix for clip in some]
                spoken = decode_scored(predictor.base.model, states, prefixes, options)
            texts += [predictor.base.text_of(each.ids) for each in spoken]
        return texts

    def own(self, clips: Sequence[Clip]) -> list[str]:
        """Transcribe like `mmtune transcribe`: detect speech, and decode doubtful windows again."""
        texts = []
        for clip in clips:
            found, language = listen(
                self.predictor, [clip.samples], language=clip.language, weights=self.weights
            )
            texts.append(make_transcript(found[0], language).text.strip())
        return texts


class Transformers:
    """transformers' own `generate` on an exported folder."""

    name = "transformers"

    def __init__(self, folder: Path) -> None:
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        with quiet():
            self.model: Any = WhisperForConditionalGeneration.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True
            ).eval()
        self.processor: Any = WhisperProcessor.from_pretrained(folder, local_files_only=True)

    def _generate(self, clip: Clip, **options: Any) -> str:
        heard = self.processor(clip.padded, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        if clip.language is not None:
            options |= {"language": clip.language, "task": clip.task}
        with torch.no_grad(), quiet():
            ids = self.model.generate(heard.input_features, **options)
        return str(self.processor.batch_decode(ids, skip_special_tokens=True)[0]).strip()

    def same(self, clips: Sequence[Clip]) -> list[str]:
        """Transcribe with the common options; see `Engine`."""
        fixed = {"num_beams": 1, "do_sample": False, "return_timestamps": False}
        return [self._generate(clip, max_new_tokens=clip.most, **fixed) for clip in clips]

    def own(self, clips: Sequence[Clip]) -> list[str]:
        """Call `generate` with only the language."""
        return [self._generate(clip) for clip in clips]


class FasterWhisper:
    """faster-whisper on an exported CTranslate2 folder."""

    name = "faster-whisper"

    def __init__(self, folder: Path, precision: str) -> None:
        require_packages(PURPOSE, "ctranslate2", "faster_whisper")
        from faster_whisper import WhisperModel

        # A processor without float16 computes fp16 weights in float32.
        kind = "int8" if precision == "int8" else "float32"
        self.engine: Any = WhisperModel(str(folder), device="cpu", compute_type=kind)

    def same(self, clips: Sequence[Clip]) -> list[str]:
        """Call CTranslate2's `generate` on faster-whisper's features.

        faster-whisper's decoding of whole files has no option for a limit of ids, and none for a
        single window.
        """
        import ctranslate2
        from faster_whisper.audio import pad_or_trim

        texts = []
        times = self.engine.hf_tokenizer.token_to_id("<|notimestamps|>") + 1
        for clip in clips:
            features = pad_or_trim(self.engine.feature_extractor(clip.padded))
            found = self.engine.model.generate(
                ctranslate2.StorageView.from_array(np.ascontiguousarray(features[None])),
                [list(clip.prefix)],
                beam_size=1,
                sampling_topk=1,
                max_length=self.engine.max_length,
                suppress_blank=True,  # the ids of `suppress_ids_begin`
                suppress_tokens=[-1],  # those of `suppress_ids`
            )
            # A greedy text with a lower limit is the beginning of a text with a higher one.
            ids = [i for i in found[0].sequences_ids[0][: clip.most] if i < times]
            texts.append(self.engine.hf_tokenizer.decode(ids, skip_special_tokens=True).strip())
        return texts

    def own(self, clips: Sequence[Clip]) -> list[str]:
        """Call `WhisperModel.transcribe`: five beams, times, fallback, context of windows."""
        texts = []
        for clip in clips:
            segments, _ = self.engine.transcribe(
                clip.samples, language=clip.language or "en", task=clip.task
            )
            texts.append(" ".join(segment.text.strip() for segment in segments).strip())
        return texts


class WhisperCpp:
    """whisper.cpp on an exported folder, through pywhispercpp.

    whisper.cpp has its own list of forbidden ids, which can't be replaced. It is switched on if the
    base forbids ids.

    Args:
        folder: the exported folder.
        forbids: whether the base forbids ids that write no speech.
    """

    name = "whisper.cpp"

    def __init__(self, folder: Path, forbids: bool) -> None:
        require_packages(PURPOSE, "pywhispercpp")
        self.path, self.forbids = folder / MODEL_FILE, forbids

    def same(self, clips: Sequence[Clip]) -> list[str]:
        """Transcribe with the common options; see `Engine`."""
        options = {
            "greedy": {"best_of": 1},
            "temperature": 0.0,
            "temperature_inc": 0.0,
            "no_context": True,
            "no_timestamps": True,
            "single_segment": True,
            "suppress_blank": True,
            "suppress_nst": self.forbids,
            "no_speech_thold": 2.0,  # no probability reaches it
            # Exact attention, like the other engines. The default, flash attention in half
            # precision, decides ties of some hundredths of a logit differently.
            "context_params": {"flash_attn": False},
            "n_threads": torch.get_num_threads(),
        }
        # whisper.cpp counts from 0 and stops after the limit.
        each = [self._spoken(clip) | {"max_tokens": clip.most - 1} for clip in clips]
        return run(self.path, [clip.padded for clip in clips], options, each)

    def own(self, clips: Sequence[Clip]) -> list[str]:
        """Transcribe with whisper.cpp's defaults; only the language is set."""
        samples = [clip.samples for clip in clips]
        return run(
            self.path,
            samples,
            {"n_threads": torch.get_num_threads()},
            [self._spoken(clip) for clip in clips],
        )

    @staticmethod
    def _spoken(clip: Clip) -> dict[str, Any]:
        return {"language": clip.language or "en", "translate": clip.task == "translate"}
