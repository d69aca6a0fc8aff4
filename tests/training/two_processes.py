"""Run by torchrun from test_loop.py."""

import sys
from pathlib import Path

from mmtune.system.processes import this_process
from mmtune.training.loop import fit
from tests.training.test_loop import options
from tests.training.toy import ToyTask, rows

folder = Path(sys.argv[1])
fit(ToyTask(buckets=2), rows(21), rows(5, "held"), options(), folder)
if this_process().is_main_process:
    (folder / "processes").write_text(str(this_process().num_processes))
