"""Export speech adapters for other engines: one file per format (`to_*.py`), and its check.

This file imports no large package, because the process of whisper.cpp imports it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# The module and name of each format's record.
FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "transformers": "mmtune.speech.export.to_transformers:FORMAT",
        "ctranslate2": "mmtune.speech.export.to_ctranslate2:FORMAT",
        "ggml": "mmtune.speech.export.to_ggml:FORMAT",
    }
)
