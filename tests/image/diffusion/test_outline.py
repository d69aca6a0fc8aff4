"""A base's modules without its weights are those of the loaded base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mmtune.errors import BaseModelError
from mmtune.image.diffusion.foreign_lora import _modules
from mmtune.image.diffusion.outline import outline
from tests.image import tiny, transformers


@pytest.mark.parametrize(
    "kind",
    ["sd", *(pytest.param(k, marks=pytest.mark.slow) for k in ("sdxl", *transformers.KINDS))],
)
def test_modules_and_shapes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tiny.loaded(kind)
    monkeypatch.setattr("mmtune.image.diffusion.outline.load_base", None)
    found = outline(str(tiny.saved(kind)))
    assert _modules(found.denoiser) == _modules(whole.denoiser)
    assert {n: _modules(m) for n, m in found.family.text_encoders.items()} == {
        n: _modules(m) for n, m in whole.family.text_encoders.items()
    }
    assert all(weight.is_meta for weight in found.denoiser.parameters())


def test_configurations_that_cannot_be_used(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny.saved("sd"), folder)
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"block_out_channels": "x"}))
    with pytest.raises(BaseModelError, match=r"unet/config\.json can't be used"):
        outline(str(folder))
    # A class of a library that isn't expected is never imported.
    index = folder / "model_index.json"
    values = json.loads(index.read_text()) | {"unet": ["os", "system"]}
    index.write_text(json.dumps(values))
    with pytest.raises(BaseModelError):
        outline(str(folder))
