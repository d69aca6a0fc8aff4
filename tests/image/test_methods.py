"""Every method that images have, on small pipelines: trains, resumes, loads strictly, exports."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmtune.adapters.card import Card, read_card
from mmtune.adapters.integrity import seal_adapter
from mmtune.adapters.layer_strength import changed, tuned_layers
from mmtune.adapters.members import Mixing
from mmtune.data.check import check
from mmtune.errors import AdapterError, ConfigError
from mmtune.image import MODALITY
from mmtune.image.diffusion.base import DiffusionBase
from mmtune.image.diffusion.denoiser_lora import active, load_adapter, probe_output
from mmtune.image.image_task import ImageTask
from mmtune.methods import BY_LAYER
from mmtune.runs.adapters import compose, export
from mmtune.runs.pipeline import train
from mmtune.training.loop import fit
from tests.image import tiny

OTHERS = ("loha", pytest.param("lokr", marks=pytest.mark.slow), "ia3")
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
KIND = "sdxl-one-encoder"
CONVOLUTIONS = "to_q,to_v,conv1"


def make_task(root: Path, method: str, **over: str) -> ImageTask:
    fixed = {"adapter.method": method, "targets": CONVOLUTIONS, "keep_layout": "0"}
    fixed |= {"batch_size": "2", "max_steps": "2", "checkpoint_every": "1"}
    out = root / method
    config = tiny.config(tiny.saved(KIND), tiny.brand(root / "brand"), out, **fixed | over)
    dataset = check(MODALITY.prepare(config), MODALITY, config.data)
    return ImageTask(config, dataset, tiny.loaded(KIND), None)


def fitted(root: Path, method: str, run: Path) -> ImageTask:
    task = make_task(root, method)
    config = tiny.config(
        tiny.saved(KIND), root / "brand", root,
        **{"batch_size": "2", "max_steps": "2", "checkpoint_every": "1"},
    )  # fmt: skip
    fit(task, list(task._brand), [], config.train, run)
    return task


@cache
def trained(root: Path, method: str) -> Path:
    """The adapter of a run of two steps, with its card; the run's folder is around it."""
    run = root / f"{method}-run"
    task = fitted(root, method, run)
    (run / "adapter").mkdir()
    task.save(run / "adapter")
    card = Card(
        name=method,
        recipe="brand_style",
        modality="image",
        base=str(tiny.saved(KIND)),
        base_hash=task.base_hash,
        dataset="1" * 64,
        rows={"train": 8},
        settings={"adapter": {"method": method}, "task": {"steps": 2, "guidance": 2.0}},
    )
    files = seal_adapter(run / "adapter")
    card.model_copy(update={"files": files}).write(run / "adapter")
    return run / "adapter"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("methods")


def answer(base: DiffusionBase, folder: Path, weight: float) -> torch.Tensor:
    with active(base, {"own": weight}, {"own": folder}):
        return probe_output(base)


@pytest.mark.parametrize(
    "method", ["loha", *(pytest.param(name, marks=pytest.mark.slow) for name in ("lokr", "ia3"))]
)
def test_it_trains_resumes_bit_by_bit_and_loads_as_it_was(method: str, root: Path) -> None:
    folder = trained(root, method)
    again = root / f"{method}-resumed"
    shutil.copytree(folder.parent / "checkpoints", again / "checkpoints")
    shutil.rmtree(again / "checkpoints" / "step-0000002")
    task = fitted(root, method, again)
    (again / "saved").mkdir()
    task.save(again / "saved")
    first, second = load_file(folder / WEIGHTS), load_file(again / "saved" / WEIGHTS)
    assert first
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    base = tiny.loaded(KIND)
    before = probe_output(base)
    load_adapter(base, folder, "own")
    assert torch.equal(probe_output(base), before)  # it is off
    assert torch.equal(answer(base, folder, 0.0), before)
    assert torch.equal(answer(base, folder, 1.0), probe_output(task.base))
    assert torch.equal(probe_output(base), before)
    # Half the strength is half the change of each layer.
    whole = {i: changed(layer, "own") for i, layer in enumerate(tuned_layers(base.denoiser))}
    with active(base, {"own": 0.5}, {"own": folder}):
        for i, layer in enumerate(tuned_layers(base.denoiser)):
            plain = {n: getattr(layer.get_base_layer(), n).float() for n in whole[i]}
            for name, value in changed(layer, "own").items():
                torch.testing.assert_close(value, (plain[name] + whole[i][name]) / 2)


