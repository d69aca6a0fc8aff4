"""Format `ggml`: the file that whisper.cpp loads.

whisper.cpp's `whisper_model_load` (src/whisper.cpp) reads this layout, little-endian:

    uint32   magic 0x67676d6c
    int32    11 sizes: vocabulary, audio positions, width, heads, layers, text positions, width,
             heads, layers, mel bands, type of the weights (0: float32, 1: float16)
    int32 2  mel bands, frequencies; then float32 [bands, frequencies]
    int32    tokens that text is written with; for each: uint32 length, bytes
    tensors to the end: int32 dimensions, length of the name, type; int32 sizes, innermost first;
             the name; the values

Special tokens aren't in the file: whisper.cpp derives them from the vocabulary's size.

The file always has type 1. whisper.cpp also knows type 0, but its convolutions (ggml's im2col) need
float16 kernels: version 1.8.5 ends the process at "GGML_ASSERT(src0->type == GGML_TYPE_F16)", and
no type has float16 kernels together with float32 matrices.
"""

from __future__ import annotations

import re
import shlex
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mmtune.errors import AdapterError, BaseModelError
from mmtune.speech.export.speech_format import SpeechFormat
from mmtune.speech.export.whisper_cpp import MODEL_FILE
from mmtune.system.files import stream_aside

if TYPE_CHECKING:
    from mmtune.speech.export.engines import Engine
    from mmtune.speech.whisper.base import WhisperBase

MAGIC = 0x67676D6C
TYPE = 1
# Vocabulary sizes that whisper.cpp knows, and the id of <|endoftext|> that it takes each to have:
# English, 99 languages, 100 languages.
END_OF_TEXT = {51864: 50256, 51865: 50257, 51866: 50257}

# transformers' names of modules within a layer, and OpenAI's, which whisper.cpp has kept.
_WITHIN = {
    "self_attn": "attn",
    "encoder_attn": "cross_attn",
    "self_attn_layer_norm": "attn_ln",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "final_layer_norm": "mlp_ln",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
}
_PROJECTIONS = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
_OUTSIDE = {
    "encoder.conv1": "encoder.conv1",
    "encoder.conv2": "encoder.conv2",
    "encoder.layer_norm": "encoder.ln_post",
    "decoder.layer_norm": "decoder.ln",
    "decoder.embed_tokens": "decoder.token_embedding",
}
_LAYER = re.compile(r"model\.(encoder|decoder)\.layers\.(\d+)\.(\w+)(?:\.(\w+))?\.(weight|bias)")


def write_ggml(base: WhisperBase, path: Path) -> None:
    """Write a model for whisper.cpp: matrices and convolutions in fp16, the rest in float32.

    Args:
        base: without adapters (see `merge`).
        path: the file to write.

    Raises:
        BaseModelError: whisper.cpp would expect the vocabulary's special tokens at other ids.
        AdapterError: a weight is too large for fp16.
    """
    config = base.model.config
    words = text_tokens(base)
    with stream_aside(path) as file:
        file.write(struct.pack("<I", MAGIC))
        file.write(
            struct.pack(
                "<11i",
                config.vocab_size,
                config.max_source_positions,
                config.d_model,
                config.encoder_attention_heads,
                config.encoder_layers,
                config.max_target_positions,
                config.d_model,
                config.decoder_attention_heads,
                config.decoder_layers,
                config.num_mel_bins,
                TYPE,
            )
        )
        bands = mel_filters(base)
        file.write(struct.pack("<2i", *bands.shape))
        file.write(bands.tobytes())
        file.write(struct.pack("<i", len(words)))
        for word in words:
            file.write(struct.pack("<I", len(word)) + word)
        for name, values in tensors(base):
            _write_tensor(file, name, values)


def mel_filters(base: WhisperBase) -> NDArray[np.float32]:
    """Return the feature extractor's mel filters, [mel bands, frequencies]."""
    return np.ascontiguousarray(np.asarray(base.feature_extractor.mel_filters).T, dtype="<f4")


