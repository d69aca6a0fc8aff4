"""mmtune: LoRA fine-tuning of Whisper and of diffusion models, with one training core.

The names in `__all__` are the public ones (docs/api.md). Each is loaded when it is first used, so
that `import mmtune` takes no time.
"""

from __future__ import annotations

import importlib
import sys
import warnings

from mmtune.system.version import VERSION as __version__

# Type checkers take this name for true. Importing `typing` takes longer than all else here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mmtune.config import RunConfig
    from mmtune.data.dataset import Dataset
    from mmtune.errors import MmtuneError
    from mmtune.evaluation.comparison import Comparison
    from mmtune.evaluation.verdict import Verdict
    from mmtune.image.api import generate
    from mmtune.runs.public_adapters import compose, export, open_predictor
    from mmtune.runs.public_functions import (
        check,
        evaluate,
        import_data,
        list_runs,
        load_recipe,
        repair,
        report,
        train,
        verify,
    )
    from mmtune.runs.redaction import redact
    from mmtune.speech.api import transcribe
    from mmtune.speech.evaluation.score import score

__all__ = [
    "Comparison",
    "Dataset",
    "MmtuneError",
    "RunConfig",
    "Verdict",
    "__version__",
    "check",
    "compose",
    "evaluate",
    "export",
    "generate",
    "import_data",
    "list_runs",
    "load_recipe",
    "open_predictor",
    "redact",
    "repair",
    "report",
    "score",
    "train",
    "transcribe",
    "verify",
]

_FUNCTIONS = "mmtune.runs.public_functions"
_ADAPTERS = "mmtune.runs.public_adapters"
# Which module holds each public name.
_PLACES = {
    "Comparison": "mmtune.evaluation.comparison",
    "Dataset": "mmtune.data.dataset",
    "MmtuneError": "mmtune.errors",
    "RunConfig": "mmtune.config",
    "Verdict": "mmtune.evaluation.verdict",
    "generate": "mmtune.image.api",
    "redact": "mmtune.runs.redaction",
    "score": "mmtune.speech.evaluation.score",
    "transcribe": "mmtune.speech.api",
    "check": _FUNCTIONS,
    "compose": _ADAPTERS,
    "evaluate": _FUNCTIONS,
    "export": _ADAPTERS,
    "import_data": _FUNCTIONS,
    "list_runs": _FUNCTIONS,
    "load_recipe": _FUNCTIONS,
    "open_predictor": _ADAPTERS,
    "repair": _FUNCTIONS,
    "report": _FUNCTIONS,
    "train": _FUNCTIONS,
    "verify": _FUNCTIONS,
}
# Old public names: what to use instead, and the version that removes the old one (docs/api.md).
_DEPRECATED: dict[str, tuple[str, str]] = {}


def __getattr__(name: str) -> Any:
    if name in _DEPRECATED:
        new, removed = _DEPRECATED[name]
        warnings.warn(
            f"mmtune.{name} is deprecated and goes in mmtune {removed}: use mmtune.{new}",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(sys.modules[__name__], new)
    if name not in _PLACES:
        raise AttributeError(f"module 'mmtune' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
