"""Bases that are one .safetensors file: recognised, loaded without a network, or refused."""

from __future__ import annotations

import argparse
import json
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mmtune.adapters.licence import licence_of
from mmtune.adapters.named_base import base_of
from mmtune.errors import BaseModelError, ConfigError
from mmtune.image.corpus.limits import read_limits
from mmtune.image.diffusion.base import DiffusionBase, load_base
from mmtune.image.diffusion.denoiser_lora import probe_output
from mmtune.image.export.comfy_workflow import _checkpoint
from mmtune.image.single_file import SHIPPED, clip_tokenizer, kind_of, open_single_file
from mmtune.image.source import read_index, resolve_base
from mmtune.pages.redact import redact_base
from mmtune.runs.recipes import load_recipe
from mmtune.system.arguments import apply_base_config
from mmtune.system.base_name import is_checkpoint, join_base, split_base
from mmtune.system.resources import resource
from tests.image import original_layout, tiny

CPU = torch.device("cpu")
IDS = torch.arange(tiny.LENGTH)[None]
SCHEDULE = {"betas": torch.zeros(1000), "model_ema.decay": torch.tensor(0.99)}
# What published files hold beside the weights.
BESIDE: dict[str, dict[str, torch.Tensor]] = {
    "sd": SCHEDULE | {"cond_stage_model.transformer.text_model.embeddings.position_ids": IDS},
    "sd2": SCHEDULE | {"cond_stage_model.model.logit_scale": torch.tensor(1.0)},
    "sdxl": {
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": IDS,
        "conditioner.embedders.1.model.logit_scale": torch.tensor(1.0),
        "denoiser.sigmas": torch.zeros(1000),
    },
}
UNET = "model.diffusion_model."
V2 = f"{UNET}input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"
XL = "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"
REFINER = "conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail at any attempt to reach another machine, and let the hub's client try."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"the network is asked: {args}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def pipeline(kind: str) -> Any:
    """`tiny.pipeline`; also of "sd2", whose text encoder is one of open_clip."""
    if kind != "sd2":
        return tiny.pipeline(kind)
    from transformers import CLIPTextModel

    made = tiny.pipeline("sd")
    config = made.text_encoder.config
    config.hidden_act = "gelu"
    torch.manual_seed(1)
    made.text_encoder = CLIPTextModel(config)
    return made


def file_and_folder(tmp_path: Path, kind: str, dtype: torch.dtype) -> tuple[Path, Path]:
    made = pipeline(kind).to(dtype=dtype)
    made.save_pretrained(tmp_path / "folder")
    file = tmp_path / "base.safetensors"
    original_layout.write(made, file, dtype, more=BESIDE[kind])
    return file, tmp_path / "folder"


def loaded(base: str) -> DiffusionBase:
    return load_base(base, CPU, torch.float32)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("sd", torch.float32), ("sd2", torch.float16), ("sdxl", torch.float16)],
)
@pytest.mark.usefixtures("no_network")
def test_a_file_is_the_same_base_as_its_folder(
    tmp_path: Path, kind: str, dtype: torch.dtype
) -> None:
    """To the bit, and with one identity: an adapter of the one fits the other."""
    file, folder = file_and_folder(tmp_path, kind, dtype)
    for part in folder.glob("*/*.safetensors"):  # the weights of --base-config aren't read
        part.rename(part.with_suffix(".kept"))
    ours = loaded(join_base(str(file), str(folder)))
    for part in folder.glob("*/*.kept"):
        part.rename(part.with_suffix(".safetensors"))
    theirs = loaded(str(folder))
    assert ours.hashes == theirs.hashes
    assert torch.equal(probe_output(ours), probe_output(theirs))
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if (model := getattr(theirs.pipeline, name, None)) is not None:
            state = getattr(ours.pipeline, name).state_dict()
            assert state.keys() == model.state_dict().keys()
            assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())


