"""What a base reads of captions and images, from its small files: no weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.errors import BaseModelError, first_line

ENDLESS = 100_000  # tokens: what a tokenizer without a limit claims is far more
DENOISERS = ("unet", "transformer")
VAE_SCALE = 8  # pixels of a latent's value, where the autoencoder doesn't say


@dataclass(frozen=True)
class TextRoom:
    """How much of a caption a base's text encoders read.

    Attributes:
        tokenizer: of the encoder that reads most; what it cuts off, none of them reads.
        tokens: that it reads, start and end included (77 for CLIP).
    """

    tokenizer: Any
    tokens: int

    def cut(self, caption: str) -> tuple[int, str]:
        """How many tokens `caption` has, and the words of it that are cut off ("" for none)."""
        caption = caption.strip()
        ids = self.tokenizer(caption)["input_ids"]
        tokens = len(ids)
        if tokens <= self.tokens:
            return tokens, ""
        if not self.tokenizer.is_fast:  # it can't say where in the caption a token stands
            cut = self.tokenizer.decode(ids[self.tokens - 1 :], skip_special_tokens=True)
            return tokens, str(cut).strip() or caption[-1:]
        kept = self.tokenizer(
            caption, truncation=True, max_length=self.tokens, return_offsets_mapping=True
        )
        end = max(last for _, last in kept["offset_mapping"])
        while 0 < end < len(caption) and caption[end - 1 : end + 1].isalnum():
            end -= 1  # of a word that is cut in two, all is shown
        return tokens, caption[end:].strip()


@dataclass(frozen=True)
class Limits:
    """What a base takes: `resolution` is the side of its squares in pixels, if it says one."""

    room: TextRoom | None
    resolution: int | None


def read_limits(base: str) -> Limits:
    """The limits of a base: a hub id, a local folder or a starter.

    Raises:
        BaseModelError: it can't be found, or a file of it can't be read.
    """
    from mmtune.image.source import read_index, resolve_base

    source = resolve_base(base)
    index = read_index(source)
    rooms = [_room(base, source, name) for name in index if name.startswith("tokenizer")
             and _present(index, name)]  # fmt: skip
    return Limits(
        max((room for room in rooms if room), key=lambda room: room.tokens, default=None),
        _resolution(source, index),
    )


def _present(index: Mapping[str, Any], name: str) -> bool:
    value = index.get(name)
    return isinstance(value, list) and len(value) == 2 and value[0] is not None


def _room(base: str, source: Path | str, name: str) -> TextRoom | None:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, subfolder=name)
        tokens = int(tokenizer.model_max_length)
    except Exception as error:  # transformers and the hub raise many kinds
        from mmtune.image.source import STARTER_HINT

        raise BaseModelError(
            f"{base}: its {name} can't be read: {first_line(error)}",
            f"complete the folder, or {STARTER_HINT}",
        ) from None
    return TextRoom(tokenizer, tokens) if tokens < ENDLESS else None


def _resolution(source: Path | str, index: Mapping[str, Any]) -> int | None:
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
