"""Sampling: shared noise, adapters on and off, strict loading, files."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mmtune.adapters.card import read_card
from mmtune.errors import AdapterError, ConfigError
from mmtune.evaluation.gate_result import GateResult
from mmtune.evaluation.verdict import Verdict, write_verdict
from mmtune.image.diffusion.base import DiffusionBase
from mmtune.image.diffusion.denoiser_lora import WEIGHTS
from mmtune.image.image_row import ImageRow
from mmtune.image.sampling.a1111_parameters import parameters
from mmtune.image.sampling.generate import generate
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.image.sampling.sampler import generator_of
from mmtune.predict import Request
from tests.image import tiny

PROMPTS = ("red ball", "blue box", "green ball")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LoRA for the starter's kind of pipeline, written by diffusers itself."""
    from diffusers.training_utils import _collate_lora_metadata
    from peft import LoraConfig, get_peft_model_state_dict

    folder = tmp_path_factory.mktemp("adapter")
    base = tiny.loaded("sdxl-one-encoder")
    unet = base.pipeline.unet
    torch.manual_seed(0)
    unet.add_adapter(
        LoraConfig(r=4, lora_alpha=2, target_modules=["to_q", "conv1"], init_lora_weights=False)
    )
    base.pipeline.save_lora_weights(
        folder,
        unet_lora_layers=get_peft_model_state_dict(unet),
        **_collate_lora_metadata({"unet": unet}),
    )
    return folder


def predictor(adapters: dict[str, Path], base: DiffusionBase | None = None) -> ImagePredictor:
    return ImagePredictor(base or tiny.loaded("sdxl-one-encoder"), adapters, steps=3, guidance=2.0)


def images(of: ImagePredictor, adapters: dict[str, float], seed: int = 0) -> list[bytes]:
    requests = [Request(ImageRow(id=p, image="-", caption=p), adapters, seed) for p in PROMPTS]
    found = of.predict(requests)
    assert [p.row for p in found] == list(PROMPTS)
    return [p.value.tobytes() for p in found]


def test_the_noise_comes_from_prompt_and_seed_alone() -> None:
    def noise(prompt: str, seed: int) -> torch.Tensor:
        return torch.randn(3, generator=generator_of(prompt, seed))

    assert torch.equal(noise("a", 1), noise(" a ", 1))
    assert not torch.equal(noise("a", 1), noise("b", 1))
    assert not torch.equal(noise("a", 1), noise("a", 2))


def test_the_adapter_off_is_the_base_bit_by_bit(adapter: Path) -> None:
    base, tuned = images(predictor({}), {}), predictor({"brand": adapter})
    assert images(tuned, {}) == base
    on = images(tuned, {"brand": 1.0})
    assert all(a != b for a, b in zip(on, base, strict=True))
    assert images(tuned, {"brand": 0.4}) not in (on, base)
    assert images(tuned, {}) == base  # again, after it was on
    assert images(tuned, {"brand": 1.0}) == on
    assert images(tuned, {}, seed=1) != base
    assert tuned.fingerprint != predictor({}).fingerprint


def test_requests_with_different_adapters_may_be_mixed(adapter: Path) -> None:
    both = predictor({"brand": adapter})
    row = ImageRow(id="r", image="-", caption="red ball")
    mixed = both.predict([Request(row, {"brand": 1.0}), Request(row, {}), Request(row, {}, 5)])
    [on] = both.predict([Request(row, {"brand": 1.0})])
    assert mixed[0].value.tobytes() == on.value.tobytes()
    assert len({p.value.tobytes() for p in mixed}) == 3
    with pytest.raises(AdapterError, match="no adapter 'other' is loaded"):
        both.predict([Request(row, {"other": 1.0})])


def damaged(adapter: Path, folder: Path, change: object) -> Path:
    shutil.copytree(adapter, folder)
    weights = load_file(folder / WEIGHTS)
    change(weights)  # type: ignore[operator]
    save_file(weights, folder / WEIGHTS)
    return folder


