"""A row of an image manifest."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from mmtune.data.rows import FILE_NAMES, SYNONYMS, Row


class ImageRow(Row):
    """One image with its caption.

    Attributes:
        image: path of the picture.
        caption: what it shows, in the words that a prompt would use.
        subject: what a row must not share with another split ("apple" for a red and a green
            apple); None: the caption.
        mask: path of a picture of the same size: what is black in it isn't trained on.
    """

    media: ClassVar[str] = "image"
    synonyms: ClassVar[tuple[frozenset[str], ...]] = (
        frozenset({"image", "image_path", "img"}) | FILE_NAMES,
        *SYNONYMS,
    )
    beside: ClassVar[tuple[str, ...]] = ("mask",)

    image: Annotated[str, Field(min_length=1)]
    caption: Annotated[str, Field(max_length=5_000)]
    subject: Annotated[str, Field(min_length=1)] | None = None
    mask: Annotated[str, Field(min_length=1)] | None = None

    @property
    def reference(self) -> str:
        """The caption."""
        return self.caption

    @property
    def leakage_keys(self) -> tuple[str, ...]:
        """The subject, or the caption where none is named."""
        words = " ".join((self.subject or self.caption).casefold().split())
        return (f"subject {words}",) if words else ()
