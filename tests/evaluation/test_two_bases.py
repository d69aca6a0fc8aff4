"""Requests reach the base on which their adapter stands, in order and in whole batches."""

from __future__ import annotations

from collections.abc import Sequence

from mmtune.evaluation.two_bases import TwoBases
from mmtune.predict import Prediction, Request
from mmtune.speech.speech_row import SpeechRow


class Named:
    """Answers with its name; its batches hold two requests."""

    def __init__(self, name: str) -> None:
        self.fingerprint = self.name = name
        self.asked: list[int] = []

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        self.asked.append(len(requests))
        return [Prediction(each.row.id, f"{self.name} {each.row.id}") for each in requests]

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        return [[*range(i, min(i + 2, len(requests)))] for i in range(0, len(requests), 2)]


def request(name: str, *adapters: str) -> Request:
    return Request(SpeechRow(id=name, audio="a", text=""), dict.fromkeys(adapters, 1.0))


def test_each_request_reaches_its_base() -> None:
    first, second = Named("first"), Named("second")
    both = TwoBases(first, second, "other")
    asked = [request("a", "adapter"), request("b", "other"), request("c"), request("d", "other"),
             request("e", "adapter")]  # fmt: skip
    assert [each.value for each in both.predict(asked)] == [
        "first a", "second b", "first c", "second d", "first e",
    ]  # fmt: skip
    assert both.batches(asked) == [[0, 2], [4], [1, 3]]
    assert both.predict(asked[:1])[0].value == "first a"
    assert (first.asked, second.asked) == ([3, 1], [2])
    assert both.fingerprint != TwoBases(second, first, "other").fingerprint