def test_adapters_that_do_not_fit_are_refused(adapter: Path, tmp_path: Path) -> None:
    def rename(weights: dict[str, torch.Tensor]) -> None:
        key = next(k for k in sorted(weights) if "down_blocks.1" in k and "lora_A" in k)
        weights[key.replace("down_blocks.1", "down_blocks.7")] = weights.pop(key)

    def silence(weights: dict[str, torch.Tensor]) -> None:
        for key in weights:
            if "lora_B" in key:
                weights[key].zero_()

    def drop(weights: dict[str, torch.Tensor]) -> None:
        del weights[next(k for k in sorted(weights) if "lora_A" in k)]

    def widen(weights: dict[str, torch.Tensor]) -> None:
        key = next(k for k in sorted(weights) if "lora_A" in k)
        weights[key] = torch.ones(weights[key].shape[0], 3)

    for name, change, words in (
        ("renamed", rename, "doesn't fit the base|can't be loaded"),
        ("silent", silence, "has no effect"),
        ("dropped", drop, "doesn't fit the base|can't be loaded"),
        ("widened", widen, "can't be loaded"),
    ):
        folder = damaged(adapter, tmp_path / name, change)
        with pytest.raises(AdapterError, match=words):
            predictor({"brand": folder})
    cut = shutil.copytree(adapter, tmp_path / "cut")
    (cut / WEIGHTS).write_bytes((cut / WEIGHTS).read_bytes()[:200])
    with pytest.raises(AdapterError, match="is damaged"):
        predictor({"brand": cut})
    with pytest.raises(AdapterError, match=WEIGHTS):
        predictor({"brand": tmp_path})


def test_a_picture_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"apple\.PNG is no folder") as caught:
        generate(["a red apple"], tmp_path / "apple.PNG", base="starter:icons")
    assert caught.value.cure == f"name a folder: --out {tmp_path / 'apple'}"
    assert not list(tmp_path.iterdir())


def test_generate_writes_pngs_that_say_what_they_are(adapter: Path, tmp_path: Path) -> None:
    settings = {"base": str(tiny.saved("sdxl-one-encoder")), "steps": 2, "guidance": 1.0}
    paths = generate(["A red ball!", "x"], tmp_path, adapter=adapter, seeds=(0, 3), **settings)
    assert [p.name for p in paths] == [
        "a-red-ball-seed0.png",
        "a-red-ball-seed3.png",
        "x-seed0.png",
        "x-seed3.png",
    ]
    with Image.open(paths[1]) as image:
        assert image.size == (64, 64)
        assert image.info["mmtune.prompt"] == "A red ball!"
        assert "prompt" not in image.info, "ComfyUI reads this as JSON"
        assert image.info["seed"] == "3"
        assert image.info["adapter"] == str(adapter)
        on = image.tobytes()
    again = generate(["A red ball!"], tmp_path / "b", adapter=adapter, seeds=(3,), **settings)
    off = generate(["A red ball!"], tmp_path / "c", seeds=(3,), **settings)
    with Image.open(again[0]) as image:
        assert image.tobytes() == on
    with Image.open(off[0]) as image:
        assert image.tobytes() != on
    with pytest.raises(ConfigError, match="no prompt"):
        generate([], tmp_path, **settings)


