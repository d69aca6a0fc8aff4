"""Predictors: the interface that evaluation, validation and the commands use to ask models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from mmtune.data.rows import Row


@dataclass(frozen=True)
class Request:
    """A request for one prediction.

    Attributes:
        row: the item.
        adapters: weights by adapter name; empty for the base model.
        seed: random seed for sampling (an image); greedy decoding ignores it.
    """

    row: Row
    adapters: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Prediction:
    """A model's answer to one request: a transcript (`str`) or an image (`PIL.Image.Image`).

    `seconds` is the time that this model alone needs for the answer; 0 means not measured.
    Predictions that differ only in their time are equal.
    """

    row: str
    value: Any
    details: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = field(default=0.0, compare=False)


class Predictor(Protocol):
    """A loaded base model with its adapters, ready to answer requests."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that an answer depends on, apart from its request."""
        ...

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """Give one prediction for each request, in order."""
        ...


@runtime_checkable
class BatchedPredictor(Predictor, Protocol):
    """A predictor that tells which requests it computes together."""

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """Group the indices of requests into batches, ascending within each batch.

        `predict` gives the same bits for a batch alone as for all requests together, so that
        several processes can share the batches.
        """
        ...
