"""Exports: read back by diffusers alone, the same pictures; names from the published formats."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.lora_conversion_utils import (
    _convert_non_diffusers_lora_to_diffusers,
    _convert_text_encoder_lora_key,
    _maybe_map_sgm_blocks_to_diffusers,
)
from diffusers.utils import convert_state_dict_to_kohya
from safetensors import safe_open
from safetensors.torch import load_file

from mmtune.adapters.export import check_licence
from mmtune.adapters.licence import licence_of
from mmtune.cli import main
from mmtune.errors import AdapterError, ConfigError
from mmtune.image.diffusion.denoiser_lora import WEIGHTS
from mmtune.image.diffusion.families import family_class
from mmtune.image.export import kohya as files
from mmtune.image.export import parity
from mmtune.image.export.kohya_names import clip_name, unet_names, unread_by_comfy
from mmtune.image.sampling.sampler import Sampler, generator_of
from mmtune.runs.adapters import export
from mmtune.system.hashing import hash_bytes
from tests.image import adapters, tiny
from tests.image.transformers import KINDS as TRANSFORMERS
from tests.image.transformers import SIDE

PROMPT = "red ball"
# Layers of every sort that a UNet has: linear, convolutions, and those at its ends.
WIDE = [
    *("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
    *("conv1", "conv2", "conv_shortcut", "time_emb_proj", "conv_in", "conv_out", "conv"),
    *("time_embedding.linear_1", "time_embedding.linear_2"),
]


def pixels(pipeline: Any, side: int, **inputs: Any) -> np.ndarray:
    """One picture by diffusers alone."""
    pipeline.set_progress_bar_config(disable=True)
    [image] = pipeline(
        prompt=[PROMPT],
        height=side,
        width=side,
        num_inference_steps=3,
        generator=[generator_of(PROMPT, 0)],
        **inputs,
    ).images
    return np.asarray(image, np.int16)


def side_of(kind: str) -> int:
    return SIDE if kind in TRANSFORMERS else 32


def plain(kind: str, adapter: Path | None = None, weight: float = 1.0) -> np.ndarray:
    """The picture of a base with an adapter folder, by diffusers alone."""
    pipeline = DiffusionPipeline.from_pretrained(tiny.saved(kind), **LACKING.get(kind, {}))
    if adapter is not None:
        name = WEIGHTS if adapter.is_dir() else adapter.name
        folder = adapter if adapter.is_dir() else adapter.parent
        pipeline.load_lora_weights(folder, weight_name=name, adapter_name="a")
        pipeline.set_adapters(["a"], [weight])
    return pixels(pipeline, side_of(kind))


LACKING = {"sdxl-one-encoder": {"text_encoder": None, "tokenizer": None}}


def facts(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *(("sd", True), ("sdxl", False), ("flux-dev", False), ("z-image", False)),
        *(
            pytest.param(kind, text, marks=pytest.mark.slow)
            for kind, text in (
                *(("sd", False), ("sdxl", True), ("sdxl-one-encoder", False)),
                *(("sd3", False), ("flux2-klein", False)),
            )
        ),
    ],
)
def test_every_format_draws_the_same_picture_in_diffusers_alone(
    kind: str, text: bool, tmp_path: Path
) -> None:
    adapter = adapters.make(tmp_path / "adapter", kind, text=text)
    wanted, base = plain(kind, adapter, 0.7), plain(kind)
    assert np.abs(wanted - base).max() > 3, "the adapter does nothing: the test shows nothing"

    folder = export(adapter, "diffusers", tmp_path / "lora", scale=0.7)
    assert np.abs(plain(kind, folder.path) - wanted).max() <= 1
    single = export(adapter, "kohya", tmp_path / "lora.safetensors", scale=0.7)
    if kind != "flux-dev":  # which diffusers reads at the published width alone: test_export_flux
        assert np.abs(plain(kind, single.path) - wanted).max() <= 1
    clip = {k.split("_text_model_")[0] for k in load_file(single.path) if "_text_model_" in k}
    of_kind = {"lora_te"} if kind == "sd" else {"lora_te1", "lora_te2"}
    assert clip == (of_kind if text else set())
    fused = export(adapter, "fused", tmp_path / "whole", scale=0.7)
    whole = DiffusionPipeline.from_pretrained(fused.path)
    assert np.abs(pixels(whole, side_of(kind)) - wanted).max() <= 1
    assert not [k for k in load_all(fused.path) if "lora" in k]
    for done in (folder, single, fused):
        assert done.proof["largest difference of a pixel"] <= 1
    left = {p.name for p in tmp_path.iterdir()}
    workflow = {"lora.comfyui.json"} if kind != "z-image" else set()  # beside kohya's file
    assert left == {"adapter", "lora", "lora.safetensors", "whole"} | workflow


def load_all(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for f in folder.glob("*/*.safetensors") for k, v in load_file(f).items()}


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_every_layer_of_a_unet_has_a_name_that_loaders_know(kind: str, tmp_path: Path) -> None:
    """By diffusers' reader: each key finds its module again, with the same change of weights."""
    more = ["add_embedding.linear_1", "add_embedding.linear_2"] if kind == "sdxl" else []
    adapter = adapters.make(tmp_path / "adapter", kind, target_modules=WIDE + more)
    done = export(adapter, "kohya", tmp_path / "x.safetensors")
    state = load_file(done.path)
    assert len(state) % 3 == 0
    if kind == "sd":  # where diffusers' own converter is right
        theirs = convert_state_dict_to_kohya(load_file(adapter / WEIGHTS))
        assert state.keys() == theirs.keys()
    assert all(k.startswith("lora_unet_") for k in state)
    original = {k for k in state if "input_blocks" in k or "middle_block" in k}
    assert bool(original) == (kind == "sdxl")
    if kind == "sdxl":
        assert not [k for k in state if "down_blocks" in k or "up_blocks" in k]


