"""Run by `accelerate launch` from test_loop.py."""

import sys
from pathlib import Path

from mmtune.train.loop import fit
from tests.train.test_loop import options
from tests.train.toy import ToyTask, rows

fit(ToyTask(buckets=2), rows(21), rows(5, "held"), options(), Path(sys.argv[1]))
