"""Image adapters for other programs: one format a file, `to_*.py`; read back and compared."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# Where each format's record is.
FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "diffusers": "mmtune.image.export.to_diffusers:FORMAT",
        "kohya": "mmtune.image.export.to_kohya:FORMAT",
        "fused": "mmtune.image.export.to_fused:FORMAT",
    }
)