def test_names_of_the_published_sdxl_unet() -> None:
    """The whole of SDXL's UNet, without its weights, there and back by diffusers' converter."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=2,
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
    modules = [
        n for n, m in unet.named_modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)
    ]
    names = unet_names(modules, unet.config, sdxl=True)
    assert names["down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"] == (
        "input_blocks.4.1.transformer_blocks.0.attn1.to_q"
    )
    assert names["up_blocks.1.upsamplers.0.conv"] == "output_blocks.5.2.conv"
    assert names["down_blocks.0.downsamplers.0.conv"] == "input_blocks.3.0.op"
    assert names["mid_block.resnets.1.conv2"] == "middle_block.2.out_layers.3"
    assert len(set(names.values())) == len(modules) > 700
    one = torch.ones(1, 1)
    state = {}
    for name in names.values():
        stem = f"lora_unet_{name.replace('.', '_')}"
        state |= {f"{stem}.lora_{end}.weight": one for end in ("down", "up")}
    mapped = _maybe_map_sgm_blocks_to_diffusers(state, unet.config)
    theirs, _ = _convert_non_diffusers_lora_to_diffusers(mapped)
    found = {
        key.removeprefix("unet.").replace(".processor", "").replace("to_out_lora", "to_out.0_lora")
        for key in theirs
    }
    stems = {k.replace("_lora.", ".lora.").split(".lora.")[0] for k in found}
    assert stems == set(modules)


def test_names_of_clip_are_those_that_diffusers_reads() -> None:
    for module in ("encoder.layers.3.self_attn.q_proj", "text_model.encoder.layers.0.mlp.fc1"):
        for encoder, of in ((1, 1), (1, 2), (2, 2)):
            name = clip_name(module, encoder, of)
            assert name.startswith(
                f"lora_te{'' if of == 1 else encoder}_text_model_encoder_layers_"
            )
            read = _convert_text_encoder_lora_key(f"{name}.lora_down.weight", name)
            assert read.startswith("text_model.encoder.layers.")
    assert clip_name("text_projection", 2, 2) == "lora_te2_text_projection"


def test_a_unet_unlike_sdxl_keeps_diffusers_names() -> None:
    """The starter upsamples behind a level without attention, which has no such name."""
    config = type("Config", (), {"layers_per_block": 1, "up_block_types": ("UpBlock2D",) * 2})
    modules = ["conv_in", "up_blocks.0.upsamplers.0.conv"]
    assert unet_names(modules, config, sdxl=True) == {m: m for m in modules}
    assert unet_names(modules[:1], config, sdxl=True) == {"conv_in": "input_blocks.0.0"}


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_comfyui_has_a_place_for_what_is_adapted_by_default(kind: str) -> None:
    base = tiny.loaded(kind)
    ends = tuple(f".{name}" for name in base.family.targets)
    modules = [n for n, _ in base.denoiser.named_modules() if n.endswith(ends)]
    assert modules
    assert unread_by_comfy(base.family.export_names.comfy, modules) == []
    assert unread_by_comfy(base.family.export_names.comfy, ["made.up"]) == ["made.up"]


@pytest.mark.parametrize("kind", ["sdxl", pytest.param("flux-dev", marks=pytest.mark.slow)])
def test_strength_is_in_the_weights(kind: str, tmp_path: Path) -> None:
    """rsLoRA's alpha / sqrt(r) and the scale: a loader that knows neither gives the same."""
    adapter = adapters.make(tmp_path / "a", kind, r=4, lora_alpha=6, use_rslora=True)
    theirs = load_file(adapter / WEIGHTS)
    done = export(adapter, "diffusers", tmp_path / "lora", scale=0.5)
    ours = load_file(done.path / WEIGHTS)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        factor = 6 / 2 * 0.5 if "lora_B" in key else 1.0
        torch.testing.assert_close(ours[key], value * factor)
    said = facts(done.path / WEIGHTS)
    config = json.loads(said["lora_adapter_metadata"])
    [rslora] = [v for k, v in config.items() if k.endswith("use_rslora")]
    [alpha] = [v for k, v in config.items() if k.endswith("lora_alpha")]
    assert (rslora, alpha) == (False, 4)
    single = load_file(export(adapter, "kohya", tmp_path / "x.safetensors", scale=0.5).path)
    for key, value in single.items():
        if key.endswith(".alpha"):
            assert float(value) == len(single[key.replace(".alpha", ".lora_down.weight")])
            assert float(value) in ({4} if kind == "sdxl" else {4, 3 * 4, 4 * 4})


