"""What the model made of a few validation rows, for a tracker to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

MAX_SAMPLES = 8  # rows of one validation that a tracker shows


@dataclass(frozen=True)
class Sample:
    """The output for one validation row.

    Attributes:
        name: the row's id, or another short name.
        expected: the reference text or the prompt.
        text: what the model wrote; empty for a model of images.
        picture: what the model drew, [height, width, 3] uint8; None: no picture.
        sound: the recording, [samples] float32; given once, with the base's output.
        rate: samples per second of `sound`.
    """

    name: str
    expected: str
    text: str = ""
    picture: NDArray[Any] | None = None
    sound: NDArray[Any] | None = None
    rate: int = 0


@runtime_checkable
class ShowsSamples(Protocol):
    """A task whose validation can be looked at or heard."""

    def samples(self, *, sounds: bool) -> Sequence[Sample]:
        """Return the output for the first rows of the last validation, `MAX_SAMPLES` at most.

        Args:
            sounds: also read the rows' recordings.
        """
        ...