@pytest.mark.usefixtures("no_network")
def test_names_that_some_files_have_for_the_text_encoder_are_read(tmp_path: Path) -> None:
    made = tiny.pipeline("sd")
    named = original_layout.original(made)
    prefix = "cond_stage_model.transformer.text_model."
    bare = {k.replace(prefix, "cond_stage_model.transformer."): v for k, v in named.items()}
    save_file({k: v.contiguous().clone() for k, v in bare.items()}, tmp_path / "base.safetensors")
    base = loaded(f"{tmp_path / 'base.safetensors'}@{tiny.saved('sd')}")
    assert base.hashes == tiny.loaded("sd").hashes


def shapes(**more: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Of a whole Stable Diffusion 1.x, as far as recognition looks."""
    return {
        f"{UNET}input_blocks.0.0.weight": (320, 4, 3, 3),
        f"{UNET}output_blocks.11.0.skip_connection.weight": (320, 640, 1, 1),
        V2: (320, 768),
        "first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3),
        "cond_stage_model.transformer.text_model.final_layer_norm.bias": (768,),
        **more,
    }


def without(prefix: str) -> dict[str, tuple[int, ...]]:
    return {key: value for key, value in shapes().items() if not key.startswith(prefix)}


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (shapes(), "v1"),
        (shapes(**{V2: (320, 1024)}), "v2"),
        (shapes(**{XL: (1280,)}), "xl_base"),
        # What ComfyUI and sd-scripts leave in files, and EMA weights: none of it matters.
        (shapes(**{"model_ema.decay": (), "denoiser.sigmas": (1000,), "v_pred": (0,)}), "v1"),
    ],
)
def test_the_kind_is_told_from_names_and_shapes(
    found: dict[str, tuple[int, ...]], kind: str
) -> None:
    assert kind_of(Path("x.safetensors"), found) == kind
    assert (resource("assets", f"single-file/{SHIPPED[kind]}") / "model_index.json").is_file()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (shapes(**{f"{UNET}input_blocks.0.0.weight": (320, 9, 3, 3)}), "kind 'inpainting'"),
        (shapes(**{f"{UNET}input_blocks.0.0.weight": (320, 8, 3, 3)}), "kind 'instruct-pix2pix'"),
        (shapes(**{f"{UNET}input_blocks.0.0.weight": (320, 5, 3, 3)}), "5 channels, not 4"),
        (shapes(**{REFINER: (1280,)}), "kind 'xl_refiner'"),
        (shapes(edm_mean=()), "kind 'playground-v2-5'"),
        (without("first_stage_model."), r"holds no autoencoder \(VAE\)"),
        (without("cond_stage_model."), "holds no text encoder"),
        (
            {k: v for k, v in shapes().items() if k.startswith(UNET)},
            r"no autoencoder \(VAE\) and no text encoder",
        ),
        ({"down_blocks.0.resnets.0.conv1.weight": (320, 320, 3, 3)}, "one part of a model"),
        ({"lora_unet_mid_block.lora_down.weight": (4, 320)}, "an adapter, not a base"),
        ({"transformer.blocks.0.attn.to_q.lora_A.weight": (4, 320)}, "an adapter, not a base"),
        ({"double_blocks.0.img_attn.qkv.weight": (9, 3)}, "of no kind that is known"),
        ({}, "of no kind that is known"),
    ],
)
def test_files_of_other_kinds_are_refused_by_name(
    found: dict[str, tuple[int, ...]], said: str
) -> None:
    with pytest.raises(BaseModelError, match=said):
        kind_of(Path("x.safetensors"), found)


def test_what_the_unet_predicts_is_told_from_the_file(tmp_path: Path) -> None:
    """By the marks of other tools, by ModelSpec, and for 2.x as ComfyUI tells it."""
    v2, bias = {V2: (320, 1024)}, f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias"

    def opened(given: dict[str, Any], spread: float = 0.0, **said: str) -> Any:
        tensors = {k: torch.zeros(v) for k, v in (shapes() | given).items()}
        tensors[bias] = torch.tensor([-spread, spread])
        save_file(
            tensors, tmp_path / "x.safetensors", {f"modelspec.{k}": v for k, v in said.items()}
        )
        return open_single_file(tmp_path / "x.safetensors", None)

    plain = opened({})
    assert (plain.config.name, plain.prediction, plain.zero_snr) == ("sd1", None, False)
    marked = opened({"v_pred": (0,), "ztsnr": (0,)})
    assert (marked.config.name, marked.prediction, marked.zero_snr) == ("sd1", "v_prediction", True)
    assert opened({}, prediction_type="v").prediction == "v_prediction"
    assert opened(v2, spread=0.05).config.name == "sd2"
    assert opened(v2, spread=0.2).config.name == "sd2-v"
    assert opened(v2, spread=0.2, prediction_type="epsilon").config.name == "sd2"
    assert opened({XL: (1280,)}).config.name == "sdxl"


def test_velocities_are_in_the_loaded_schedule(tmp_path: Path) -> None:
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    file = original_layout.write(tiny.pipeline("sd"), tmp_path / "x.safetensors", more=marks)
    config = loaded(f"{file}@{tiny.saved('sd')}").pipeline.scheduler.config
    assert config.prediction_type == "v_prediction"
    assert config.rescale_betas_zero_snr
    assert config.timestep_spacing == "trailing"


# The original code's configurations, as far as diffusers reads them:
# CompVis/stable-diffusion configs/stable-diffusion/v1-inference.yaml; Stability-AI/stablediffusion
# configs/stable-diffusion/v2-inference.yaml and v2-inference-v.yaml; Stability-AI/generative-models
# configs/inference/sd_xl_base.yaml.
AUTOENCODER = {
    "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
    "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip
ORIGINAL_UNET: dict[str, dict[str, Any]] = {
    "sd1": {
        "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": 2,
        "attention_resolutions": [4, 2, 1], "channel_mult": [1, 2, 4, 4], "num_heads": 8,
        "use_spatial_transformer": True, "transformer_depth": 1, "context_dim": 768,
    },
    "sd2": {
        "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": 2,
        "attention_resolutions": [4, 2, 1], "channel_mult": [1, 2, 4, 4], "num_head_channels": 64,
        "use_spatial_transformer": True, "use_linear_in_transformer": True, "transformer_depth": 1,
        "context_dim": 1024,
    },
    "sdxl": {
        "adm_in_channels": 2816, "num_classes": "sequential", "in_channels": 4, "out_channels": 4,
        "model_channels": 320, "attention_resolutions": [4, 2], "num_res_blocks": 2,
        "channel_mult": [1, 2, 4], "num_head_channels": 64, "use_linear_in_transformer": True,
        "transformer_depth": [1, 2, 10], "context_dim": 2048,
    },
}  # fmt: skip
ORIGINAL_UNET["sd2-v"] = ORIGINAL_UNET["sd2"]
# Parameters of the published models, by part.
PARAMETERS = {
    "sd1": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    "sd2": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "sd2-v": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "sdxl": {
        "unet": 2_567_463_684, "vae": 83_653_863, "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
    },
}  # fmt: skip


def on_meta(kind: str) -> Any:
    """The models that a shipped configuration describes, without memory."""
    import diffusers
    import transformers

    folder = resource("assets", f"single-file/{kind}")
    index = json.loads((folder / "model_index.json").read_text())
    found = {}
    for name in PARAMETERS[kind]:
        library, cls = index[name]
        path = folder / name
        with torch.device("meta"):
            if library == "diffusers":
                made = getattr(diffusers, cls)
                found[name] = made.from_config(made.load_config(path))
            else:
                config = transformers.CLIPTextConfig.from_pretrained(path)
                found[name] = getattr(transformers, cls)(config)
    return SimpleNamespace(**found)


@pytest.mark.parametrize("kind", PARAMETERS)
def test_a_shipped_configuration_is_the_published_model(kind: str) -> None:
    """Its numbers, as diffusers reads them from the original code's files."""
    from diffusers.loaders import single_file_utils as utils

    folder = resource("assets", f"single-file/{kind}")
    ours = {p: json.loads((folder / p / "config.json").read_text()) for p in ("unet", "vae")}
    first = {"params": {"ddconfig": AUTOENCODER}}
    params: dict[str, Any] = {
        "first_stage_config": first,
        "unet_config": {"params": ORIGINAL_UNET[kind]},
        "network_config": {"params": ORIGINAL_UNET[kind]},
        "scale_factor": 0.13025 if kind == "sdxl" else 0.18215,
    }
    config = {"model": {"target": "", "params": params}}
    size = ours["vae"]["sample_size"]
    unet = utils.create_unet_diffusers_config_from_ldm(config, {}, image_size=size)
    vae = utils.create_vae_diffusers_config_from_ldm(config, {}, image_size=size)
    for part, theirs in (("unet", unet), ("vae", vae)):
        for name, value in theirs.items():
            if value is not None:
                wanted = list(value) if isinstance(value, tuple) else value
                mine = ours[part].get(name, wanted)
                assert mine == wanted or [mine] == list(set(wanted)), (part, name)


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_a_shipped_configuration_takes_all_names_and_shapes(kind: str) -> None:
    """The published sizes, and diffusers' conversion of the original names onto them."""
    from diffusers.loaders import single_file_utils as utils

    made = on_meta(kind)
    counts = {name: sum(p.numel() for p in getattr(made, name).parameters()) for name in vars(made)}
    assert counts == PARAMETERS[kind]
    checkpoint = original_layout.original(made)
    assert kind_of(Path("x"), {k: tuple(v.shape) for k, v in checkpoint.items()}) in SHIPPED
    found = {
        "unet": utils.convert_ldm_unet_checkpoint(checkpoint, made.unet.config),
        "vae": utils.convert_ldm_vae_checkpoint(checkpoint, made.vae.config),
    }
    for name, state in found.items():
        expected = {k: v.shape for k, v in getattr(made, name).state_dict().items()}
        assert {k: v.shape for k, v in state.items()} == expected


# From open_clip_torch 3.3.0: SimpleTokenizer.encode, between start and end.
WORDS = {
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "Hello, world! It's 2024": [3306, 267, 1002, 256, 585, 568, 273, 271, 273, 275],
    "naïve café über straße": [1097, 35689, 563, 15304, 6522, 1516, 1894, 127, 253, 324],
    "日本の猫 и кот": [39121, 44353, 21575, 163, 234, 360, 140, 372, 27152, 13506, 141, 480],
    "emoji 🙂 — “quotes”": [16327, 14860, 2005, 728, 506, 5808, 728, 507],
    "THEY'RE don't": [889, 982, 847, 713],
}


def test_the_shipped_tokenizer_is_clips(no_network: None) -> None:
    tokenizer = clip_tokenizer(resource("assets", "single-file/sd1") / "tokenizer")
    for text, ids in WORDS.items():
        assert tokenizer(text)["input_ids"] == [49406, *ids, 49407], text
    assert (len(tokenizer), tokenizer.model_max_length, tokenizer.pad_token_id) == (
        49408,
        77,
        49407,
    )


def test_limits_of_a_file_are_read_without_its_weights(tmp_path: Path, no_network: None) -> None:
    tensors = {k: torch.zeros(v) for k, v in shapes().items()}
    save_file(tensors, tmp_path / "sd15.safetensors")
    limits = read_limits(str(tmp_path / "sd15.safetensors"))
    assert limits.resolution == 512
    assert limits.text is not None
    assert limits.text.tokens == 77


def refused(base: str) -> str:
    with pytest.raises(BaseModelError) as caught:
        loaded(base)
    return str(caught.value)


def test_files_that_cannot_be_loaded_say_what_to_do(tmp_path: Path) -> None:
    file, folder = file_and_folder(tmp_path, "sd", torch.float32)
    assert "no such file" in refused(str(tmp_path / "absent.safetensors"))
    assert "no such file" in refused("models/absent.safetensors")  # and no hub id
    for name, said in (("a.ckpt", "can run code"), ("a.gguf", "quantized for inference")):
        shutil.copy(file, tmp_path / name)
        assert said in refused(str(tmp_path / name))
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:1000])
    assert "is damaged" in refused(str(tmp_path / "cut.safetensors"))
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4265146304\n"
    (tmp_path / "lfs.safetensors").write_text(pointer)
    assert "git lfs pull" in refused(str(tmp_path / "lfs.safetensors"))
    assert "holds no model_index.json" in refused(f"{file}@{tmp_path}")
    assert "--base-config FOLDER" in refused(str(file))  # smaller than what mmtune describes
    whole = original_layout.original(tiny.pipeline("sd"))
    whole = {k: v.contiguous().clone() for k, v in whole.items()}
    for part, name in (("unet", "middle_block.1"), ("text_encoder", "final_layer_norm")):
        some = {k: v for k, v in whole.items() if name not in k}
        save_file(some, tmp_path / "some.safetensors")
        assert f"lacks weights of the {part}" in refused(
            f"{tmp_path / 'some.safetensors'}@{folder}"
        )
    scaled = whole | {f"{UNET}out.2.scale_weight": torch.ones(1)}
    save_file(scaled, tmp_path / "scaled.safetensors")
    assert "fewer bits" in refused(f"{tmp_path / 'scaled.safetensors'}@{folder}")
    whole[f"{UNET}out.2.weight"] = torch.full_like(whole[f"{UNET}out.2.weight"], torch.nan)
    save_file(whole, tmp_path / "nan.safetensors")
    assert "NaN" in refused(f"{tmp_path / 'nan.safetensors'}@{folder}")


