"""Run by test_lost_process.py as one of two processes; the second dies or hangs in mid-training."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmtune.errors import TrainingError
from mmtune.prefix.stage import Tensors
from mmtune.system.processes import this_process, together
from mmtune.training.loop import fit
from mmtune.training.randomness import Draw
from mmtune.training.task import Batch, Example
from tests.training.test_loop import options
from tests.training.toy import ToyTask, rows


class Lost(ToyTask):
    """Its third batch never comes."""

    batches = 0

    def collate(
        self,
        examples: Sequence[Example],
        tensors: Sequence[Mapping[str, Tensors]],
        draws: Sequence[Draw],
    ) -> Batch:
        self.batches += 1
        if self.batches > 8 and not this_process().is_main_process:
            if sys.argv[2] == "dies":
                os._exit(9)
            time.sleep(600)
        return super().collate(examples, tensors, draws)


try:
    with together():
        fit(Lost(buckets=2), rows(21), rows(5, "held"), options(epochs=20), Path(sys.argv[1]))
except TrainingError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