@pytest.mark.parametrize("method", OTHERS)
def test_peft_loads_the_folder_and_gives_the_same_layers(method: str, root: Path) -> None:
    from peft import PeftModel

    folder = trained(root, method)
    base, plain = tiny.loaded(KIND), tiny.loaded(KIND)
    load_adapter(base, folder, "own")
    theirs = PeftModel.from_pretrained(plain.denoiser, str(folder))
    assert torch.equal(answer(base, folder, 1.0), probe_output(plain))
    # Our formula of a layer's weight is what peft merges.
    wanted = [changed(layer, "own") for layer in tuned_layers(base.denoiser)]
    names = [name for name, m in plain.denoiser.named_modules() if hasattr(m, "base_layer")]
    merged = theirs.merge_and_unload()
    for name, own in zip(names, wanted, strict=True):
        for parameter, value in own.items():
            found = getattr(merged.get_submodule(name), parameter)
            torch.testing.assert_close(found, value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", OTHERS)
def test_a_folder_that_is_not_whole_is_refused(method: str, root: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained(root, method), tmp_path / "adapter")
    state = load_file(folder / WEIGHTS)
    key = next(key for key in state if "w1" in key or "ia3" in key)
    save_file(state | {key: state[key] + 1}, folder / WEIGHTS)
    with pytest.raises(AdapterError, match="is damaged"):
        load_adapter(tiny.loaded(KIND), folder, "own")
    (folder / "card.json").unlink()
    save_file(state | {key: torch.cat([state[key], state[key]])}, folder / WEIGHTS)
    with pytest.raises(AdapterError, match=r"can't be loaded|too large"):
        load_adapter(tiny.loaded(KIND), folder, "own")
    save_file(state | {"base_model.model.other.ia3_l": state[key].clone()}, folder / WEIGHTS)
    with pytest.raises(AdapterError, match="other"):
        load_adapter(tiny.loaded(KIND), folder, "own")


def test_what_other_methods_cannot_is_refused_in_words(root: Path, tmp_path: Path) -> None:
    loha, ia3 = trained(root, "loha"), trained(root, "ia3")
    base = tiny.loaded(KIND)
    load_adapter(base, loha, "one")
    with pytest.raises(AdapterError, match=r"trained by \(IA\)³, but .* trained by LoHa"):
        load_adapter(base, ia3, "two")
    with pytest.raises(AdapterError, match="LoHa; mmtune compose merges the pairs"):
        compose(
            {loha: 1.0, shutil.copytree(loha, tmp_path / "twin"): 1.0}, Mixing(), tmp_path / "o"
        )
    for format in ("kohya", "diffusers"):
        out = tmp_path / ("out.safetensors" if format == "kohya" else "out")
        with pytest.raises(AdapterError, match=f"the format {format} holds LoRA alone") as caught:
            export(loha, format, out)
        assert "--format fused" in caught.value.cure
        assert not out.exists()
    with pytest.raises(ConfigError, match="text_encoder works with LoRA and DoRA, not with LoHa"):
        make_task(root, "loha", text_encoder="true")
    assert read_card(ia3).facts()[0] == ("method", "(IA)³")
    assert "An (IA)³ adapter for" in (ia3 / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("method", OTHERS)
def test_fused_holds_the_adapter(method: str, root: Path, tmp_path: Path) -> None:
    done = export(trained(root, method), "fused", tmp_path / "whole", scale=0.8)
    assert done.proof["layers"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("method", BY_LAYER)
def test_a_whole_run_names_its_method(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    data = tiny.brand(tmp_path / "brand")
    over = {"adapter.method": method}
    result = train(tiny.config(tiny.saved(KIND), data, tmp_path / "runs", **over))
    card = read_card(result.folder / "adapter")
    config = json.loads(card.model_dump_json())["settings"]
    assert config["adapter"]["method"] == method
    assert result.comparison is not None