@pytest.mark.parametrize(
    ("base", "file", "folder"),
    [
        ("a/b.safetensors", "a/b.safetensors", None),
        ("a/b.safetensors@c/d", "a/b.safetensors", "c/d"),
        ("me@host/b.safetensors@c@d", "me@host/b.safetensors", "c@d"),
        ("a.safetensors@old/b.safetensors", "a.safetensors", "old/b.safetensors"),
        ("openai/whisper-small", "openai/whisper-small", None),
        (".safetensors@x", ".safetensors@x", None),
    ],
)
def test_a_name_is_split_into_file_and_folder(base: str, file: str, folder: str | None) -> None:
    assert split_base(base) == (file, folder)
    assert join_base(file, folder) == base


def test_the_folder_that_describes_a_file_is_a_setting(tmp_path: Path) -> None:
    config = load_recipe("brand_style", {"base": "m/x.safetensors", "base-config": "folder"})
    assert (config.base, config.base_config) == ("m/x.safetensors@folder", None)
    again = load_recipe("brand_style", {"base": config.base})
    assert again.dump() == config.dump()
    for base in ("starter:icons", "owner/name", "folder"):
        with pytest.raises(ConfigError, match=r"describes a base that is one \.safetensors"):
            join_base(base, "folder")
    with pytest.raises(ConfigError, match="names the configuration folder"):
        join_base(config.base, "other")