def test_a_picture_says_how_it_was_made_and_that_a_model_made_it(tmp_path: Path) -> None:
    from xml.etree import ElementTree

    from mmtune.system.hashing import hash_file
    from tests.image import adapters

    one = adapters.make(tmp_path / "one", "sd")
    two = adapters.make(tmp_path / "two", "sd", r=2, target_modules=["conv1"])
    settings = {"base": str(tiny.saved("sd")), "steps": 2, "guidance": 1.5, "precision": "fp32"}
    given = {one: 0.7, two: 0.5}
    out = tmp_path / "out"
    paths = generate(["rød bold"], out, adapter=given, seeds=(0, 3), grid=True, **settings)
    assert [p.name for p in paths] == ["rød-bold-seed0.png", "rød-bold-seed3.png", "grid.png"]
    with Image.open(paths[1]) as image:
        said = {k: str(v) for k, v in image.info.items()}
        drawn = image.tobytes()
    assert (said["mmtune.prompt"], said["seed"]) == ("rød bold", "3")
    assert (said["steps"], said["guidance"], said["base"]) == ("2", "1.5", settings["base"])
    assert said["base_hash"] == tiny.loaded("sd").fingerprint
    assert said["dtype"] == "float32"
    versions = [f"brand@{hash_file(a / WEIGHTS)[:16]}*{w:g}" for a, w in ((one, 0.7), (two, 0.5))]
    assert said["adapter_version"] == ", ".join(versions)
    for path in paths:
        with Image.open(path) as image:
            packet = str(image.info["XML:com.adobe.xmp"])
        root = ElementTree.fromstring(packet)
        [description] = root.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
        name = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
        assert description.attrib[name].endswith("/trainedAlgorithmicMedia")
    # Both at work, each with its weight: as the predictor has them.
    both = ImagePredictor(tiny.loaded("sd"), {"a": one, "b": two}, steps=2, guidance=1.5)
    row = ImageRow(id="r", image="-", caption="rød bold")
    [seen] = both.predict([Request(row, {"a": 0.7, "b": 0.5}, 3)])
    [alone] = both.predict([Request(row, {"a": 0.7}, 3)])
    assert seen.value.tobytes() == drawn != alone.value.tobytes()


def test_the_command_takes_several_adapters_seeds_and_prompts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmtune.cli import main
    from tests.image import adapters

    monkeypatch.chdir(tmp_path)
    adapters.make(tmp_path / "runs" / "one" / "adapter", "sd")
    adapters.make(tmp_path / "two=2", "sd", r=2)
    command = ["generate", "--adapter", "runs/one=0.5", "--adapter", "two=2"]
    more = ["--prompt", "x", "--prompt", "y", "--seeds", "4,9", "--grid", "--guidance", "1"]
    assert main([*command, *more]) == 0
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert names == ["x-seed4.png", "x-seed9.png", "y-seed4.png", "y-seed9.png", "grid.png"]
    with Image.open("images/x-seed4.png") as image:
        assert image.info["weight"] == "0.5, 1"
        assert (image.info["steps"], image.info["guidance"]) == ("2", "1")
    with Image.open("images/grid.png") as image:
        assert image.height > 4 * 100, "base, each alone, and both"
    adapters.make(tmp_path / "other", "sd", base="elsewhere/model")
    for arguments, found in (
        ([*command, "--adapter", "other", "--prompt", "x"], "is for the base elsewhere/model"),
        ([*command, "--adapter", "two=2", "--prompt", "x"], "given twice"),
        ([*command, "--prompt", "x", "--seeds", "1,b"], "not a whole number"),
        ([*command, "--prompt", "x", "--seeds", "1", "--count", "2"], "both given"),
        ([*command, "--prompt", "x", "--guidance", "0"], "below 1"),
    ):
        assert main(arguments) == 2
        assert found in capsys.readouterr().err


