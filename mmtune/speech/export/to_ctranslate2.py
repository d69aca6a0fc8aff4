"""Format `ctranslate2`, for faster-whisper and WhisperX, written by CTranslate2's converter."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.adapters.exported import require_packages
from mmtune.errors import AdapterError
from mmtune.speech.export.speech_format import SpeechFormat
from mmtune.speech.export.to_transformers import write_transformers
from mmtune.system.files import write_json
from mmtune.system.quiet import quiet

if TYPE_CHECKING:
    from mmtune.speech.export.engines import Engine
    from mmtune.speech.whisper.base import WhisperBase

QUANTIZATION = {"fp32": "float32", "fp16": "float16", "int8": "int8"}
COPIED = ["tokenizer.json", "preprocessor_config.json"]


def write_ctranslate2(
    source: Path, base: WhisperBase, folder: Path, precision: str = "fp32"
) -> None:
    """Convert a folder that `write_transformers` wrote in fp32.

    Args:
        source: the folder.
        base: what is in it.
        folder: is made.
        precision: fp32, fp16 or int8 (its matrices; the rest stays float32).

    Raises:
        MissingExtra: CTranslate2 is not installed.
        AdapterError: the converter wrote another vocabulary than the tokenizer's.
    """
    require_packages("the format ctranslate2", "ctranslate2")
    from ctranslate2.converters import TransformersConverter

    with quiet():
        TransformersConverter(str(source), copy_files=COPIED).convert(
            str(folder), quantization=QUANTIZATION[precision]
        )
    _mend_config(folder / "config.json")
    check_vocabulary(folder, base)


def _mend_config(path: Path) -> None:
    # A base that forbids no ids has null here, and faster-whisper can't iterate over null.
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    config |= {n: config.get(n) or [] for n in ("suppress_ids", "suppress_ids_begin")}
    write_json(path, config)


def check_vocabulary(folder: Path, base: WhisperBase) -> None:
    """Compare the written vocabulary with the tokenizer's, id by id.

    Raises:
        AdapterError: an id differs, or the number of ids differs from the model's.
    """
    written = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
    count = int(base.model.config.vocab_size)
    cure = "use the tokenizer that came with the base's weights"
    if len(written) != count:
        raise AdapterError(f"the vocabulary has {len(written)} ids, the model {count}", cure)
    known = base.tokenizer.convert_ids_to_tokens(list(range(count)))
    for i, (one, other) in enumerate(zip(written, known, strict=True)):
        if one != other:
            raise AdapterError(f"id {i} was written as {one!r}, the tokenizer has {other!r}", cure)


def _write(merged: WhisperBase, precision: str, to: Path) -> None:
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".merged-") as between:
        source = Path(between)
        write_transformers(merged, source)
        write_ctranslate2(source, merged, to, precision)


def _engine(folder: Path, precision: str, forbids: bool) -> Engine:
    from mmtune.speech.export.engines import FasterWhisper

    return FasterWhisper(folder, precision)


FORMAT = SpeechFormat(
    "ctranslate2",
    "a folder for faster-whisper (fp32, fp16, int8)",
    ("fp32", "fp16", "int8"),
    ("ctranslate2",),
    write=_write,
    engine=_engine,
    use=lambda place: (
        f'use it with faster-whisper: WhisperModel({str(place)!r}).transcribe("call.wav")'
    ),
    engine_packages=("ctranslate2", "faster_whisper"),
)
