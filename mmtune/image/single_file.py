"""Bases that are one .safetensors file, as A1111 and ComfyUI have them; it loads no weights.

Such a file holds the weights of a whole Stable Diffusion 1.x, 2.x or XL under their original names,
and no configuration: `assets/single-file` has one for each of them, so that nothing is downloaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from mmtune.errors import BaseModelError, first_line
from mmtune.system.base_name import SUFFIX
from mmtune.system.pointers import require_content
from mmtune.system.resources import resource

Prediction = Literal["epsilon", "v_prediction"]
Shapes = Mapping[str, tuple[int, ...]]
FOLDER = "give the folder of a diffusers pipeline instead"
DENOISER, VAE = "model.diffusion_model.", "first_stage_model."
TEXT = ("cond_stage_model.", "conditioner.embedders.")  # SDXL has the second
# Its spread tells the two kinds of Stable Diffusion 2: comfy/supported_models.py of ComfyUI, SD20.
SD2_BIAS = f"{DENOISER}output_blocks.11.1.transformer_blocks.0.norm1.bias"
SD2_SPREAD = 0.09
# Empty tensors by which tools that train Stable Diffusion on velocities mark their files.
VELOCITY, ZERO_SNR = "v_pred", "ztsnr"
SHIPPED = {"v1": "sd1", "v2": "sd2", "xl_base": "sdxl"}  # folders by diffusers' name of the kind
CHANNELS = f"{DENOISER}input_blocks.0.0.weight"
LATENTS = 4  # channels that a text-to-image UNet takes


@dataclass(frozen=True)
class SingleFile:
    """A base that is one file.

    Attributes:
        file: the weights.
        config: folder of a diffusers pipeline without weights, which describes them.
        shipped: whether `config` is one of mmtune's own, whose tokenizers are CLIP's.
        prediction: what the UNet predicts, where the file says it; None: as `config` says.
        zero_snr: whether the noise ends at a signal-to-noise ratio of zero.
    """

    file: Path
    config: Path
    shipped: bool = False
    prediction: Prediction | None = None
    zero_snr: bool = False


def open_single_file(file: Path, config: str | None) -> SingleFile:
    """Recognise a file by the names and shapes of its tensors.

    Args:
        file: exists.
        config: folder that describes it; None: one of mmtune's own.

    Raises:
        BaseModelError: the file is in another format, damaged, or no whole model of a kind that
            can be trained; or the folder is no diffusers pipeline.
    """
    if file.suffix.lower() == ".gguf":
        raise BaseModelError(
            f"{file} is quantized for inference (GGUF); adapters are trained on full weights",
            "give the .safetensors file that it was made from",
        )
    if file.suffix.lower() != SUFFIX:
        raise BaseModelError(
            f"{file} is a pickled checkpoint, which can run code when it is read; only "
            f"{SUFFIX} files are read",
            "give the model's .safetensors file; if there is none, convert it where you trust it, "
            "such as in A1111 (Checkpoint Merger, safetensors)",
        )
    require_content(file, BaseModelError)
    shapes, metadata = _header(file)
    prediction, zero_snr = _said_prediction(shapes, metadata)
    if config is not None:
        folder = Path(config).expanduser()
        if not (folder / "model_index.json").is_file():
            raise BaseModelError(
                f"--base-config {folder} holds no model_index.json: it is no diffusers pipeline",
                "give the folder of a diffusers pipeline of the same kind; its weights aren't read",
            )
        return SingleFile(file, folder, prediction=prediction, zero_snr=zero_snr)
    kind = kind_of(file, shapes)
    name = SHIPPED[kind]
    if kind == "v2":
        prediction = prediction or _sd2_prediction(file)
        if prediction == "v_prediction":
            name += "-v"
    return SingleFile(file, resource("assets", f"single-file/{name}"), True, prediction, zero_snr)


def kind_of(file: Path, shapes: Shapes) -> str:
    """Tell the kind of a whole model, by diffusers' rules: one of `SHIPPED`.

    Args:
        file: for messages.
        shapes: of its tensors, by name.

    Raises:
        BaseModelError: it is no whole model, or of another kind.
    """
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type

    if any(".lora_" in key or "lora_" in key.split(".")[0] for key in shapes):
        raise BaseModelError(
            f"{file} is an adapter, not a base model",
            "give it as --adapter, and its base as --base",
        )
    checkpoint = {key: SimpleNamespace(shape=shape) for key, shape in shapes.items()}
    kind = infer_diffusers_model_type(checkpoint)
    others = f"single files of Stable Diffusion 1.x, 2.x and SDXL can be trained; {FOLDER}"
    if kind not in SHIPPED:  # "v1" is also its answer to what it doesn't know
        raise BaseModelError(f"{file} is a model of the kind {kind!r}", others)
    if CHANNELS not in shapes:
        part = any(key.startswith(("down_blocks.", "encoder.", "text_model.")) for key in shapes)
        raise BaseModelError(
            f"{file} is " + ("one part of a model" if part else "of no kind that is known"),
            FOLDER if part else others,
        )
    if shapes[CHANNELS][1] != LATENTS:
        raise BaseModelError(
            f"{file} takes {shapes[CHANNELS][1]} channels, not {LATENTS}: it edits or inpaints "
            "images",
            "give the text-to-image model that it was made from",
        )
    lacking = [
        name
        for name, prefixes in (("autoencoder (VAE)", (VAE,)), ("text encoder", TEXT))
        if not any(key.startswith(prefixes) for key in shapes)
    ]
    if lacking:
        raise BaseModelError(
            f"{file} holds no {' and no '.join(lacking)}",
            f"give a checkpoint that holds the whole model, or {FOLDER.removeprefix('give ')}",
        )
    return str(kind)


def _said_prediction(shapes: Shapes, metadata: Mapping[str, str]) -> tuple[Prediction | None, bool]:
    said = metadata.get("modelspec.prediction_type", "")  # Stability's ModelSpec
    if VELOCITY in shapes or said in ("v", "v_prediction"):
        return "v_prediction", ZERO_SNR in shapes
    return ("epsilon" if said == "epsilon" else None), ZERO_SNR in shapes


def _sd2_prediction(file: Path) -> Prediction:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        spread = opened.get_tensor(SD2_BIAS).float().std(unbiased=False)
    return "v_prediction" if float(spread) > SD2_SPREAD else "epsilon"


def _header(file: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as opened:
            shapes = {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
            return shapes, dict(opened.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise BaseModelError(
            f"{file} is damaged: {first_line(error)}", "copy or download it again"
        ) from None


def clip_tokenizer(folder: Path) -> Any:
    """Make CLIP's tokenizer, with the settings of a folder's `tokenizer_config.json`.

    The vocabulary has 256 bytes, the same at the end of a word, one word for each merge, start and
    end (https://github.com/openai/CLIP, `clip/simple_tokenizer.py`).
    """
    import gzip

    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())  # in CLIP's order: bytes that can be printed first
    packed = resource("assets", "clip-bpe/merges.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += [first + second for first, second in merges] + ["<|startoftext|>", "<|endoftext|>"]
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings.pop("tokenizer_class")
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=merges, **settings)
