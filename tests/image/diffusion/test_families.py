"""Each family of transformers: against its own pipeline, through training, and in diffusers."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.training_utils import compute_density_for_timestep_sampling
from PIL import Image
from torch import Tensor

from mmtune.adapters.card import Card
from mmtune.data.check import check
from mmtune.errors import AdapterError, ConfigError
from mmtune.image import MODALITY
from mmtune.image.diffusion.base import DiffusionBase, load_base
from mmtune.image.diffusion.denoiser import Denoiser
from mmtune.image.diffusion.denoiser_lora import WEIGHTS, probe_output
from mmtune.image.diffusion.families import FAMILIES, PIPELINES, Family, family_class
from mmtune.image.diffusion.families.z_image import ZImage
from mmtune.image.diffusion.objective import objective_of
from mmtune.image.diffusion.stages import LatentStage, TextStage, text_part
from mmtune.image.image_options import ImageOptions
from mmtune.image.image_row import ImageRow
from mmtune.image.image_task import ImageTask
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.image.sampling.sampler import Sampler, generator_of
from mmtune.predict import Request
from mmtune.prefix.stage import Part
from mmtune.runs.adapters import export
from mmtune.runs.pipeline import train
from mmtune.system.hashing import hash_tensors
from mmtune.training.randomness import Draw
from tests.image import tiny
from tests.image.transformers import KINDS, SIDE

PROMPTS = ["red ball", "a blue box"]
# FLUX.2's text encoders have 27 or 30 layers, which takes time even where they are small.
EVERY = [pytest.param(k, marks=pytest.mark.slow if k == "flux2-dev" else ()) for k in KINDS]
UNCOMPARED = ("return_dict", "timestep_cond", "cross_attention_kwargs")
CPU = torch.device("cpu")


def task_on(tmp_path: Path, kind: str, **over: str) -> ImageTask:
    over = {"resolution": str(SIDE)} | over
    config = tiny.config(tiny.saved(kind), tiny.brand(tmp_path / "brand"), tmp_path, **over)
    dataset = check(MODALITY.prepare(config), MODALITY, config.data)
    return ImageTask(config, dataset, tiny.loaded(kind), None)


def batch_of(task: ImageTask, rows: list[Any], epoch: int = 0) -> dict[str, Tensor]:
    draws = [Draw(1, epoch, row.id) for row in rows]
    examples = [task.choose(row, draw) for row, draw in zip(rows, draws, strict=True)]
    stored = [
        {p.stage: v for p, v in zip(e.parts, task.features.get(e.parts), strict=True)}
        for e in examples
    ]
    return task.collate(examples, stored, draws)


@contextmanager
def calls_of(model: Any) -> Iterator[list[tuple[dict[str, Any], Any]]]:
    """Arguments (by the name of the parameter) and result of each call."""
    import inspect

    found: list[tuple[dict[str, Any], Any]] = []
    names = list(inspect.signature(model.forward).parameters)

    def record(_: Any, args: Any, kwargs: Any, out: Any) -> None:
        given = dict(zip(names, args, strict=False)) | kwargs
        found.append((given, out[0] if isinstance(out, tuple) else out.sample))

    hook = model.register_forward_hook(record, with_kwargs=True)
    try:
        yield found
    finally:
        hook.remove()


def guided(kind: str, guidance: float, prompts: int = 2) -> dict[str, Any]:
    """What each pipeline calls classifier-free guidance."""
    if kind == "qwen-image":
        empty = [""] * prompts if guidance > 1 else None
        return {"true_cfg_scale": guidance, "negative_prompt": empty}
    return {"guidance_scale": guidance - 1 if kind == "z-image" else guidance}


def same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, Tensor):
        theirs = theirs if theirs.ndim else theirs.expand_as(ours)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6, check_dtype=False)
    elif isinstance(theirs, dict) and theirs:
        assert ours.keys() == theirs.keys()
        for name in theirs:
            same(ours[name], theirs[name])
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)
    else:
        assert ours == theirs or (not ours and not theirs)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("kind", [*KINDS, "sd", "sdxl"])
@torch.no_grad()
def test_training_calls_the_denoiser_as_the_pipeline_does(kind: str, guidance: float) -> None:
    """The pipeline alone, prompts in; then ours, with its latents and time, from our stages."""
    base = tiny.loaded(kind)
    family, pipeline = base.family, base.pipeline
    states: list[tuple[Tensor, Tensor]] = []

    def watch(pipe: Any, i: int, t: Tensor, values: dict[str, Any]) -> dict[str, Any]:
        states.append((t, values["latents"]))
        return {}

    with calls_of(base.denoiser) as theirs:
        pipeline(
            prompt=list(PROMPTS),  # one of them writes into what it is given
            height=SIDE,
            width=SIDE,
            num_inference_steps=3,
            **guided(kind, guidance),
            generator=[generator_of(p, 0) for p in PROMPTS],
            callback_on_step_end=watch,
        )
    stage = TextStage(base)
    text = [stage.encode([text_part(p)])[0] for p in PROMPTS]
    [empty] = stage.encode([text_part("")])
    ids = {"time_ids": torch.tensor([SIDE, SIDE, 0, 0, SIDE, SIDE]).float()}
    per_step = len(theirs) // 3
    for step in (1, 2):
        t, noisy = states[step][0], states[step - 1][1]
        if kind.startswith("flux-") or kind == "chroma":
            noisy = pipeline._unpack_latents(noisy, SIDE, SIDE, 2)
        elif kind == "qwen-image":
            noisy = pipeline._unpack_latents(noisy, SIDE, SIDE, 2).squeeze(2)
        elif kind.startswith("flux2-"):
            noisy = noisy.permute(0, 2, 1).reshape(2, 16, 8, 8)
        rows = [(text, noisy)]
        if family.uses_empty(guidance):
            rows = [([empty] * 2, noisy), (text, noisy)]
        for call, output in theirs[step * per_step : (step + 1) * per_step]:
            if per_step == 1 and len(rows) == 2:  # both halves in one call
                order = rows[::-1] if kind == "z-image" else rows
                stored, inputs = order[0][0] + order[1][0], torch.cat([noisy, noisy])
            else:  # FLUX.2, Chroma and Qwen-Image call once for each, the caption first
                stored, inputs = rows.pop()
            if kind == "sdxl":  # whose Euler steps scale their input
                inputs = call["sample"]
            conditions = family.conditions(stored, [ids] * len(stored))
            timesteps = t.expand(len(inputs))
            with calls_of(base.denoiser) as ours:
                predicted = family.predict(base.denoiser, inputs, timesteps, conditions, guidance)
            [(mine, result)] = ours
            if kind == "sd3-no-t5":  # the last of its tokens stands for 256
                few = mine["encoder_hidden_states"]
                more = few[:, -1:].expand(-1, 255, -1)
                mine["encoder_hidden_states"] = torch.cat([few, more], dim=1)
            for name in call.keys() | mine.keys():
                if name not in UNCOMPARED:
                    same(mine.get(name), call.get(name))
            same(result, output)
            assert predicted.shape == inputs.shape


@pytest.mark.parametrize("kind", EVERY)
@torch.no_grad()
def test_latents_decode_to_what_the_autoencoder_saw(kind: str, tmp_path: Path) -> None:
    """Our latents through the end of the pipeline are the autoencoder's own round trip."""
    base = tiny.loaded(kind)
    image = Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB")
    image.paste("red", (0, 0, SIDE // 2, SIDE // 3))
    image.save(tmp_path / "a.png")
    row = ImageRow(id="a", image=str(tmp_path / "a.png"), caption="c", content="a")
    stage = LatentStage(base, SIDE)
    [stored] = stage.encode([Part("latent", "a", 0, row)])
    latent = stored["latent"] if "latent" in stored else stored["mean"]
    vae, processor = base.pipeline.vae, base.pipeline.image_processor
    pixels = processor.preprocess(image)
    if kind == "qwen-image":  # a video of one frame
        whole = vae.decode(vae.encode(pixels[:, :, None]).latent_dist.mode()).sample[:, :, 0]
    else:
        whole = vae.decode(vae.encode(pixels).latent_dist.mode()).sample
    expected = processor.postprocess(whole)[0]

    def put(pipe: Any, i: int, t: Tensor, values: dict[str, Any]) -> dict[str, Any]:
        packed = latent[None]
        if kind.startswith("flux-") or kind in ("chroma", "qwen-image"):
            packed = pipe._pack_latents(packed, 1, 4, 16, 16)
        elif kind.startswith("flux2-"):
            packed = pipe._pack_latents(packed)
        return {"latents": packed}

    [decoded] = base.pipeline(
        prompt="x",
        height=SIDE,
        width=SIDE,
        num_inference_steps=1,
        **guided(kind, 1.0, prompts=1),
        callback_on_step_end=put,
    ).images
    # Scaled and scaled back: a value may round to the next level.
    levels = np.asarray(decoded, dtype=int) - np.asarray(expected, dtype=int)
    assert np.abs(levels).max() <= 1
    assert (levels != 0).mean() < 0.01
    assert ("std" in stored) == base.family.posterior


@pytest.mark.parametrize("kind", EVERY)
@torch.no_grad()
def test_a_row_has_one_loss_in_any_batch(tmp_path: Path, kind: str) -> None:
    task = task_on(tmp_path, kind)
    rows = list(task._brand)[:4]
    together = task.module(batch_of(task, rows)).total
    alone = torch.cat([task.module(batch_of(task, [row])).total for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together, task.module(batch_of(task, rows, epoch=1)).total)


@pytest.mark.parametrize("kind", EVERY)
def test_the_loss_is_the_velocitys_and_lora_alone_gets_gradients(tmp_path: Path, kind: str) -> None:
    task = task_on(tmp_path, kind)
    batch = batch_of(task, list(task._brand)[:3])
    loss = task.module(batch)
    sigma = (batch["timesteps"] / 1000).view(-1, 1, 1, 1)
    noisy = (1 - sigma) * batch["latents"] + sigma * batch["noise"]
    names = [n for n in batch if n not in ("latents", "noise", "timesteps")]
    conditions = {n: batch[n] for n in names}
    predicted = task.family.predict(task.base.denoiser, noisy, batch["timesteps"], conditions, 1.0)
    expected = (predicted - (batch["noise"] - batch["latents"])).square().flatten(1).sum(1)
    torch.testing.assert_close(loss.total, expected)
    assert ((sigma > 0) & (sigma <= 1)).all()
    (loss.total.sum() / loss.units.sum()).backward()
    named = dict(task.module.named_parameters())
    assert all(name.startswith("transformer.") for name in named)
    moved = {name for name, p in named.items() if p.grad is not None}
    assert moved == {name for name, p in named.items() if p.requires_grad}
    assert all("lora_" in name for name in moved)


@pytest.mark.parametrize("kind", ["sd3", "flux-dev", "z-image"])
@torch.no_grad()
def test_noisy_steps_can_keep_what_the_base_does(tmp_path: Path, kind: str) -> None:
    plain, kept = task_on(tmp_path, kind), task_on(tmp_path, kind, keep_layout="0.5")
    rows = list(plain._brand)
    batch = batch_of(plain, rows)
    tokens = plain.family.tokens(batch["latents"].shape)
    noisy = plain.objective.is_noisiest(batch["timesteps"], 0.5, tokens)
    assert 0 < noisy.sum() < len(rows)
    assert isinstance(kept.module, Denoiser)
    usual, found = plain.module(batch).total, kept.module(batch).total
    assert torch.equal(found[~noisy], usual[~noisy])
    # An adapter that changes nothing is what it should be.
    assert (found[noisy] < 1e-4 * usual[noisy]).all()
    for name, parameter in kept.module.named_parameters():
        if "lora_B" in name:
            parameter.fill_(0.1)
    assert (kept.module(batch).total[noisy] > 1e-2).all()


@pytest.mark.parametrize("density", ["logit_normal", "uniform", "mode"])
def test_timesteps_have_the_density_of_diffusers(density: str) -> None:
    base = tiny.loaded("sd3")
    options = ImageOptions(timesteps=density, logit_mean=0.5, logit_std=0.8)  # type: ignore[arg-type]
    objective = objective_of(base.pipeline.scheduler, base.family, options)
    count = 4000
    ours = torch.tensor([objective.draw_timestep(Draw(0, 0, str(i)), 64) for i in range(count)])
    u = compute_density_for_timestep_sampling(
        density, count, 0.5, 0.8, 1.29, generator=torch.Generator().manual_seed(0)
    )
    theirs = base.pipeline.scheduler.timesteps[(u * 1000).long()]
    at = torch.linspace(0.05, 0.95, 19)
    assert (ours.quantile(at) - theirs.quantile(at)).abs().max() < 30
    listed = base.pipeline.scheduler.timesteps
    assert (ours[:, None] - listed).abs().min(1).values.max() < 1e-2


@pytest.mark.parametrize(
    "kind",
    [
        *("sd3", "flux-dev", "flux-schnell", "flux2-klein", "z-image"),
        # Qwen-Image's sampler also stretches its sigmas.
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("chroma", "flux2-dev")),
    ],
)
def test_the_shift_is_the_samplers(kind: str) -> None:
    """The pipeline's own sigmas, of even ones before the shift."""
    base = tiny.loaded(kind)
    objective = objective_of(base.pipeline.scheduler, base.family)
    steps = 50
    base.pipeline(
        prompt="x",
        height=64,
        width=64,
        num_inference_steps=steps,
        guidance_scale=0.0,
        output_type="latent",
    )
    tokens = (64 // 2 // 2) ** 2
    found = base.pipeline.scheduler.sigmas[:-1].tolist()
    last = 1 / steps if kind != "sd3" else base.pipeline.scheduler.sigma_min
    even = [1 + (last - 1) * i / (steps - 1) for i in range(steps)]
    ours = [objective.shifted(s, tokens) for s in even]
    assert ours == pytest.approx(found, abs=1e-5)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(k, marks=() if k in ("sd3", "flux-dev", "z-image") else pytest.mark.slow)
        for k in KINDS
    ],
)
def test_a_folder_becomes_an_adapter_that_diffusers_reads(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained, saved, loaded strictly here and by diffusers alone: the same pictures."""
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    data = tiny.brand(tmp_path / "brand", size=(50, 40))
    over = {"resolution": str(SIDE), "epochs": "3", "lr": "0.02"}
    result = train(tiny.config(tiny.saved(kind), data, tmp_path / "runs", **over))
    adapter = result.folder / "adapter"
    found = {m.metric: m for m in result.comparison.measures}
    distance = found["style distance"]
    assert math.isfinite(distance.adapter.value)
    assert distance.adapter.value != distance.base.value

    plain = DiffusionPipeline.from_pretrained(tiny.saved(kind), **_null(kind))
    plain.set_progress_bar_config(disable=True)
    plain.load_lora_weights(adapter)
    theirs = plain(
        prompt=list(PROMPTS),
        height=SIDE,
        width=SIDE,
        num_inference_steps=2,
        **guided(kind, 2.0),
        generator=[generator_of(prompt, 0) for prompt in PROMPTS],
    ).images
    base = tiny.loaded(kind)
    predictor = ImagePredictor(base, {"brand": adapter}, steps=2, guidance=2.0, resolution=SIDE)
    rows = [ImageRow(id=p, image="-", caption=p) for p in PROMPTS]

    def drawn(weight: float) -> list[bytes]:
        asked = [Request(row, {"brand": weight}, 0) for row in rows]
        return [p.value.tobytes() for p in predictor.predict(asked)]

    for ours, image in zip(drawn(1.0), theirs, strict=True):
        # Captions were read one by one and two at a time: a matrix of another shape rounds else.
        gap = np.frombuffer(ours, np.uint8).astype(int) - np.asarray(image).ravel()
        assert np.abs(gap).max() <= 2
    sampler = Sampler(tiny.loaded(kind), steps=2, guidance=2.0, resolution=SIDE)
    off = [image.tobytes() for image in sampler.sample(PROMPTS, [0, 0])]
    assert drawn(0.0) == off != drawn(1.0)


def _null(kind: str) -> dict[str, None]:
    return {"text_encoder_3": None, "tokenizer_3": None} if kind == "sd3-no-t5" else {}


@pytest.mark.parametrize("over", [{"rslora": "true"}, {"dora": "true"}, {}])
@pytest.mark.parametrize(
    "kind",
    [
        *("sd3", "flux-dev", "flux2-klein", "z-image"),
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("chroma", "flux2-dev", "qwen-image")),
    ],
)
def test_each_kind_of_lora_is_read_back_bit_by_bit(
    tmp_path: Path, kind: str, over: dict[str, str]
) -> None:
    task = task_on(tmp_path, kind, **over)
    with torch.no_grad():
        for group in task.param_groups():
            for i, p in enumerate(group["params"]):
                p += 0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
    task.save(tmp_path / "adapter")
    trained = probe_output(task.base)
    plain = tiny.loaded(kind)
    before = probe_output(plain)
    plain.pipeline.load_lora_weights(tmp_path / "adapter", weight_name=WEIGHTS)
    assert torch.equal(probe_output(plain), trained)
    assert not torch.equal(before, trained)


@pytest.mark.parametrize("kind", EVERY)
def test_half_precision_trains_and_samples(tmp_path: Path, kind: str) -> None:
    config = tiny.config(
        tiny.saved(kind), tiny.brand(tmp_path / "brand"), tmp_path, resolution=str(SIDE)
    )
    base = load_base(str(tiny.saved(kind)), CPU, torch.bfloat16)
    dataset = check(MODALITY.prepare(config), MODALITY, config.data)
    task = ImageTask(config, dataset, base, None)
    loss = task.module(batch_of(task, list(task._brand)[:2]))
    loss.total.sum().backward()
    [group] = task.param_groups()
    assert all(p.dtype == torch.float32 for p in group["params"])
    assert all(bool(p.grad.isfinite().all()) for p in group["params"])
    assert any(bool(p.grad.any()) for p in group["params"])
    [image] = task.sampler.sample(["red ball"], [0])
    assert image.size == (SIDE, SIDE)


@pytest.mark.slow
def test_flux2_dev_needs_no_processor_of_images(tmp_path: Path) -> None:
    """Its index names one, which needs torchvision; the tokenizer alone reads captions."""
    folder = shutil.copytree(tiny.saved("flux2-dev"), tmp_path / "b")
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "PixtralProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    base = load_base(str(folder), CPU, torch.float32)
    assert base.hashes == tiny.loaded("flux2-dev").hashes
    [text] = TextStage(base).encode([text_part("red ball")])
    assert text["embeds"].shape == (512, 24)


def test_an_adapter_of_another_family_is_refused(tmp_path: Path) -> None:
    task = task_on(tmp_path, "sd3")
    with torch.no_grad():
        for p in task.param_groups()[0]["params"]:
            p += 0.1
    task.save(tmp_path / "adapter")
    for kind in ("flux-dev", "z-image", "sd"):
        with pytest.raises(AdapterError, match=r"can't be loaded|doesn't fit"):
            ImagePredictor(tiny.loaded(kind), {"a": tmp_path / "adapter"}, steps=1, guidance=1.0)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(k, marks=pytest.mark.slow if k in ("sd", "flux-schnell") else ())
        for k in ("sd", "sdxl", "sd3", "flux-schnell", "z-image")
    ],
)
def test_each_image_meets_its_own_caption(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over shuffled epochs with a cache: pairs of latent and caption that the module saw."""
    from mmtune.image.diffusion.denoiser import Denoiser

    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    base: DiffusionBase = tiny.loaded(kind)
    side = base.resolution if kind.startswith("sd") else SIDE
    data = tiny.brand(tmp_path / "brand")
    seen: set[tuple[str, str]] = set()
    forward = Denoiser.forward

    def watch(self: Any, batch: dict[str, Tensor]) -> Any:
        if self.training and torch.is_grad_enabled():
            for i in range(len(batch["latents"])):
                embeds = batch["embeds"][i]
                embeds = embeds[: batch["lengths"][i]] if "lengths" in batch else embeds
                seen.add((key(batch["latents"][i]), key(embeds)))
        return forward(self, batch)

    def key(value: Tensor) -> str:
        return hash_tensors([("", value.contiguous())])

    monkeypatch.setattr(Denoiser, "forward", watch)
    # The posterior's mean alone, so that an image has one latent.
    monkeypatch.setattr(
        "mmtune.image.image_task._latent", lambda s, d: s.get("latent", s.get("mean"))
    )
    over = {"resolution": str(side), "caption_dropout": "0", "epochs": "3"}
    config = tiny.config(tiny.saved(kind), data, tmp_path / "runs", **over)
    train(config)
    dataset = check(data, MODALITY, config.data)
    latents, texts = LatentStage(base, side), TextStage(base)
    expected = set()
    for row in dataset.split("train"):
        [stored] = latents.encode([Part("latent", row.content, 0, row)])
        [text] = texts.encode([text_part(row.reference)])
        latent = stored["latent"] if "latent" in stored else stored["mean"]
        expected.add((key(latent), key(text["embeds"])))
    assert len(expected) > 4
    assert seen == expected


def test_settings_that_cannot_work_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"resolution = 30: .* multiple of 4\n.*use 32"):
        task_on(tmp_path, "flux-dev", resolution="30")
    with pytest.raises(ConfigError, match=r"resolution = 128: .* no positions beyond 96"):
        task_on(tmp_path, "sd3", resolution="128")
    with pytest.raises(ConfigError, match=r"name modules of the transformer: to_q"):
        task_on(tmp_path, "sd3", targets="[no_such_layer]")
    scheduler = tiny.loaded("sd3").pipeline.scheduler
    scheduler.register_to_config(invert_sigmas=True)
    with pytest.raises(ConfigError, match="inverts its sigmas"):
        objective_of(scheduler, tiny.loaded("sd3").family)


def test_names_are_unlike() -> None:
    assert len({f.name for f in FAMILIES}) == len({f.pipeline_class for f in FAMILIES}) == 9


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_carries_its_export_names(family: type[Family]) -> None:
    names = family.export_names
    assert names.architecture
    assert names.version
    assert set(names.unsupported) <= set(MODALITY.formats)
    if names.single_file is None:
        assert "kohya" in names.unsupported
    if names.single_file == "transformer":
        assert names.comfy


def test_a_family_without_export_names_is_refused_when_it_is_defined() -> None:
    with pytest.raises(TypeError, match=r"NoNames.*export_names"):
        type("NoNames", (FAMILIES[0].__mro__[1],), {"name": "x", "pipeline_class": "XPipeline"})


def test_a_format_that_a_family_does_not_have_stops_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_on(tmp_path, "z-image")
    with torch.no_grad():
        for p in task.param_groups()[0]["params"]:
            p += 0.1
    adapter = tmp_path / "adapter"
    task.save(adapter)
    config = tiny.config(tiny.saved("z-image"), tiny.brand(tmp_path / "brand"), tmp_path)
    Card(
        name="a", recipe="r", modality="image", base=config.base, base_hash=task.base_hash,
        dataset="d", rows={"train": 1}, settings={},
    ).write(adapter)  # fmt: skip
    none = replace(ZImage.export_names, unsupported={"kohya": "nothing reads such a file"})
    monkeypatch.setattr(ZImage, "export_names", none)
    monkeypatch.setattr("mmtune.image.export.parity.Picture.draw", lambda *a: pytest.fail("drawn"))
    with pytest.raises(AdapterError, match=r"Z-Image.*kohya.*nothing reads such a file"):
        export(adapter, "kohya", tmp_path / "out.safetensors")


def test_a_registered_family_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    other = type("Other", (ZImage,), {"name": "Other", "pipeline_class": "OtherPipeline"})
    assert family_class("OtherPipeline") is None
    PIPELINES.add("OtherPipeline", other)
    try:
        assert family_class("OtherPipeline") is other
    finally:
        PIPELINES.remove("OtherPipeline")
