"""Two adapters on different bases, asked as one predictor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from mmtune.predict import BatchedPredictor, Prediction, Request
from mmtune.system.hashing import hash_json

P = TypeVar("P", bound=BatchedPredictor)


class TwoBases(Generic[P]):
    """A predictor that gives each request to the base on which its adapter stands.

    Args:
        first: answers all other requests.
        second: answers the requests with the adapter `name`.
        name: the adapter's name in requests.
    """

    def __init__(self, first: P, second: P, name: str) -> None:
        self.first, self.second, self.name = first, second, name

    @property
    def fingerprint(self) -> str:
        """Hash of everything except the request that an answer depends on."""
        return hash_json([self.first.fingerprint, self.second.fingerprint, self.name])

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """Give one prediction for each request, in order."""
        found: dict[int, Prediction] = {}
        for predictor, places in self._divided(requests):
            answers = predictor.predict([requests[i] for i in places]) if places else []
            found |= dict(zip(places, answers, strict=True))
        return [found[i] for i in range(len(requests))]

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """The batches of both predictors."""
        return [
            [places[i] for i in batch]
            for predictor, places in self._divided(requests)
            if places
            for batch in predictor.batches([requests[i] for i in places])
        ]

    def _divided(self, requests: Sequence[Request]) -> list[tuple[P, list[int]]]:
        places: dict[bool, list[int]] = {False: [], True: []}
        for i, request in enumerate(requests):
            places[self.name in request.adapters].append(i)
        return [(self.first, places[False]), (self.second, places[True])]