def test_the_command_line_joins_file_and_folder() -> None:
    given = argparse.Namespace(base="x.safetensors", base_config="folder")
    apply_base_config(given)
    assert given.base == "x.safetensors@folder"
    with pytest.raises(ConfigError, match="no --base is given"):
        apply_base_config(argparse.Namespace(base=None, base_config="folder"))
    apply_base_config(argparse.Namespace())  # a command without the option


def test_a_workflow_names_the_file() -> None:
    assert _checkpoint("m/x.safetensors@folder/described") == "x.safetensors"
    assert _checkpoint(r"C:\models\x.safetensors") == "x.safetensors"
    assert _checkpoint("owner/sdxl") == "sdxl.safetensors"


def test_a_file_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = "models/x.safetensors"
    assert is_checkpoint(base)
    assert is_checkpoint(f"{base}@folder")
    assert base_of(base, tmp_path) == base  # nothing to download, so no consent is asked for
    assert redact_base(base) == redact_base(f"{base}@me") == "a local file"
    assert licence_of(base) is None
    (tmp_path / "models").mkdir()
    save_file(
        {"a": torch.zeros(1)}, tmp_path / base, {"modelspec.license": "CreativeML Open RAIL-M"}
    )
    found = licence_of(base)
    assert found is not None
    assert found.name == "creativeml open rail-m"


def test_a_description_is_read_in_place_of_a_file(tmp_path: Path) -> None:
    file = original_layout.write(tiny.pipeline("sd"), tmp_path / "x.safetensors")
    source = resolve_base(f"{file}@{tiny.saved('sd')}")
    assert read_index(source)["_class_name"] == "StableDiffusionPipeline"
