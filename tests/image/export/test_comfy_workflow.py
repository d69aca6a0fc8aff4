"""The workflow beside a kohya file, by ComfyUI's rules, and what an export says to do."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from mmtune.adapters.card import Card
from mmtune.adapters.exported import Export
from mmtune.image.export import FORMATS as IMAGE_FORMATS
from mmtune.image.export.comfy_workflow import LATENTS, finish, workflow
from mmtune.image.export.to_kohya import FORMAT
from mmtune.image.export.use_notes import use_folder, use_pipeline
from mmtune.speech.export import FORMATS as SPEECH_FORMATS

# Inputs and outputs of the nodes in ComfyUI 0.3.60 (nodes.py, comfy_extras/nodes_sd3.py and
# nodes_flux.py), by hand: the required inputs with their types, and the outputs' types.
NODES = {
    "CheckpointLoaderSimple": ({"ckpt_name": str}, ("MODEL", "CLIP", "VAE")),
    "LoraLoader": (
        {
            **{"model": "MODEL", "clip": "CLIP", "lora_name": str},
            **{"strength_model": float, "strength_clip": float},
        },
        ("MODEL", "CLIP"),
    ),
    "CLIPTextEncode": ({"text": str, "clip": "CLIP"}, ("CONDITIONING",)),
    "EmptyLatentImage": ({"width": int, "height": int, "batch_size": int}, ("LATENT",)),
    "EmptySD3LatentImage": ({"width": int, "height": int, "batch_size": int}, ("LATENT",)),
    "FluxGuidance": ({"conditioning": "CONDITIONING", "guidance": float}, ("CONDITIONING",)),
    "KSampler": (
        {
            **{"model": "MODEL", "seed": int, "steps": int, "cfg": float, "sampler_name": str},
            **{"scheduler": str, "positive": "CONDITIONING", "negative": "CONDITIONING"},
            **{"latent_image": "LATENT", "denoise": float},
        },
        ("LATENT",),
    ),
    "VAEDecode": ({"samples": "LATENT", "vae": "VAE"}, ("IMAGE",)),
    "SaveImage": ({"images": "IMAGE", "filename_prefix": str}, ()),
}
SCHEDULERS = ("normal", "simple")  # two of comfy.samplers.SCHEDULER_NAMES


def request(folder: Path, base: str = "stabilityai/sdxl", trigger: str = "acme") -> Export:
    card = Card(
        name="brand",
        recipe="brand_style",
        modality="image",
        base=base,
        base_hash="0",
        dataset="1" * 64,
        rows={},
        settings={"task": {"steps": 25, "guidance": 4.5, "trigger": trigger}},
        advised=0.6,
    )
    return Export(folder, card, base, "kohya", folder / "x.safetensors", scale=0.6)


@pytest.mark.parametrize("pipeline", LATENTS)
def test_comfyui_would_accept_it(tmp_path: Path, pipeline: str) -> None:
    nodes = workflow(request(tmp_path), "brand.safetensors", pipeline)
    for node in nodes.values():
        inputs, _ = NODES[node["class_type"]]
        assert node["inputs"].keys() == inputs.keys()
        for name, value in node["inputs"].items():
            wanted = inputs[name]
            if isinstance(wanted, str):
                source, place = value
                assert NODES[nodes[source]["class_type"]][1][place] == wanted
            else:
                assert type(value) is wanted, name
    [sampler] = [each["inputs"] for each in nodes.values() if each["class_type"] == "KSampler"]
    assert (sampler["steps"], sampler["scheduler"] in SCHEDULERS) == (25, True)
    assert sampler["cfg"] == (1.0 if pipeline == "FluxPipeline" else 4.5)
    [lora] = [each["inputs"] for each in nodes.values() if each["class_type"] == "LoraLoader"]
    assert (lora["lora_name"], lora["strength_model"]) == ("brand.safetensors", 1.0)
    assert "acme, a red apple" in json.dumps(nodes)


def test_the_notes_say_what_to_do_with_the_file(tmp_path: Path) -> None:
    place = tmp_path / "brand.safetensors"
    asked = request(tmp_path)
    use, shown = finish(asked, place, "StableDiffusionXLPipeline")
    for words in ("ComfyUI/models/loras", "models/Lora of A1111", "stabilityai/sdxl", '"acme"'):
        assert words in use
    assert "use it at strength 1, which is the strength at which it was judged (0.6 of" in use
    path = tmp_path / "brand.comfyui.json"
    assert str(path) in shown
    assert json.loads(path.read_text()) == workflow(asked, place.name, "StableDiffusionXLPipeline")
    path.write_text("mine")
    assert "exists and is kept" in finish(asked, place, "StableDiffusionXLPipeline")[1]
    assert path.read_text() == "mine"
    [given] = finish(replace(asked, scale=1.0), place, "QwenImagePipeline")  # no workflow of it
    assert "the strength that you gave (1 of" in given
    [plain] = finish(request(tmp_path, trigger=""), place, "ZImagePipeline")
    assert "begin prompts" not in plain


def test_a_starters_lora_is_of_no_use_elsewhere(tmp_path: Path) -> None:
    place = tmp_path / "brand.safetensors"
    [note] = FORMAT.finish(request(tmp_path, "starter:icons"), place)
    assert "fits starter:icons alone" in note
    assert not list(tmp_path.iterdir())


def test_a_folder_and_a_pipeline_say_what_to_do_with_them(tmp_path: Path) -> None:
    place, asked = tmp_path / "brand", request(tmp_path)
    [folder] = use_folder(asked, place, "StableDiffusionXLPipeline")
    assert f"load_lora_weights({str(place)!r})" in folder
    for words in ("its base is stabilityai/sdxl", "at strength 1", "0.6 of", '"acme"'):
        assert words in folder
    [starter] = use_folder(request(tmp_path, "starter:icons"), place, "StableDiffusionXLPipeline")
    assert "of no use there" in starter
    [pipeline] = use_pipeline(asked, place, "StableDiffusionXLPipeline")
    assert f"from_pretrained({str(place)!r})" in pipeline
    for words in ("base stabilityai/sdxl", "at 0.6 of its trained strength", '"acme"'):
        assert words in pipeline
    assert "begin prompts" not in use_pipeline(request(tmp_path, trigger=""), place, "")[0]


@pytest.mark.parametrize("name", IMAGE_FORMATS)
def test_each_image_format_says_what_to_do(name: str) -> None:
    module, _, record = IMAGE_FORMATS[name].partition(":")
    assert getattr(importlib.import_module(module), record).after is not None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("transformers", "pipeline(\"automatic-speech-recognition\", model='{place}')"),
        ("ctranslate2", "WhisperModel('{place}')"),
        ("ggml", "whisper-cli -m {place}/ggml-model.bin"),
    ],
)
def test_each_speech_format_says_what_to_do(tmp_path: Path, name: str, words: str) -> None:
    module, _, record = SPEECH_FORMATS[name].partition(":")
    format = getattr(importlib.import_module(module), record)
    [said] = format.finish(request(tmp_path, "openai/whisper-base"), tmp_path / "model")
    assert words.format(place=tmp_path / "model") in said
    assert "in the weights of openai/whisper-base, at 0.6 of its trained strength" in said
    asked = request(tmp_path, "openai/whisper-base")
    weaker = replace(asked, card=asked.card.model_copy(update={"scale": 0.25}))
    [said] = format.finish(weaker, tmp_path / "model")
    assert "at 0.15 of its trained strength" in said  # saved at 0.25, exported at 0.6 of that
    assert set(SPEECH_FORMATS) == {"transformers", "ctranslate2", "ggml"}


@pytest.mark.parametrize("name", ["two words", "the 'new' one", 'say "hi"', "C:\\new", "{x} $HOME"])
def test_code_that_an_export_advises_names_its_very_folder(tmp_path: Path, name: str) -> None:
    asked, place = request(tmp_path, "openai/whisper-base"), tmp_path / name
    said = [*use_folder(asked, place, ""), *use_pipeline(asked, place, "")]
    for format in ("transformers", "ctranslate2"):
        module, _, record = SPEECH_FORMATS[format].partition(":")
        said += getattr(importlib.import_module(module), record).finish(asked, place)
    calls = r"(?:weights|pretrained|WhisperModel)\((.*?)\)[.:;,]|model=(.*?)\);"
    found = [ast.literal_eval(a or b) for line in said for a, b in re.findall(calls, line)]
    assert found == [str(place)] * 4
    module, _, record = SPEECH_FORMATS["ggml"].partition(":")
    [line] = getattr(importlib.import_module(module), record).finish(asked, place)
    command = line.partition("whisper.cpp: ")[2].partition("; it is")[0]
    assert shlex.split(command)[2] == str(place / "ggml-model.bin")
