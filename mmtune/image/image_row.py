"""`ImageRow`: a row of an image manifest."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from mmtune.data.rows import FILE_NAMES, SYNONYMS, Row


class ImageRow(Row):
    """One image with its caption.

    Attributes:
        image: path of the image.
        caption: what the image shows, in the words of a prompt.
        subject: the thing that the image shows ("apple" for a red and a green apple). Rows with
            the same subject stay in one split. None: the caption is the subject.
        mask: path of a mask of the same size; its black parts aren't trained on.
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
        """The caption, which evaluation and reports use as the row's text."""
        return self.caption

    @property
    def leakage_keys(self) -> tuple[str, ...]:
        """The subject, or the caption if there is none; rows that share it stay in one split."""
        words = " ".join((self.subject or self.caption).casefold().split())
        return (f"subject {words}",) if words else ()
