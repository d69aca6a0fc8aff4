"""`mmtune` that writes down who is asked how much, and may die: run by test_processes.py.

Arguments: the file to write to, the call of `predict` before which to die (-1: none), a command.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmtune.cli import main
from mmtune.image.generate import ImagePredictor
from mmtune.predict import Request
from mmtune.speech import predictor as speech

ASKED = Path(sys.argv[1])
DIE_AT = int(sys.argv[2])
calls = 0


def watch(kind: type[Any]) -> None:
    answer = kind.predict

    def predict(self: Any, requests: Sequence[Request]) -> Any:
        global calls
        calls += 1
        if calls == DIE_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        with ASKED.open("a", encoding="utf-8") as file:
            file.write(f"{os.environ.get('RANK', '0')} {len(requests)}\n")
        return answer(self, requests)

    kind.predict = predict


speech.BATCH = 2  # so that a few rows are several batches
watch(speech.SpeechPredictor)
watch(ImagePredictor)
sys.exit(main(sys.argv[3:]))
