"""The starter's training: the plain U-Net is diffusers', and a run can be stopped and carried."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from .conftest import RECIPE

SMALL = {"channels": 12, "widths": [96, 32, 32], "heads": [8, 0, 4], "batch": 4}


def pack(recipe):
    """Random pictures and captions, a fitted basis and an untrained text encoder."""
    text, textnet, vae = recipe("text"), recipe("textnet"), recipe("vae")
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    ids = rng.integers(2, 50, (24, 6, 20)).astype(np.uint16)
    ids[:, :, 8:] = 1
    basis = vae.fit_basis(pixels)
    pixels = {"pixels": pixels, "ids": ids}
    some = torch.randn(200, 12, 16, 16)
    encoder = textnet.converted(text.make_encoder(50).state_dict())
    heads = text.Heads().state_dict()
    return recipe("train").Pack(pixels, basis, text.fit_components(some), encoder, heads)


def arguments(work, **more) -> argparse.Namespace:
    usual = {"work": work, "pack": None, "plan": json.dumps(SMALL), "device": "cpu", "gpu": False}
    usual |= {"out": None, "minutes": 5, "samples": 0, "batch": 0, "cooldown": 0, "seed": 0}
    return argparse.Namespace(**usual | {"save_every": 9, "log_every": 1, "threads": 1} | more)


def test_the_plain_unet_is_diffusers(recipe):
    from diffusers import UNet2DConditionModel

    unet = recipe("unet")
    shape = unet.Shape(channels=24, widths=(96, 32, 64))
    theirs = UNet2DConditionModel(**unet.config(shape)).eval()
    own = unet.UNet(shape)
    own.load_state_dict(theirs.state_dict())
    x, t = torch.randn(2, 24, 16, 16), torch.tensor([999, 3])
    states, pooled = torch.randn(2, 36, 192), torch.randn(2, 192)
    ids = torch.tensor([unet.TIME_IDS] * 2)
    with torch.no_grad():
        wanted = theirs(
            x, t, states, added_cond_kwargs={"text_embeds": pooled, "time_ids": ids}
        ).sample
        torch.testing.assert_close(own(x, t, states, pooled), wanted)


def test_the_plain_text_encoder_is_transformers(recipe):
    text, textnet = recipe("text"), recipe("textnet")
    encoder = text.make_encoder(50).eval()
    ids = torch.randint(2, 50, (3, 36))
    ids[:, 7:] = 1
    with torch.no_grad():
        wanted, net = text.encode(encoder, ids), textnet.converted(encoder.state_dict())
        own = net(ids)
    theirs = textnet.theirs(net.state_dict())
    assert all(torch.equal(theirs[k], v) for k, v in encoder.state_dict().items())
    torch.testing.assert_close(own[0], wanted[0])
    torch.testing.assert_close(own[1], wanted[1])


@pytest.mark.parametrize("kind", ["sample", "v_prediction"])
def test_the_plain_sampler_is_diffusers(recipe, kind):
    sample, train, unet = recipe("sample"), recipe("train"), recipe("unet")
    plan = train.Plan(**SMALL | {"kind": kind})
    net = unet.UNet(plan.shape).eval()
    states, pooled, noise = torch.randn(1, 36, 192), torch.randn(1, 192), torch.randn(1, 12, 16, 16)
    own = sample.sampled(net, plan, states, pooled, noise, 5, 2.0)
    scheduler = sample.scheduler(kind)
    scheduler.set_timesteps(5)
    x, both = noise, (torch.cat([states, 0 * states]), torch.cat([pooled, 0 * pooled]))
    with torch.no_grad():
        for t in scheduler.timesteps:
            told, empty = net(torch.cat([x, x]), t.repeat(2), *both).chunk(2)
            x = scheduler.step(empty + 2.0 * (told - empty), t, x).prev_sample
    torch.testing.assert_close(own, x, rtol=1e-3, atol=1e-3)


def test_the_autoencoder_encodes_by_one_matrix(recipe):
    vae = recipe("vae")
    pixels = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    basis, x = vae.fit_basis(pixels), vae.to_tensor(pixels[:2])
    net = vae.make_vae(basis, 24)
    with torch.no_grad():
        latents = net.encode(x).latents * net.config.scaling_factor
    torch.testing.assert_close(latents, vae.encode(basis, x, 24), rtol=1e-4, atol=1e-4)
    again = vae.decode_linear(basis, vae.encode(basis, x, 48))
    torch.testing.assert_close(again, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("high", "wide"), [(64, 64), (32, 48), (120, 100)])
def test_the_decoder_is_the_inverse_of_the_encoder(recipe, high, wide):
    vae = recipe("vae")
    rng = np.random.default_rng(0)
    basis = vae.fit_basis(rng.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8))
    x = vae.to_tensor(rng.integers(0, 256, (2, high, wide, 3), dtype=np.uint8))
    net = vae.make_vae(basis, 24)
    latents = vae.encode(basis, x, 24)
    wanted = vae.decode_linear(basis, latents)
    with torch.no_grad():
        found = net.decode(latents / net.config.scaling_factor).sample
    # Nearly white becomes white; all else is the inverse, but for large latents, a little bent.
    knee = 2 * recipe("decoder").KNEE - 1
    white = wanted + (wanted - knee).clamp(min=0)
    assert (wanted > knee).any()
    assert (found - white).abs().max() < 0.03  # of 2


def test_a_resumed_run_does_what_an_unbroken_one_does(recipe, tmp_path, monkeypatch):
    train = recipe("train")
    monkeypatch.setattr(train, "load_pack", lambda path: pack(recipe))
    lines = []
    train.run(arguments(tmp_path / "whole", samples=16), lines.append)
    train.run(arguments(tmp_path / "broken", samples=8), lines.append)
    train.run(arguments(tmp_path / "broken", samples=16), lines.append)
    assert any("resumed unet.pt at 8 samples" in line for line in lines)
    whole, broken = (torch.load(tmp_path / n / "unet.pt") for n in ("whole", "broken"))
    assert whole["step"] == broken["step"] == 4
    for part in ("weights", "average"):
        for name, value in whole[part].items():
            assert torch.equal(value, broken[part][name]), name
    assert "samples 16 minutes" in lines[-1]
    assert "samples/s" in lines[-1]


@pytest.mark.slow
def test_a_carried_run_goes_on_with_nearly_the_same_weights(recipe, tmp_path, monkeypatch):
    train, state = recipe("train"), recipe("state")
    monkeypatch.setattr(train, "load_pack", lambda path: pack(recipe))
    train.run(arguments(tmp_path, samples=8), print)
    exact = torch.load(tmp_path / "unet.pt")
    weights, average = state.unpacked(torch.load(tmp_path / "carry" / "unet.pt"))
    for name, value in exact["weights"].items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(average[name], exact["average"][name], rtol=2e-3, atol=1e-3)
    (tmp_path / "unet.pt").unlink()
    lines = []
    train.run(arguments(tmp_path, samples=12), lines.append)
    assert "at 8 samples" in lines[0]
    # A cooldown leaves the run where it is.
    before = (tmp_path / "unet.pt").read_bytes()
    train.run(arguments(tmp_path, cooldown=8), lines.append)
    assert (tmp_path / "unet.pt").read_bytes() == before
    assert torch.load(tmp_path / "cooled.pt")["samples"] == 20


@pytest.mark.slow
def test_a_bare_machine_trains_from_a_pack_and_writes_parts(recipe, tmp_path):
    """The path of --gpu, on the processor: no diffusers, no transformers, a pack and torch."""
    writer, small = recipe("pack"), pack(recipe)
    writer.of_work = lambda work, files=None: small
    assert writer.write(tmp_path, tmp_path / "pack.xz", 1) == (tmp_path / "pack.xz").stat().st_size
    block = tmp_path / "without"
    for name in ("diffusers", "transformers", "safetensors", "PIL"):
        (block / name).mkdir(parents=True)
        (block / name / "__init__.py").write_text("raise ImportError('a bare machine')")
    command = [sys.executable, str(RECIPE / "train.py"), "--work", str(tmp_path / "run")]
    command += ["--pack", str(tmp_path / "pack.xz"), "--gpu", "--device", "cpu", "--samples", "8"]
    command += ["--plan", json.dumps(SMALL), "--out", str(tmp_path / "parts")]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(block)})
    joined = recipe("state").join(tmp_path / "parts", tmp_path / "again" / "unet.pt")
    assert joined.read_bytes() == (tmp_path / "run" / "carry" / "unet.pt").read_bytes()


def test_the_exported_pipeline_draws_what_the_checkpoint_draws(recipe, tmp_path):
    from diffusers import StableDiffusionXLPipeline

    judge, pool, state, text, train = map(recipe, ("judge", "pool", "state", "text", "train"))
    tokenizer = text.make_tokenizer(["red apple, black outline"] * 4)
    tokenizer.save_pretrained(tmp_path / "text" / "tokenizer_2")
    small = pack(recipe)
    small.text = recipe("textnet").converted(text.make_encoder(len(tokenizer)).state_dict())
    training = train.Training(train.Plan(**SMALL), small.text, small.heads, "cpu")
    state.save(tmp_path / "carry" / "unet.pt", training.carried())
    torch.save(small.basis, tmp_path / "basis.pt")
    recipe("vae").make_vae(small.basis, 12).save_pretrained(tmp_path / "vae-12")
    recipe("export").export(tmp_path, "", tmp_path / "out")
    pipe = StableDiffusionXLPipeline.from_pretrained(tmp_path / "out", torch_dtype=torch.float32)
    assert pipe.scheduler.config.prediction_type == "sample"
    noise = torch.randn(1, 12, 16, 16, generator=torch.Generator().manual_seed(3))
    drawn = pipe(
        "a red apple", num_inference_steps=4, guidance_scale=2.0, latents=noise, output_type="np"
    ).images
    own = judge.Checkpoint(tmp_path).draw(["a red apple"], 4, 2.0, seed=3)
    assert drawn.shape == (1, 64, 64, 3)
    assert np.abs(drawn * 255 - own).mean() < 2  # halves there, bfloat16 here
    assert "red-apple" in json.loads((tmp_path / "out" / "concepts.json").read_text())["concepts"]
    assert pool.tokenizer_in(tmp_path)("red apple").input_ids == tokenizer("red apple").input_ids


def test_parts_join_to_the_same_bytes(recipe, tmp_path):
    state = recipe("state")
    (tmp_path / "unet.pt").write_bytes(os.urandom(1000))
    parts = state.split(tmp_path / "unet.pt", tmp_path / "parts", 300)
    assert [p.stat().st_size for p in parts] == [300, 300, 300, 100]
    state.join(tmp_path / "parts", tmp_path / "joined.pt")
    assert (tmp_path / "joined.pt").read_bytes() == (tmp_path / "unet.pt").read_bytes()
    parts[1].write_bytes(b"other")
    with pytest.raises(ValueError, match="don't fit"):
        state.join(tmp_path / "parts", tmp_path / "joined.pt")


def test_a_second_training_in_a_folder_says_who_is_first(recipe, tmp_path):
    state = recipe("state")
    with (
        state.Lock(tmp_path / "train.pid"),
        pytest.raises(state.Busy, match=f"process {os.getpid()}"),
        state.Lock(tmp_path / "train.pid"),
    ):
        pass
    with state.Lock(tmp_path / "train.pid"):
        pass  # free again


def test_carry_on_does_nothing_while_a_training_runs(recipe, tmp_path, capsys, monkeypatch):
    carry_on, state = recipe("carry_on"), recipe("state")
    monkeypatch.setattr(sys, "argv", ["carry_on.py", "--work", str(tmp_path)])
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("started a second one"))
    with state.Lock(tmp_path / "train.pid"):
        carry_on.main()
    assert f"already training: process {os.getpid()}" in capsys.readouterr().out


def test_a_run_that_came_from_elsewhere_draws_its_pictures_and_goes_on(recipe, tmp_path):
    carry_on, state, train = recipe("carry_on"), recipe("state"), recipe("train")
    small = pack(recipe)
    training = train.Training(train.Plan(**SMALL), small.text, small.heads, "cpu")
    there = tmp_path / "there"
    state.save(there / "carry" / "unet.pt", training.carried())
    torch.save(small.basis, there / "carry" / "basis.pt")
    torch.save(small.components, there / "carry" / "components.pt")
    steps = carry_on.steps(there, None)
    assert [step[0] for step in steps] == ["pool.py"]  # the text encoder isn't trained again
    (there / "pool").mkdir()
    np.savez(there / "pool" / "pool-0000.npz", **small.columns)
    again = train.load_pack(there)
    for name, value in small.text.state_dict().items():
        torch.testing.assert_close(again.text.state_dict()[name], value, rtol=1e-3, atol=1e-3)
    assert torch.equal(again.basis["axes"], small.basis["axes"])


def test_time_in_which_it_was_stopped_is_not_counted(recipe, tmp_path, monkeypatch):
    train = recipe("train")
    monkeypatch.setattr(train, "load_pack", lambda path: pack(recipe))
    clock = iter(range(0, 10**9, 1000))  # a thousand seconds between any two looks at it
    monkeypatch.setattr(train.time, "monotonic", lambda: float(next(clock)))
    train.run(arguments(tmp_path, samples=8, minutes=1e9), print)
    assert torch.load(tmp_path / "unet.pt")["used"] < 100


def test_the_judge_sees_colours_of_thing_and_ground(recipe):
    judge = recipe("judge")
    picture = np.full((64, 64, 3), (0x16, 0x22, 0x4F), dtype=np.uint8)
    picture[20:44, 20:44] = (42, 111, 219)
    assert judge.follows(picture, "blue", "navy") == (True, True)
    assert judge.follows(picture, "red", "yellow") == (False, False)
    assert len(judge.two_attributes()) == 40


def test_kid_is_smaller_for_the_same_kind(recipe):
    kid, rng = recipe("judge").kid, np.random.default_rng(0)
    real, same = rng.normal(size=(300, 8)), rng.normal(size=(300, 8))
    assert abs(kid(real, same)) < 0.05
    assert kid(real, same + 1) > 0.5