def test_dora(tmp_path: Path) -> None:
    kind = "sdxl"
    adapter = adapters.make(tmp_path / "a", kind, use_dora=True, target_modules=["to_q", "conv1"])
    with pytest.raises(AdapterError, match=r"is a DoRA.*\n.*--format fused"):
        export(adapter, "kohya", tmp_path / "x.safetensors")
    wanted = plain(kind, adapter)
    folder = export(adapter, "diffusers", tmp_path / "lora")
    assert np.abs(plain(kind, folder.path) - wanted).max() <= 1
    fused = export(adapter, "fused", tmp_path / "whole")
    whole = DiffusionPipeline.from_pretrained(fused.path)
    assert np.abs(pixels(whole, side_of(kind)) - wanted).max() <= 1


@pytest.mark.parametrize(
    ("kind", "config", "published"),
    [
        ("StableDiffusionXLPipeline", {"block_out_channels": [320, 640, 1280]}, True),
        ("StableDiffusionXLPipeline", {"block_out_channels": (320, 640)}, False),
        ("StableDiffusionXLPipeline", {"cross_attention_dim": 1024}, False),
        ("StableDiffusionPipeline", {"cross_attention_dim": 1024}, True),
        ("StableDiffusionPipeline", {"cross_attention_dim": 64}, False),
        ("StableDiffusion3Pipeline", {"num_attention_heads": 38}, True),
        ("FluxPipeline", {}, True),
        ("FluxPipeline", {"num_attention_heads": 2}, False),
        ("Flux2KleinPipeline", {"num_attention_heads": 32}, True),
        ("Flux2Pipeline", {"num_attention_heads": 24}, False),
        ("ChromaPipeline", {}, True),
        ("QwenImagePipeline", {"attention_head_dim": 16}, False),
        ("ZImagePipeline", {}, True),
        ("ZImagePipeline", {"dim": 64}, False),
    ],
)
def test_only_a_base_of_the_published_size_is_called_by_its_name(
    kind: str, config: dict[str, Any], published: bool
) -> None:
    found = family_class(kind)
    assert found is not None
    denoiser = SimpleNamespace(config={})
    family = found.__new__(found)
    sizes = family.export_names.sizes
    assert sizes, "each family of mmtune has them"
    denoiser.config = {name: values[0] for name, values in sizes.items()} | config
    family.pipeline = SimpleNamespace(unet=denoiser, transformer=denoiser)
    assert family.is_published_size == published


