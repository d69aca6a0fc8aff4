"""Speech adapters for other engines: one format a file, `to_*.py`; proved by what they write.

Nothing heavy is imported here: whisper.cpp's own process imports this package too.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Where each format's record is.
FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "transformers": "mmtune.speech.export.to_transformers:FORMAT",
        "ctranslate2": "mmtune.speech.export.to_ctranslate2:FORMAT",
        "ggml": "mmtune.speech.export.to_ggml:FORMAT",
    }
)
