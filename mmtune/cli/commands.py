"""What each command does: a function of its parsed arguments that returns an exit code.

Each imports what it needs, so that `mmtune check` needs no torch.
"""

from __future__ import annotations

from mmtune.cli.adapters import compose, export, generate, transcribe
from mmtune.cli.data import cache, caption, check, import_
from mmtune.cli.runs import evaluate, init, recipes, report, review, train

__all__ = [
    "cache",
    "caption",
    "check",
    "compose",
    "evaluate",
    "export",
    "generate",
    "import_",
    "init",
    "recipes",
    "report",
    "review",
    "train",
    "transcribe",
]