def test_what_a_file_says_of_itself(tmp_path: Path) -> None:
    adapter = adapters.make(tmp_path / "a", "sdxl")
    done = export(adapter, "kohya", tmp_path / "brand.safetensors")
    said = facts(done.path)
    assert said["ss_network_dim"] == said["ss_network_alpha"] == "4"
    # The small base isn't SDXL, whose family it is of.
    for name in ("ss_base_model_version", "modelspec.architecture", "ss_v2"):
        assert name not in said
    assert said["modelspec.title"] == "brand"
    assert said["mmtune.dataset"] == "1" * 64
    raw = done.path.read_bytes()
    behind = raw[8 + int.from_bytes(raw[:8], "little") :]
    assert said["modelspec.hash_sha256"] == f"0x{hash_bytes(behind)}"
    folder = export(adapter, "diffusers", tmp_path / "lora")
    assert facts(folder.path / WEIGHTS)["modelspec.implementation"] == "diffusers"


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("sd", "renamed"),
        ("sd", "alpha"),
        ("sdxl", "halved"),
        ("sdxl", "dropped"),
        ("flux-dev", "dropped"),
    ],
)
def test_an_export_that_is_not_the_adapter_leaves_nothing(
    kind: str, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = adapters.make(tmp_path / "a", kind)
    real = files.save

    def spoil(tensors: dict[str, torch.Tensor], path: Path, said: dict[str, str]) -> None:
        key = next(k for k in sorted(tensors) if "lora_up" in k or "lora_B" in k)
        if change == "renamed":
            stem = key.split(".")[0]
            for each in [k for k in tensors if k.startswith(f"{stem}.")]:
                tensors[each.replace("blocks_", "blocks_9")] = tensors.pop(each)
        elif change == "halved":
            tensors[key] = tensors[key] * 0.5
        elif change == "dropped":
            stem = key.split(".lora_")[0]
            for each in [k for k in tensors if k.startswith(f"{stem}.")]:
                del tensors[each]
        else:
            tensors[key.split(".")[0] + ".alpha"] *= 2
        real(tensors, path, said)

    monkeypatch.setattr(files, "save", spoil)
    with pytest.raises(AdapterError, match=r"was not kept, because it isn't the same adapter"):
        export(adapter, "kohya", tmp_path / "x.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_another_picture_stops_an_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = adapters.make(tmp_path / "a", "sd")
    drawn: list[Any] = []
    sample = Sampler.sample

    def once(self: Sampler, prompts: Any, seeds: Any) -> Any:
        drawn.append(1)
        return sample(self, prompts, [s + len(drawn) for s in seeds])

    monkeypatch.setattr(parity.Sampler, "sample", once)
    for format, out in (("diffusers", "lora"), ("fused", "whole")):
        with pytest.raises(AdapterError, match=r"the same prompt and seed differ by up to"):
            export(adapter, format, tmp_path / out)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def licensed(tmp_path: Path, page: str) -> Path:
    """The tiny pipeline with a model card."""
    folder = tmp_path / "base"
    shutil.copytree(tiny.saved("sd"), folder)
    (folder / "README.md").write_text(page)
    return folder


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("---\nlicense: cc-by-nc-4.0\n---\n", "cc-by-nc-4.0"),
        ("---\nlicense: CC-BY-ND-4.0\n---\n", "cc-by-nd-4.0"),
        (
            "---\nlicense: other\nlicense_name: flux-1-dev-non-commercial-license\n---\n# x\n",
            "flux-1-dev-non-commercial-license",
        ),
    ],
)
def test_a_licence_that_restrains_must_be_accepted(page: str, name: str, tmp_path: Path) -> None:
    base = licensed(tmp_path, page)
    adapter = adapters.make(tmp_path / "a", "sd", base=str(base))
    out = tmp_path / "x.safetensors"
    with pytest.raises(
        AdapterError, match=rf"licence of .*, {name}, restricts(.|\n)*--accept-licence '{name}'"
    ):
        export(adapter, "kohya", out)
    with pytest.raises(ConfigError, match=rf"--accept-licence mit: the licence of .* is {name}"):
        export(adapter, "kohya", out, accept="mit")
    assert not out.exists()
    if name == "cc-by-nc-4.0":
        said = facts(export(adapter, "kohya", out, accept=name).path)
        assert said["mmtune.accepted_licence"] == said["modelspec.license"] == name


