"""Format `transformers`: a folder that WhisperForConditionalGeneration and WhisperProcessor load.

Old and new tools read the folder. The feature extractor's settings are in a file of their own
(`preprocessor_config.json`, for faster-whisper and older transformers) and in
`processor_config.json` (transformers 5). The vocabulary is in `tokenizer.json`, and in `vocab.json`
with `merges.txt`.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.speech.export.speech_format import SpeechFormat
from mmtune.system.files import write_text
from mmtune.system.quiet import quiet
from mmtune.system.tensors import make_reproducible

if TYPE_CHECKING:
    from mmtune.speech.export.engines import Engine
    from mmtune.speech.whisper.base import WhisperBase

# The latest time at which a window may begin, in steps of 20 ms (openai/whisper, decoding.py).
FIRST_TIME = 50


def write_transformers(base: WhisperBase, folder: Path, precision: str = "fp32") -> None:
    """Write a model with its processor and a complete generation config.

    Args:
        base: without adapters (see `merge`); it isn't changed.
        folder: is made.
        precision: of the weights: fp32, fp16 or bf16.

    Raises:
        AdapterError: a weight is too large for the precision.
    """
    from transformers import WhisperProcessor

    folder.mkdir(parents=True, exist_ok=True)
    model = _in_precision(base.model, precision)
    saved = model.generation_config
    model.generation_config = complete_generation(base)
    try:
        with quiet():
            model.save_pretrained(folder)
        for path in folder.glob("*.safetensors"):
            make_reproducible(path)
    finally:
        model.generation_config = saved
    base.feature_extractor.save_pretrained(folder)
    WhisperProcessor(base.feature_extractor, base.tokenizer).save_pretrained(folder)
    base.tokenizer.backend_tokenizer.model.save(str(folder))  # vocab.json and merges.txt
    spellings = getattr(base.tokenizer, "english_spelling_normalizer", None)
    if spellings:
        write_text(folder / "normalizer.json", json.dumps(spellings))


def _in_precision(model: Any, precision: str) -> Any:
    import torch

    from mmtune.errors import AdapterError
    from mmtune.system.precision import DTYPES

    dtype = DTYPES[precision]
    if dtype is torch.float32:
        return model
    cast = copy.deepcopy(model).to(dtype)
    for name, value in cast.state_dict().items():
        if not torch.isfinite(value).all():
            raise AdapterError(f"{name} is too large for {precision}", "use --precision fp32")
    return cast


def complete_generation(base: WhisperBase) -> Any:
    """Complete the base's `GenerationConfig` with all values that an engine needs.

    Values of the base stay. Languages, tasks and special ids come from the tokenizer. If the base
    names no alignment heads, all heads of the decoder's upper half are used (openai/whisper,
    model.py).
    """
    config, ids = base.model.config, base.ids
    generation = copy.deepcopy(base.model.generation_config)
    layers, heads = config.decoder_layers, config.decoder_attention_heads
    wanted: dict[str, Any] = {
        "is_multilingual": base.multilingual,
        "no_timestamps_token_id": ids["notimestamps"],
        "prev_sot_token_id": ids["startofprev"],
        "max_initial_timestamp_index": FIRST_TIME,
        "decoder_start_token_id": ids["startoftranscript"],
        "eos_token_id": ids["endoftext"],
        "pad_token_id": ids["endoftext"],
        "bos_token_id": ids["endoftext"],
        "suppress_tokens": [],
        "begin_suppress_tokens": [],
        "alignment_heads": [[i, j] for i in range(layers // 2, layers) for j in range(heads)],
    }
    if base.multilingual:
        wanted["lang_to_id"] = _languages(base)
        wanted["task_to_id"] = {name: ids[name] for name in ("transcribe", "translate")}
    for name, value in wanted.items():
        if getattr(generation, name, None) is None:
            setattr(generation, name, value)
    # A base that was saved during training may have a limit of 20.
    generation.max_length = config.max_target_positions
    generation.return_timestamps = False
    return generation


def _languages(base: WhisperBase) -> dict[str, int]:
    # In every vocabulary the languages are between the start token and <|translate|>.
    first, last = base.ids["startoftranscript"] + 1, base.ids["translate"]
    tokens = base.tokenizer.convert_ids_to_tokens(list(range(first, last)))
    return dict(zip(tokens, range(first, last), strict=True))


def _write(merged: WhisperBase, precision: str, to: Path) -> None:
    write_transformers(merged, to, precision)


def _engine(folder: Path, precision: str, forbids: bool) -> Engine:
    from mmtune.speech.export.engines import Transformers

    return Transformers(folder)


FORMAT = SpeechFormat(
    "transformers",
    "a merged Whisper folder (fp32, fp16, bf16)",
    ("fp32", "fp16", "bf16"),
    write=_write,
    engine=_engine,
    use=lambda place: (
        f'use it with transformers: pipeline("automatic-speech-recognition", model={str(place)!r})'
    ),
)
