"""Two processes write the same bytes for the same adapter, whatever the order of their sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters import saved


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".json")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.adapters.saved", str(tmp_path / "there")]
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    root = Path(__file__).parents[2]
    subprocess.run(command, check=True, timeout=280, env=environment, cwd=root)
    saved.write(tmp_path / "here")
    here, there = contents(tmp_path / "here"), contents(tmp_path / "there")
    assert sorted(here) == [
        "image/pytorch_lora_weights.safetensors",
        "speech/adapter_config.json",
        "speech/adapter_model.safetensors",
    ]
    assert here == there
