"""Limits of a base on captions and image sizes, read from its small files without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmtune.errors import BaseModelError, first_line

if TYPE_CHECKING:
    from mmtune.image.source import Source

UNLIMITED_TOKENS = 100_000  # tokenizers without a limit report a far larger number of tokens
DENOISERS = ("unet", "transformer")
VAE_SCALE = 8  # pixels per latent position along a side, if the autoencoder doesn't say


@dataclass(frozen=True)
class TextLimit:
    """The longest caption that a base's text encoders read.

    Attributes:
        tokenizer: tokenizer of the encoder that reads most; no other encoder reads what it cuts.
        tokens: tokens that this encoder reads, with start and end (77 for CLIP).
    """

    tokenizer: Any
    tokens: int

    def cut_off(self, caption: str) -> tuple[int, str]:
        """Count the tokens of `caption`, and find the words that are cut off.

        Returns:
            The number of tokens, and the end of the caption that no encoder reads ("" for none).
        """
        caption = caption.strip()
        ids = self.tokenizer(caption)["input_ids"]
        tokens = len(ids)
        if tokens <= self.tokens:
            return tokens, ""
        if not self.tokenizer.is_fast:  # slow tokenizers can't map tokens to positions
            cut = self.tokenizer.decode(ids[self.tokens - 1 :], skip_special_tokens=True)
            return tokens, str(cut).strip() or caption[-1:]
        kept = self.tokenizer(
            caption, truncation=True, max_length=self.tokens, return_offsets_mapping=True
        )
        end = max(last for _, last in kept["offset_mapping"])
        while 0 < end < len(caption) and caption[end - 1 : end + 1].isalnum():
            end -= 1  # show the whole of a word that is cut in two
        return tokens, caption[end:].strip()


@dataclass(frozen=True)
class Limits:
    """Limits of a base on its inputs.

    Attributes:
        text: limit on captions; None: the tokenizers have none.
        resolution: side in pixels of the square images that the base was trained on; None: its
            configuration doesn't say.
    """

    text: TextLimit | None
    resolution: int | None


def read_limits(base: str) -> Limits:
    """Read the limits of a base.

    Args:
        base: a hub id, a local folder, a single file or a starter.

    Raises:
        BaseModelError: the base can't be found, or one of its files can't be read.
    """
    from mmtune.image.source import read_index, resolve_base

    source = resolve_base(base)
    index = read_index(source)
    limits = [_text_limit(base, source, name) for name in index if name.startswith("tokenizer")
             and _present(index, name)]  # fmt: skip
    return Limits(
        max((text for text in limits if text), key=lambda text: text.tokens, default=None),
        _resolution(source, index),
    )


def _present(index: Mapping[str, Any], name: str) -> bool:
    value = index.get(name)
    return isinstance(value, list) and len(value) == 2 and value[0] is not None


def _text_limit(base: str, source: Source, name: str) -> TextLimit | None:
    from transformers import AutoTokenizer

    from mmtune.image.single_file import SingleFile, clip_tokenizer

    try:
        if isinstance(source, SingleFile) and source.shipped:
            tokenizer = clip_tokenizer(source.config / name)
        else:
            place = source.config if isinstance(source, SingleFile) else source
            tokenizer = AutoTokenizer.from_pretrained(place, subfolder=name)
        tokens = int(tokenizer.model_max_length)
    except Exception as error:  # transformers and the hub raise many kinds
        from mmtune.image.source import STARTER_HINT

        raise BaseModelError(
            f"{base}: its {name} can't be read: {first_line(error)}",
            f"copy the missing files of {name} into the folder, or {STARTER_HINT}",
        ) from None
    return TextLimit(tokenizer, tokens) if tokens < UNLIMITED_TOKENS else None


def _resolution(source: Source, index: Mapping[str, Any]) -> int | None:
    part = next((name for name in DENOISERS if _present(index, name)), None)
    if part is None:
        return None
    from mmtune.image.source import read_json

    size = read_json(source, f"{part}/config.json").get("sample_size")
    if isinstance(size, list) and size:
        size = min(size)
    if not isinstance(size, int):
        return None
    vae = read_json(source, "vae/config.json") if _present(index, "vae") else {}
    blocks = vae.get("block_out_channels")
    return size * (2 ** (len(blocks) - 1) if blocks else VAE_SCALE)