def test_what_was_judged_is_what_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `generate` and by `export`, unless another strength is asked for."""
    from safetensors import safe_open

    from mmtune.cli import main
    from tests.image import adapters

    monkeypatch.chdir(tmp_path)
    folder = adapters.make(tmp_path / "one", "sd")
    read_card(folder).model_copy(update={"advised": 0.5, "judged": 0.5}).write(folder)

    def weight(*words: str) -> str:
        asked = ["generate", "--prompt", "x", "--guidance", "1", "--steps", "1", "--out", "drawn"]
        assert main([*asked, *words]) == 0
        [path] = Path("drawn").iterdir()
        with Image.open(path) as image:
            found = str(image.info["weight"])
        path.unlink()
        return found

    assert weight("--adapter", "one") == "0.5"
    assert "drawn at strength 0.5, at which the adapter was judged" in capsys.readouterr().err
    assert weight("--adapter", "one", "--scale", "1") == "1"
    assert weight("--adapter", "one=0.7") == "0.7"
    assert main(["export", "one", "--format", "diffusers", "--out", "lora"]) == 0
    assert "exported at strength 0.5 of the adapter" in capsys.readouterr().out
    with safe_open(next(Path("lora").glob("*.safetensors")), "pt") as file:
        assert file.metadata()["mmtune.scale"] == "0.5"


def test_the_default_strength_is_that_of_the_figures(tmp_path: Path) -> None:
    from tests.image import adapters

    card = read_card(adapters.make(tmp_path / "one", "sd"))
    some = [{"metric": "style"}]
    for values, judged, default in (
        ({}, 1.0, 1.0),
        ({"advised": 0.5}, 0.5, 0.5),  # before the comparison
        ({"advised": 0.5, "judged": 0.5, "measures": some}, 0.5, 0.5),
        ({"advised": 0.5, "measures": some}, 0.5, 1.0),  # of an earlier version
        ({"advised": 0.0}, 1.0, 1.0),  # the base is recommended: judged is what was trained
        ({"advised": 0.0, "judged": 1.0, "measures": some}, 1.0, 1.0),
    ):
        found = card.model_copy(update=values)
        assert (found.judged_scale, found.default_scale) == (judged, default)


def test_a_picture_that_exists_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmtune.cli import main

    monkeypatch.chdir(tmp_path)
    base = ["--base", str(tiny.saved("sd")), "--guidance", "1", "--out", "out", "--grid"]
    drawn: dict[str, bytes] = {}
    for prompt, steps in (("apple", "1"), ("Apple!", "2")):
        assert main(["generate", "--prompt", prompt, "--steps", steps, *base]) == 0
        files = [Path(line) for line in capsys.readouterr().out.splitlines()]
        assert not drawn.keys() & {path.name for path in files}
        drawn |= {path.name: path.read_bytes() for path in files}
    assert list(drawn) == ["apple-seed0.png", "grid.png", "apple-seed0-2.png", "grid-2.png"]
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == drawn


def test_a_black_picture_is_an_error(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mmtune.cli import main
    from tests.image import adapters

    monkeypatch.chdir(tmp_path)
    adapters.make(tmp_path / "one", "sd")
    asked = ["generate", "--prompt", "apple", "--steps", "1", "--out", "out", "--adapter", "one"]
    asked += ["--scale", "1e30"]
    assert main(asked) == 2
    said = capsys.readouterr().err
    assert "picture of 'apple' with seed 0 has values that are NaN or infinite" in said
    assert "lower --scale" in said
    assert not Path("out").exists()


def test_numbers_that_are_not_finite_are_errors(tmp_path: Path) -> None:
    from mmtune.image import api
    from tests.image import adapters

    one = adapters.make(tmp_path / "one", "sd")
    for number in (float("nan"), float("inf"), -float("inf")):
        for values in ({"scale": number}, {"guidance": number}, {"adapter": {one: number}}):
            with pytest.raises(ConfigError, match=r"finite number|below 1"):
                api.generate("x", **{"adapter": one, "out": tmp_path / "out"} | values)


def test_a_strength_needs_an_adapter(tmp_path: Path) -> None:
    from mmtune.image import api

    with pytest.raises(ConfigError, match=r"--scale 2 is the strength of an adapter, and none"):
        api.generate("x", base="starter:icons", scale=2, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_adapter_by_two_spellings_is_given_twice(tmp_path: Path) -> None:
    from mmtune.adapters.resolve import resolve_adapters
    from tests.image import adapters

    one = adapters.make(tmp_path / "run" / "adapter", "sd")
    (tmp_path / "link").symlink_to(one)
    for other in (one / ".." / "adapter", tmp_path / "link", one.parent):
        with pytest.raises(ConfigError, match="given twice"):
            resolve_adapters("image", {one: 1.0, other: 1.0})


def test_the_strength_and_its_reason_are_said(tmp_path: Path) -> None:
    from mmtune.adapters.resolve import resolve_adapters
    from mmtune.image.sampling.strength_used import strength_of
    from tests.image import adapters

    one = adapters.make(tmp_path / "run" / "adapter", "sd")
    two = adapters.make(tmp_path / "two", "sd", r=2)
    some = [{"metric": "style", "slice": "all", "items": 3}]
    card = read_card(one)

    def said(given: dict[Path, float], scale: float | None, **values: object) -> tuple[str, ...]:
        model = resolve_adapters("image", given, base="any")
        cards = {name: card.model_copy(update=values) for name in model.cards}
        return strength_of(replace(model, cards=cards), routed=False, scale=scale).notes

    judged = {"judged": 0.5, "measures": some}
    for given, scale, values, note in (
        ({one: 1.0}, None, {}, "drawn at strength 1, its full strength; the adapter wasn't judged"),
        (
            *({one: 1.0}, None, judged),
            "drawn at strength 0.5, at which the adapter was judged; a scale of 1 is its full "
            "strength",
        ),
        (
            *({one: 1.0}, None, {"advised": 0.75, "advice": "the nearest"}),
            "drawn at strength 0.75, which was recommended after training (the nearest); a scale "
            "of 1 is its full strength",
        ),
        ({one: 1.0}, 0.3, judged, "drawn at strength 0.3, as --scale gives it"),
        ({one: 1.0}, 0.0, judged, "strength 0: the base model alone, as --scale gives it"),
        ({one: 0.7}, None, judged, "drawn at strength 0.7, as the weights of --adapter are given"),
        (
            *({one: 0.7, two: 1.0}, 0.5, judged),
            f"drawn at strengths {one} 0.35, {two} 0.5, as --scale gives it",
        ),
    ):
        assert said(given, scale, **values) == (note,)
    assert said({}, None) == ()


@pytest.mark.parametrize("decision", ["ship", "keep the base", "no adapter needed", "damaged"])
def test_a_verdict_against_the_adapter_is_a_warning(tmp_path: Path, decision: str) -> None:
    from mmtune.adapters.resolve import resolve_adapters
    from mmtune.image.sampling.strength_used import strength_of
    from tests.image import adapters

    one = adapters.make(tmp_path / "run" / "adapter", "sd")
    result = GateResult("g", "must", "failed", "", "", "style", "all", "difference", "lower")
    (tmp_path / "run" / "verdict.json").write_text("{")
    if decision != "damaged":
        write_verdict(tmp_path / "run", Verdict(decision, "s", [], [], result, []))
    model = resolve_adapters("image", {one: 1.0})
    warned = strength_of(model, routed=False, scale=None).notes[1:]
    assert bool(warned) == (decision in {"keep the base", "no adapter needed"})
    assert all(f"the verdict on {one} is: {decision}" in note for note in warned)
    assert strength_of(model, routed=False, scale=0.0).notes[1:] == ()


def test_seed_minus_one_is_random_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmtune.cli import main

    monkeypatch.chdir(tmp_path)
    base = ["--base", str(tiny.saved("sd")), "--guidance", "1", "--steps", "1"]
    drawn = iter([17, 23, 5])
    for module in ("api", "sampling.strength_used"):
        monkeypatch.setattr(f"mmtune.image.{module}.draw_seed", lambda: next(drawn))
    for words, seeds, note in (
        (["--seed", "-1", "--count", "2"], (17, 18), "seed 17, drawn at random"),
        (["--seeds=-1,4"], (23, 4), "seeds 23, 4: drawn at random where -1 was given"),
    ):
        assert main(["generate", "--prompt", "x", *base, *words]) == 0
        out, err = capsys.readouterr()
        assert [Path(line).name for line in out.splitlines()] == [f"x-seed{n}.png" for n in seeds]
        assert f"note: {note}" in err


def test_a1111_reads_its_parameters() -> None:
    """By the regular expressions of AUTOMATIC1111 1.10 (modules/infotext_utils.py)."""
    field = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
    text = parameters(
        "a red\napple",
        steps=20,
        guidance=5.5,
        seed=7,
        size=(512, 768),
        base='C:/models, "mine"',
        scheduler="EulerAncestralDiscreteScheduler",
        adapters={"brand": 0.5, "other": 1.0},
        version="1.2",
    )
    prompt, line = text.split("\n")
    assert prompt == "a red apple <lora:brand:0.5> <lora:other:1>"
    found = {k: json.loads(v) if v.startswith('"') else v for k, v in field.findall(line)}
    assert found == {
        "Steps": "20",
        "Sampler": "Euler a",
        "CFG scale": "5.5",
        "Seed": "7",
        "Size": "512x768",
        "Model": 'C:/models, "mine"',
        "Version": "mmtune 1.2",
    }
