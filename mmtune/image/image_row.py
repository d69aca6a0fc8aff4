"""`ImageRow`: a row of an image manifest."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from mmtune.data.rows import FILE_NAMES, SYNONYMS, Row
from mmtune.image.pictures.suffixes import readable_suffixes

SOURCE = "recording"  # key in `group`: the video that an imported frame was taken from


class ImageRow(Row):
    """One image with its caption.

    Attributes:
        image: path of the image.
        caption: what the image shows, in the words of a prompt.
        subject: the thing that the image shows ("apple" for a red and a green apple). Rows with
            the same subject stay in one split. None: the caption is the subject.
        mask: path of a mask of the same size; its black parts aren't trained on.
        captions: several captions of the image; training draws one of them in each epoch. Empty:
            there is only `caption`. A list as `caption` is the same; its first one is `caption`.
    """

    media: ClassVar[str] = "image"
    suffixes: ClassVar[tuple[str, ...]] = readable_suffixes()
    text_field: ClassVar[str] = "caption"
    other_texts: ClassVar[tuple[str, ...]] = ("captions", "subject")
    synonyms: ClassVar[tuple[frozenset[str], ...]] = (
        frozenset({"image", "image_path", "img"}) | FILE_NAMES,
        *SYNONYMS,
    )
    beside: ClassVar[tuple[str, ...]] = ("mask",)
    optional: ClassVar[tuple[str, ...]] = ("captions",)
    copies_are_bad: ClassVar[bool] = False  # an image may have more captions than one

    image: Annotated[str, Field(min_length=1)]
    caption: Annotated[str, Field(max_length=5_000)]
    subject: Annotated[str, Field(min_length=1)] | None = None
    mask: Annotated[str, Field(min_length=1)] | None = None
    captions: tuple[Annotated[str, Field(min_length=1, max_length=5_000)], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(listed := values.get("caption"), list):
            # Values of another type stay, so that the error names them.
            given = listed if all(isinstance(each, str) for each in listed) else None
            if given:
                values = {**values, "caption": given[0]}
                if len(given) > 1:
                    values.setdefault("captions", tuple(given))
        return values

    @property
    def wordings(self) -> tuple[str, ...]:
        """All captions of the image, `caption` among them."""
        return self.captions or (self.caption,)

    @property
    def reference(self) -> str:
        """The caption, which evaluation and reports use as the row's text."""
        return self.caption

    @property
    def leakage_keys(self) -> tuple[str, ...]:
        """Keys of the subject, or the caption if there is none, and of the video it was taken from.

        Rows that share one stay in one split.
        """
        words = " ".join((self.subject or self.caption).casefold().split())
        keys = [f"subject {words}"] if words else []
        if (video := self.group.get(SOURCE)) is not None:
            keys.append(f"recording {video}")
        return tuple(keys)
