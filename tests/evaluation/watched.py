"""`mmtune evaluate` that writes down who is asked how much, and may die: see test_processes.py.

Arguments: the call of `predict` before which to die (-1: none), and runs. Each run's folder gets
`asked`, with a line for each call: the process and the number of requests.
"""

import os
import signal
import sys
from collections.abc import Sequence
from functools import partialmethod
from pathlib import Path
from typing import Any

from mmtune.cli import main
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.predict import Request
from mmtune.speech.transcription import predictor as speech


def watch(kind: type[Any], asked: Path, die_at: int) -> None:
    answer = kind.predict
    calls = 0

    def predict(self: Any, requests: Sequence[Request]) -> Any:
        nonlocal calls
        calls += 1
        if calls == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        with asked.open("a", encoding="utf-8") as file:
            file.write(f"{os.environ.get('RANK', '0')} {len(requests)}\n")
        return answer(self, requests)

    kind.predict = predict


if __name__ == "__main__":
    few = partialmethod(speech.SpeechPredictor.__init__, batch_size=2)  # several batches
    speech.SpeechPredictor.__init__ = few  # type: ignore[method-assign, assignment]
    for run in sys.argv[2:]:
        plain = speech.SpeechPredictor.predict, ImagePredictor.predict
        for each in (speech.SpeechPredictor, ImagePredictor):
            watch(each, Path(run) / "asked", int(sys.argv[1]))
        assert main(["evaluate", run, "--fresh"]) == 0
        speech.SpeechPredictor.predict, ImagePredictor.predict = plain  # type: ignore[method-assign]
