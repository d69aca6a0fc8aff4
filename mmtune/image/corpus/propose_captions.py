"""Proposed captions for images that have none: from file names, or by an image-to-text model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmtune.data.manifest import BY_SPLIT, WHOLE
from mmtune.errors import BaseModelError, ConfigError, DataError, first_line
from mmtune.image.corpus.caption_files import CaptionFiles, first_filled
from mmtune.image.corpus.caption_metadata import metadata_of
from mmtune.image.corpus.caption_sources import caption_from_name, file_beside
from mmtune.image.corpus.folders import image_files
from mmtune.image.corpus.kohya_captions import kohya_captions
from mmtune.image.corpus.shared_names import unlike_names
from mmtune.image.pictures.pixels import decoded
from mmtune.system.files import write_new_text
from mmtune.system.inside import leads_out

if TYPE_CHECKING:
    from PIL.Image import Image

Captioner = Callable[[Path], str]  # an image file to its caption; "" if it has none to propose
Outcome = Literal["new", "kept", "nothing", "failed"]

PROMPT = "Describe what this image shows in one short sentence."
MAX_TOKENS = 48  # CLIP reads 77; one sentence is enough for a caption
MAX_CHARACTERS = 500

# Numbers, sizes (1024x768), versions (v2), and hashes: six or more hexadecimal digits, at least
# one of them a decimal digit.
_NO_WORD = re.compile(
    r"\d+|\d+x\d+|v\d+|(?=[a-f]*\d)[0-9a-f]{6,}|final|"
    # How the file was made, and of what kind it is: "moon 16bit", "apple sRGB", "logo @2x".
    r"\d+(?:bit|bpc|bpp|dpi|ppi|px|k|mp|x)|bit|dpi|ppi|px|s?rgba?|cmyk|adobergb|displayp3|hdr|"
    r"png|jpe?g|tiff?|gif|webp|avif|heic|bmp|psd|svg|hires|lowres|thumb|thumbnail|preview",
    re.IGNORECASE,
)
_BREAK = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Proposal:
    """The result for one image.

    Attributes:
        image: path of the image.
        file: path of the .txt file beside it.
        outcome: "new" (a caption is proposed, and written unless this is a dry run), "kept" (the
            image has a caption already), "nothing" (the captioner proposed none) or "failed" (the
            image can't be read).
        caption: the proposed caption; for "failed" the error.
    """

    image: Path
    file: Path
    outcome: Outcome
    caption: str = ""


def proposal_from_name(stem: str, is_name: Callable[[str], bool] = lambda name: False) -> str:
    """Propose a caption from a file's name: its words without numbers, sizes, versions and hashes.

    Marks of a copy, and words that only tell of the file's format, are left out, too.

    A proposal is reviewed, so every part that may be no word is left out. For an
    image without a caption file, `mmtune.image.corpus.caption_sources.caption_from_name` keeps
    more: only a counter at the end and marks of a copy are removed.

    Args:
        stem: the file's name without suffix.
        is_name: whether another file has this name; see `without_copy_mark`.

    Returns:
        "red apple" for "0041_red-apple_3f9ac04e"; "" if no word is left, as for "IMG_2041".
    """
    name = caption_from_name(stem, is_name)
    return " ".join(word for word in _BREAK.split(name) if word and not _NO_WORD.fullmatch(word))


def by_name(image: Path) -> str:
    """Caption an image by its file's name alone, see `proposal_from_name`.

    Raises:
        DataError: the image can't be read.
    """
    with decoded(image, reduced=True):
        return proposal_from_name(image.stem, file_beside(image))


class ModelCaptioner:
    """Captions images with an image-to-text model of transformers: BLIP, GIT, LLaVA, Qwen-VL …

    Args:
        model: hub id or folder of a model with safetensors; code of the model is never run.
        prompt: prompt for the model. None: no prompt, or `PROMPT` for a chat model.

    Raises:
        BaseModelError: the model can't be found or loaded, or isn't an image-to-text model.
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
                self.processor = AutoProcessor.from_pretrained(model, trust_remote_code=False)
                loaded = AutoModelForImageTextToText.from_pretrained(
                    model, dtype=self.dtype, use_safetensors=True, trust_remote_code=False
                )
        except Exception as error:  # transformers and the hub raise many kinds
            if isinstance(error, OSError) and not Path(model).exists():
                raise BaseModelError(
                    f"{model} is not on this machine and can't be downloaded from the hub "
                    f"({first_line(error)})",
                    "connect to the hub, or name the folder of an image-to-text model: --model "
                    "FOLDER, or leave out --model to use file names",
                ) from None
            raise BaseModelError(
                f"{model} can't be loaded as an image captioner: {first_line(error)}",
                "name an image-to-text model with safetensors, such as "
                "Salesforce/blip-image-captioning-base, or leave out --model to use file names",
            ) from None
        self.model = loaded.to(self.device).eval()

    def __call__(self, path: Path) -> str:
        """Caption an image file by greedy decoding.

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
            prompt = inputs.get("input_ids")
            # Decoder-only models return the prompt, followed by the answer.
            if prompt is not None and torch.equal(ids[:, : prompt.shape[1]], prompt):
                ids = ids[:, prompt.shape[1] :]
            text = self.processor.batch_decode(ids, skip_special_tokens=True)[0]
        except Exception as error:  # each processor raises its own kinds
            raise BaseModelError(
                f"{self.name} can't caption {path}: {first_line(error)}",
                "give the --prompt that the model's page names, such as <CAPTION>, or choose "
                "another --model",
            ) from None
        return one_line(str(text))

    def _inputs(self, image: Image) -> Any:
        if getattr(self.processor, "chat_template", None):
            question = {"type": "text", "text": self.prompt or PROMPT}
            content = [{"type": "image", "image": image}, question]
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
    """Make a caption of a model's answer: its first paragraph on one line.

    The caption has at most `MAX_CHARACTERS` characters, and no quotation marks around it.
    """
    paragraph = text.strip().split("\n\n")[0]
    return " ".join(paragraph.split())[:MAX_CHARACTERS].strip().strip("\"'")


def propose(folder: Path, captioner: Captioner, *, write: bool = True) -> Iterator[Proposal]:
    """Propose captions for the images of a folder that have none; no file is overwritten.

    An image also has a caption if the folder's metadata names one. Masks and files of other tools
    get none. A name that many unlike pictures share (`unlike_names`) is no proposal.

    Args:
        folder: searched recursively.
        captioner: proposes the captions.
        write: write each caption into the .txt file that has the image's name.

    Yields:
        One proposal per image.

    Raises:
        ConfigError: `folder` is no folder, holds no images or has a manifest (with a manifest, no
            .txt file is read), or can't be written to.
        BaseModelError: from the captioner.
    """
    if not folder.is_dir():
        raise ConfigError(f"no such folder: {folder}", "name a folder of images")
    manifest = next((n for n in (WHOLE, *BY_SPLIT) if (folder / n).is_file()), None)
    if manifest:
        raise ConfigError(
            f"{folder / manifest} already lists these images with their captions",
            "write captions into the manifest; .txt files beside a manifest are not read",
        )
    names = CaptionFiles(folder)
    files = [relative for _, relative in image_files(folder, names).rows]
    if not files:
        raise ConfigError(f"{folder} holds no images", "name a folder of images")
    stated = {Path(place) for place, row in metadata_of(folder)[0].items() if row.get("caption")}
    stated |= kohya_captions(folder, names.files, files)[0].keys()
    shared = unlike_names(folder, files) if captioner is by_name else []
    nameless = {relative for each in shared for relative in each.images}
    planned: set[Path] = set()
    for relative in files:
        image = folder / relative
        file = image.with_suffix(".txt")
        known = relative in stated or file in planned or file.exists()
        # A caption file that is empty, or that can't be read, is the user's all the same.
        beside = (
            text or place.suffix.lower() != ".json"
            for place, text in first_filled(names.of(image), folder, str(relative))
        )
        if known or any(beside):
            yield Proposal(image, file, "kept")
            continue
        if relative in nameless:
            yield Proposal(image, file, "nothing")
            continue
        if leads_out(folder, image):
            yield Proposal(image, file, "failed", f"{image} is a link that leads out of {folder}")
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
    return "new" if write_new_text(file, caption + "\n") else "kept"