def text_tokens(base: WhisperBase) -> list[bytes]:
    """Return the bytes of each id below <|endoftext|>.

    GPT-2's byte-level vocabulary writes each byte as a printable character; this is undone.

    Raises:
        BaseModelError: see `write_ggml`.
    """
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    size, end = int(base.model.config.vocab_size), base.ids["endoftext"]
    if END_OF_TEXT.get(size) != end:
        raise BaseModelError(
            f"base {base.name!r} has {size} ids and <|endoftext|> at {end}: whisper.cpp knows the "
            f"vocabularies of {', '.join(map(str, END_OF_TEXT))} ids",
            "use --format transformers or ctranslate2",
        )
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    tokens = base.tokenizer.convert_ids_to_tokens(list(range(end)))
    try:
        return [bytes(byte_of[character] for character in token) for token in tokens]
    except (KeyError, TypeError):
        raise BaseModelError(
            f"base {base.name!r}: its tokenizer isn't a byte-level tokenizer like GPT-2's",
            "use the tokenizer that came with the base's weights",
        ) from None


def tensors(base: WhisperBase) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Yield every weight with whisper.cpp's name, in the shape and type that it reads.

    Raises:
        AdapterError: Whisper has no such weight, or the weight is too large for fp16.
    """
    for old, value in base.model.state_dict().items():
        if old == "proj_out.weight":  # the token embedding again
            continue
        name = rename(old)
        values = value.detach().float().cpu().numpy()
        if re.fullmatch(r"encoder\.conv\d\.bias", name):
            values = values[:, None]  # added to [channels, frames]
        whole = values.ndim < 2 or name.endswith((".bias", "positional_embedding"))
        if not whole:
            with np.errstate(over="ignore"):
                values = values.astype("<f2")
            if not np.isfinite(values).all():
                raise AdapterError(
                    f"{old} is too large for fp16", "use --format transformers or ctranslate2"
                )
        yield name, values


def rename(name: str) -> str:
    """Convert transformers' name of a weight to OpenAI's.

    Raises:
        AdapterError: Whisper has no such weight.
    """
    stem, _, kind = name.removeprefix("model.").rpartition(".")
    if stem in _OUTSIDE:
        return f"{_OUTSIDE[stem]}.{kind}"
    if stem.endswith(".embed_positions"):
        return stem.replace("embed_positions", "positional_embedding")
    if found := _LAYER.fullmatch(name):
        side, layer, module, projection, kind = found.groups()
        if module in _WITHIN and (projection is None or projection in _PROJECTIONS):
            inner = f".{_PROJECTIONS[projection]}" if projection else ""
            return f"{side}.blocks.{layer}.{_WITHIN[module]}{inner}.{kind}"
    raise AdapterError(f"{name!r} is no weight of Whisper", "use --format transformers")


def _write_tensor(file: BinaryIO, name: str, values: NDArray[np.generic]) -> None:
    kind = 1 if values.dtype == np.float16 else 0
    data = name.encode()
    file.write(struct.pack("<3i", values.ndim, len(data), kind))
    file.write(struct.pack(f"<{values.ndim}i", *reversed(values.shape)))
    file.write(data)
    file.write(np.ascontiguousarray(values, dtype="<f2" if kind else "<f4").tobytes())


def _write(merged: WhisperBase, precision: str, to: Path) -> None:
    to.mkdir(parents=True)
    write_ggml(merged, to / MODEL_FILE)


def _engine(folder: Path, precision: str, forbids: bool) -> Engine:
    from mmtune.speech.export.engines import WhisperCpp

    return WhisperCpp(folder, forbids)


FORMAT = SpeechFormat(
    "ggml",
    "a folder with a file for whisper.cpp (fp16)",
    ("fp16",),
    precision_note="whisper.cpp's convolutions need it",
    write=_write,
    engine=_engine,
    use=lambda place: (
        f"use it with whisper.cpp: whisper-cli -m {shlex.quote(str(place / MODEL_FILE))} "
        "-f call.wav"
    ),
    engine_packages=("pywhispercpp",),
)
