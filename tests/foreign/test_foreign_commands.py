"""Every command that takes an adapter takes one of another program."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import mmtune
from mmtune.adapters import adopt
from mmtune.adapters.adopt import ForeignAdapter, own_forms
from mmtune.adapters.card import read_card
from mmtune.cli import main
from mmtune.errors import AdapterError, ConfigError
from mmtune.image.diffusion.denoiser_lora import WEIGHTS
from mmtune.runs.measured_adapter import find_adapter
from tests.conformance.test_stored_runs import STORED
from tests.image import adapters, tiny

FILES = Path(__file__).parent / "adapters"
READ = adopt._read


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of sd-scripts with a text encoder."""
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "acme.safetensors"
    shutil.copy(FILES / "kohya.safetensors", file)
    return file


@pytest.mark.slow
def test_images(acme: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, out = str(tiny.saved("sd")), tmp_path / "out"
    options = ["--prompt", "a", "--steps", "2", "--out", str(out)]
    given = ["generate", "--adapter", f"{acme}=0.5", "--base", base]
    assert main([*given, *options]) == 0
    [picture] = out.glob("*.png")
    with Image.open(picture) as image:
        assert "acme.safetensors" in str(image.info)
        assert "cache" not in str(image.info)
    assert main(["generate", "--adapter", str(acme), *options]) == 2
    assert "--base BASE" in capsys.readouterr().err
    # With an adapter of mmtune's, whose card names the base; the second one is its own base.
    ours = adapters.make(tmp_path / "ours", "sd", text=True)
    done = mmtune.compose({acme: 0.5, ours: 1.0}, out=tmp_path / "both")
    assert done.distance < 1e-5
    card = read_card(done.path)
    assert card.base_hash == read_card(ours).base_hash
    assert [parent["name"] for parent in card.parents] == ["acme", "brand"]
    exported = mmtune.export(acme, "diffusers", tmp_path / "exported", base=base)
    assert not exported.failed
    assert len(load_file(exported.path / WEIGHTS)) == 10
    assert mmtune.verify(acme).files[0].state == "no hash stored"
    assert mmtune.open_predictor(acme, base=base)
    with pytest.raises(AdapterError, match="no adapter for speech"):
        mmtune.transcribe(acme, adapter=acme, base=base)


def test_what_evaluate_measures(acme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(adopt, "_read", lambda given, file: read.append(file) or READ(given, file))
    found = find_adapter(acme, str(tiny.saved("sd")))
    assert read == [acme], "its header is read once"
    assert (found.name, found.place, found.run) == ("acme", acme, None)
    assert found.modality.name == "image"
    assert found.config.recipe == "none"
    assert found.card is not None
    assert found.card.origin["file"] == "acme.safetensors"
    with pytest.raises(ConfigError, match="names no model that it can be loaded on"):
        find_adapter(acme)


def test_damage_is_found(acme: Path) -> None:
    acme.write_bytes(acme.read_bytes()[:-40])
    with pytest.raises(AdapterError, match="can't be read"):
        mmtune.verify(acme)


@pytest.mark.slow
def test_speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    stored = STORED / "speech"
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(stored / "trained" / "finished" / "adapter" / name, theirs)
    config = json.loads((theirs / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = None
    (theirs / "adapter_config.json").write_text(json.dumps(config))
    sound = next((stored / "data").rglob("*.flac"))
    base = str(stored / "base")
    assert main(["transcribe", "--adapter", str(theirs), str(sound)]) == 2
    own = mmtune.transcribe(sound, adapter=stored / "trained" / "finished", base=base)
    other = mmtune.transcribe(sound, adapter=theirs, base=base)
    assert other[0].text == own[0].text
    exported = mmtune.export(theirs, "transformers", tmp_path / "exported", base=base)
    assert exported.path.is_dir()
    route = tmp_path / "route.yaml"
    route.write_text("by: accent\nlabels: {scottish: theirs, us: none}\n")
    routed = mmtune.compose(route=route, out=tmp_path / "routed", base=base)
    assert [part.card.name for part in routed.parts] == ["theirs"]


def test_an_adapter_that_names_its_base_isnt_given_another_one(tmp_path: Path) -> None:
    """Beside an adapter of another base; one that names none gets that one's."""
    ours = STORED / "speech" / "trained" / "finished" / "adapter"
    usual = read_card(ours).base
    tensors = {"model.decoder.layers.0.fc1.lora_A.weight": torch.ones(2, 4)}
    for name, config in (("named", {"base_model_name_or_path": "org/model"}), ("silent", {})):
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "adapter_model.safetensors")
        (tmp_path / name / "adapter_config.json").write_text(
            json.dumps({"peft_type": "LORA"} | config)
        )
    asked: dict[str, str | None] = {}

    def one(foreign: ForeignAdapter, base: str | None) -> Path:
        asked[foreign.given.name] = base
        return foreign.given

    weights = {ours: 1.0, tmp_path / "named": 1.0, tmp_path / "silent": 1.0}
    own_forms(weights, None, one)
    assert asked == {"named": None, "silent": usual}
    own_forms(weights, "given", one)
    assert asked == {"named": "given", "silent": "given"}
