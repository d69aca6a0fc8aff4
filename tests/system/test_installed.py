"""Models that come with a package are compared with what was packed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.metadata import PackagePath
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mmtune.errors import BaseModelError, MmtuneError
from mmtune.image.diffusion.base import load_base
from mmtune.image.looks.backbone import MATCH, STYLE, load_backbone, load_scorer
from mmtune.system import installed
from mmtune.system.installed import ASSET_HASHES, intact_asset, require_intact
from mmtune.system.resources import resource
from mmtune.system.tensors import tensors_hash
from tests.adapters.damage import cut, flip

CPU = torch.device("cpu")
ASSETS = resource("assets")
MODELS: dict[str, tuple[str, Callable[[], object]]] = {
    "the style encoder": ("style-encoder/model", lambda: load_backbone(STYLE, CPU)),
    "the matcher of prompts": ("prompt-match/model", lambda: load_scorer(MATCH, CPU)),
    "the starter": (
        "starter-icons/vae/diffusion_pytorch_model",
        lambda: load_base("starter:icons", CPU, torch.float32),
    ),
}


def test_the_stored_hashes_are_those_of_the_assets() -> None:
    """After a model was trained again: python tools/starter/hashes.py."""
    stored = json.loads((ASSETS / ASSET_HASHES).read_text(encoding="utf-8"))
    files = ASSETS.rglob("*.safetensors")
    assert stored == {path.relative_to(ASSETS).as_posix(): tensors_hash(path) for path in files}


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
@pytest.mark.parametrize("model", MODELS)
def test_a_damaged_model_of_ours_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    damage: Callable[[Path], None],
) -> None:
    file, load = MODELS[model]
    folder = file.partition("/")[0]
    shutil.copytree(ASSETS / folder, tmp_path / folder)
    shutil.copy(ASSETS / ASSET_HASHES, tmp_path)
    monkeypatch.setattr(installed, "resource", lambda kind, name: tmp_path / name)
    intact_asset.cache_clear()
    try:
        path = tmp_path / f"{file}.safetensors"
        damage(path)
        with pytest.raises(BaseModelError) as error:
            load()
    finally:
        intact_asset.cache_clear()
    assert str(path) in error.value.found
    assert "pip install --force-reinstall" in error.value.cure


def test_files_of_a_package_are_compared_with_what_pip_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_intact("silero-vad", ".onnx")
    recorded = installed.importlib.metadata.files("silero-vad") or []
    [real] = [file for file in recorded if file.name == "silero_vad_half.onnx"]
    copy = tmp_path / "x.onnx"
    shutil.copy(str(real.locate()), copy)
    file = PackagePath("x.onnx")
    file.hash, file.dist = real.hash, SimpleNamespace(locate_file=lambda path: tmp_path / path)
    monkeypatch.setattr(installed.importlib.metadata, "files", lambda package: [file])
    require_intact.cache_clear()
    require_intact("silero-vad", ".onnx")
    for damage in (flip, Path.unlink):
        require_intact.cache_clear()
        damage(copy)
        with pytest.raises(MmtuneError, match=r"x\.onnx .*\n  cure: reinstall it: pip install"):
            require_intact("silero-vad", ".onnx")
    require_intact.cache_clear()
