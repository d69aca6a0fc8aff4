"""What evaluation, validation and the commands share: predictors, and metrics of their output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from mmtune.data.rows import Row


@dataclass(frozen=True)
class Request:
    """One item to predict.

    Attributes:
        row: the item.
        adapters: weight by adapter name; empty is the base model.
        seed: for what is sampled (an image); greedy decoding ignores it.
    """

    row: Row
    adapters: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Prediction:
    """What a model gave for one request: a transcript (`str`) or an image (`PIL.Image.Image`).

    `seconds` is how long it took, as this model alone would take; two that differ in it alone are
    equal. 0: it wasn't measured.
    """

    row: str
    value: Any
    details: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = field(default=0.0, compare=False)


class Predictor(Protocol):
    """A base model with its adapters, ready to answer."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that an answer depends on besides its request."""
        ...

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """One prediction for each request, in order."""
        ...


@runtime_checkable
class BatchedPredictor(Predictor, Protocol):
    """A predictor that says which requests it computes together."""

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """Places of requests, each in one batch, ascending in it.

        `predict` of one batch by itself gives the bits that `predict` of all requests gives, so
        that batches can be shared out among processes.
        """
        ...