@pytest.mark.parametrize(
    ("page", "note"),
    [
        ("---\nlicense: other\n---\n", "is named only 'other'"),
        ("# no front matter\n", "no model card states the licence"),
        ("---\nlicense: [broken\n---\n", "no model card states the licence"),
        ("---\nlicense: creativeml-openrail-m\n---\n", ""),
    ],
)
def test_other_licences_are_remarked_on_or_pass(page: str, note: str, tmp_path: Path) -> None:
    base = licensed(tmp_path, page)
    notes = check_licence(licence_of(str(base)), "base", "")
    assert len(notes) == bool(note)
    assert note in "".join(notes)


def test_a_fused_folder_keeps_the_safety_checker_that_the_base_has(tmp_path: Path) -> None:
    base = licensed(tmp_path, "---\nlicense: mit\n---\n")
    index = json.loads((base / "model_index.json").read_text())
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (base / "feature_extractor").mkdir()
    (base / "feature_extractor" / "preprocessor_config.json").write_text("{}")
    (base / "model_index.json").write_text(json.dumps(index))
    adapter = adapters.make(tmp_path / "a", "sd", base=str(base))
    done = export(adapter, "fused", tmp_path / "whole")
    assert (done.path / "feature_extractor" / "preprocessor_config.json").is_file()
    again = json.loads((done.path / "model_index.json").read_text())
    assert again["feature_extractor"] == ["transformers", "CLIPImageProcessor"]
    said = json.loads((done.path / "export.json").read_text())
    assert said["mmtune.base_licence"] == "mit"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    adapters.make(run / "adapter", "sd")
    out = tmp_path / "x.safetensors"
    assert main(["export", str(run), "--format", "kohya", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(out)
    assert main(["export", str(run), "--format", "diffusers", "--out", str(tmp_path / "d")]) == 0
    assert "checked: keys" in capsys.readouterr().out
    for arguments, found in (
        (["--format", "kohya", "--out", str(out)], "exists already"),
        (["--format", "onnx", "--out", str(tmp_path / "y")], "no export format 'onnx'"),
        (["--format", "kohya", "--out", str(tmp_path / "y")], "format kohya is a file"),
        (["--format", "fused", "--out", str(tmp_path / "y.safetensors")], "fused is a folder"),
        (
            ["--format", "fused", "--out", str(tmp_path / "y"), "--scale", "0"],
            "nothing of the adapter",
        ),
    ):
        assert main(["export", str(run), *arguments]) == 2
        assert found in capsys.readouterr().err
