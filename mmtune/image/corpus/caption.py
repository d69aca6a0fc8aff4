"""Proposing captions for images that have none: from their names, or by a model that looks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmtune.data.manifest import BY_SPLIT, WHOLE
from mmtune.errors import BaseModelError, ConfigError, DataError, first_line
from mmtune.image.corpus.folders import (
    caption_beside,
    caption_from_name,
    image_files,
    metadata_of,
)

if TYPE_CHECKING:
    from PIL.Image import Image

Captioner = Callable[[Path], str]  # a file to its caption; "" where it has nothing to say
Outcome = Literal["new", "kept", "nothing", "failed"]

PROMPT = "Describe what this image shows in one short sentence."
MAX_TOKENS = 48  # CLIP reads 77, and a caption needs no more than a sentence
MAX_LETTERS = 500

# Numbers, sizes (1024x768), versions (v2), and hashes: six or more hexadecimal digits with one
# of the ten among them.
_NO_WORD = re.compile(r"\d+|\d+x\d+|v\d+|(?=[a-f]*\d)[0-9a-f]{6,}|copy", re.IGNORECASE)
_BREAK = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Proposal:
    """What became of one image.

    Attributes:
        image: its path.
        file: the .txt beside it.
        outcome: "new" (written, unless it was only asked for), "kept" (it has a caption already),
            "nothing" (there was nothing to say) or "failed" (it can't be read).
        caption: the proposed one; where it failed, why.
    """

    image: Path
    file: Path
    outcome: Outcome
    caption: str = ""


def words_of_name(stem: str) -> str:
    """The words in a file's name, without numbers, sizes, versions and hashes.

    "0041_red-apple_3f9ac04e" gives "red apple"; "" where nothing is left, as of "IMG_2041".
    """
    name = caption_from_name(stem)
    return " ".join(word for word in _BREAK.split(name) if word and not _NO_WORD.fullmatch(word))


def by_name(image: Path) -> str:
    """The captioner that needs no model: `words_of_name`."""
    return words_of_name(image.stem)


class ModelCaptioner:
    """Any of transformers' image-to-text models: BLIP, GIT, LLaVA, Qwen-VL …

    Args:
        model: a hub id or a folder with safetensors; code that comes with it is never run.
        prompt: what the model is asked; None: nothing, or `PROMPT` if it expects a conversation.

    Raises:
        BaseModelError: it can't be found or loaded, or is of another kind.
    """

    def __init__(self, model: str, prompt: str | None = None) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        from mmtune.system.precision import DTYPES, choose_precision
        from mmtune.system.processes import pick_device
        from mmtune.system.quiet import quiet

        self.name, self.prompt, self.device = model, prompt, pick_device()
        self.dtype = DTYPES[choose_precision("auto", self.device)]
        try:
            with quiet():
                self.processor = AutoProcessor.from_pretrained(model)
                loaded = AutoModelForImageTextToText.from_pretrained(
                    model, dtype=self.dtype, use_safetensors=True
                )
        except Exception as error:  # transformers and the hub raise many kinds
            raise BaseModelError(
                f"{model} can't be loaded as an image captioner: {first_line(error)}",
                "name an image-to-text model with safetensors, such as "
                "Salesforce/blip-image-captioning-base, or leave out --model",
            ) from None
        self.model = loaded.to(self.device).eval()

    def __call__(self, path: Path) -> str:
        """The caption of an image, decoded greedily.

        Raises:
            DataError: the image can't be read.
            BaseModelError: the model doesn't take an image, or needs another prompt.
        """
        import torch

        from mmtune.image.pictures.pixels import open_image

        image = open_image(path)
        try:
            inputs = self._inputs(image).to(self.device)
            if "pixel_values" in inputs:
                inputs["pixel_values"] = inputs["pixel_values"].to(self.dtype)
            with torch.inference_mode():
                ids = self.model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
            asked = inputs.get("input_ids")
            # Decoders give back what they were asked, and then the answer.
            if asked is not None and torch.equal(ids[:, : asked.shape[1]], asked):
                ids = ids[:, asked.shape[1] :]
            text = self.processor.batch_decode(ids, skip_special_tokens=True)[0]
        except Exception as error:  # each processor raises what it misses
            raise BaseModelError(
                f"{self.name} can't caption {path}: {first_line(error)}",
                "give the --prompt that its page names, such as <CAPTION>, or another --model",
            ) from None
        return one_line(str(text))

    def _inputs(self, image: Image) -> Any:
        if getattr(self.processor, "chat_template", None):
            asked = {"type": "text", "text": self.prompt or PROMPT}
            content = [{"type": "image", "image": image}, asked]
            return self.processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        words = {} if self.prompt is None else {"text": self.prompt}
        return self.processor(images=image, return_tensors="pt", **words)


def one_line(text: str) -> str:
    """What a model said as a caption: its first paragraph on one line, of bounded length."""
    paragraph = text.strip().split("\n\n")[0]
    return " ".join(paragraph.split())[:MAX_LETTERS].strip().strip("\"'")


def propose(folder: Path, captioner: Captioner, *, write: bool = True) -> Iterator[Proposal]:
    """Caption the images of a folder that have no caption file; nothing is ever overwritten.

    An image whose caption stands in the folder's metadata has one too.

    Args:
        folder: with all folders in it.
        captioner: what proposes.
        write: put each caption into the .txt of the image's name.

    Raises:
        ConfigError: no folder, no image in it, or a manifest, beside which no .txt is read.
        BaseModelError: from the captioner.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder", "name a folder of images")
    manifest = next((n for n in (WHOLE, *BY_SPLIT) if (folder / n).is_file()), None)
    if manifest:
        raise ConfigError(
            f"{folder / manifest} holds the captions of these images",
            "write them there; .txt files beside a manifest are not read",
        )
    files, _ = image_files(folder)
    if not files:
        raise ConfigError(f"{folder} holds no images", "name a folder of images")
    told = {place for place, row in metadata_of(folder)[0].items() if row.get("caption")}
    planned: set[Path] = set()
    for _, relative in files:
        image = folder / relative
        file = image.with_suffix(".txt")
        known = str(relative) in told or file in planned or file.exists()
        if known or caption_beside(image) is not None:
            yield Proposal(image, file, "kept")
            continue
        try:
            caption = captioner(image)
        except DataError as error:
            yield Proposal(image, file, "failed", str(error))
            continue
        if not caption:
            yield Proposal(image, file, "nothing")
            continue
        planned.add(file)
        yield Proposal(image, file, _write(file, caption) if write else "new", caption)


def _write(file: Path, caption: str) -> Outcome:
    try:
        with file.open("x", encoding="utf-8") as opened:  # never over one that came meanwhile
            opened.write(caption + "\n")
    except FileExistsError:
        return "kept"
    except OSError as error:
        raise ConfigError(f"{file} can't be written: {error}", "make the folder writable") from None
    return "new"
