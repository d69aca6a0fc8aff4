"""LoRA on the CLIP text encoders too: trained, saved, read by diffusers alone, switched off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

from mmtune.data.check import check
from mmtune.errors import AdapterError, ConfigError
from mmtune.image import MODALITY
from mmtune.image.diffusion.denoiser_lora import WEIGHTS
from mmtune.image.diffusion.stages import TextStage, TokenStage, text_part
from mmtune.image.image_row import ImageRow
from mmtune.image.image_task import ImageTask
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.image.sampling.sampler import Sampler, generator_of
from mmtune.predict import Request
from mmtune.runs.pipeline import evaluate, train
from mmtune.training.randomness import Draw
from tests.image import tiny
from tests.image.sampling.test_generate import damaged

PROMPTS = ["red ball", "blue box"]


@pytest.mark.parametrize("kind", tiny.KINDS)
@torch.no_grad()
def test_tokens_give_the_embeddings_of_the_pipeline(kind: str) -> None:
    base = tiny.loaded(kind)
    family = base.family
    for caption in (*PROMPTS, "a word too long for it", ""):
        [expected] = TextStage(base).encode([text_part(caption)])
        tokens = TokenStage(base.family, base.hashes["text"]).encode([text_part(caption, "tokens")])
        batch = {name: torch.stack([t[name] for t in tokens]) for name in tokens[0]}
        found = family.embed(family.text_encoders, batch)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name][0], expected[name]) for name in found)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_every_adapted_weight_gets_a_gradient(tmp_path: Path, kind: str) -> None:
    data = tiny.brand(tmp_path / "brand")
    config = tiny.config(
        tiny.saved(kind), data, tmp_path, text_encoder="true", keep_layout="0.3", dora="true"
    )
    dataset = check(data, MODALITY, config.data)
    task = ImageTask(config, dataset, tiny.loaded(kind), None)
    rows = list(dataset.split("train"))
    draws = [Draw(0, 0, row.id) for row in rows]
    examples = [task.choose(row, draw) for row, draw in zip(rows, draws, strict=True)]
    stored = [
        {p.stage: v for p, v in zip(e.parts, task.features.get(e.parts), strict=True)}
        for e in examples
    ]
    with torch.no_grad():  # as it is after some steps: at B = 0, A has none
        for name, p in task.module.named_parameters():
            if "lora_B" in name:
                p.fill_(0.01)
    task.module(task.collate(examples, stored, draws)).total.sum().backward()
    trained = {n: p for n, p in task.module.named_parameters() if p.requires_grad}
    parts = {name.split(".")[0] for name in trained}
    assert parts == {"unet", *task.family.text_encoders}
    assert all(p.grad is not None and bool(p.grad.any()) for p in trained.values())
    assert len({id(p) for g in task.param_groups() for p in g["params"]}) == len(trained)


@pytest.mark.parametrize("kind", ["sdxl", pytest.param("sd", marks=pytest.mark.slow)])
def test_a_run_and_what_diffusers_makes_of_it(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    data = tiny.brand(tmp_path / "brand")
    config = tiny.config(tiny.saved(kind), data, tmp_path / "runs", text_encoder="true")
    trained = train(config)
    adapter = trained.folder / "adapter"
    weights = load_file(adapter / WEIGHTS)
    for part in ("text_encoder.", "text_encoder_2.") if kind == "sdxl" else ("text_encoder.",):
        ups = [w for name, w in weights.items() if name.startswith(part) and "lora_B" in name]
        assert ups
        assert all(bool(w.any()) for w in ups)
    # The base that was trained on, loaded afresh, gives the same comparison.
    assert evaluate(config, fresh=True).to_json() == trained.comparison.to_json()

    plain = DiffusionPipeline.from_pretrained(tiny.saved(kind), safety_checker=None)
    plain.set_progress_bar_config(disable=True)
    plain.load_lora_weights(adapter)
    theirs = plain(
        list(PROMPTS),
        height=32,
        width=32,
        num_inference_steps=3,
        guidance_scale=2.0,
        generator=[generator_of(prompt, 0) for prompt in PROMPTS],
    ).images
    predictor = ImagePredictor(tiny.loaded(kind), {"a": adapter}, steps=3, guidance=2.0)

    def drawn(weight: float) -> list[np.ndarray]:
        rows = [ImageRow(id=p, image="-", caption=p) for p in PROMPTS]
        found = predictor.predict([Request(row, {"a": weight}, 0) for row in rows])
        return [np.asarray(p.value).astype(int) for p in found]

    for ours, image in zip(drawn(1.0), theirs, strict=True):
        assert np.abs(ours - np.asarray(image)).max() <= 1
    base = Sampler(tiny.loaded(kind), steps=3, guidance=2.0).sample(PROMPTS, [0, 0])
    for ours, image in zip(drawn(0.0), base, strict=True):
        assert np.array_equal(ours, np.asarray(image))

    def drop(state: dict[str, torch.Tensor]) -> None:
        del state[next(k for k in sorted(state) if k.startswith("text_encoder.") and "_A" in k)]

    bad = damaged(adapter, tmp_path / "dropped", drop)
    with pytest.raises(AdapterError):
        ImagePredictor(tiny.loaded(kind), {"a": bad}, steps=1, guidance=1.0)


def test_other_families_say_that_theirs_are_not_adapted(tmp_path: Path) -> None:
    data = tiny.brand(tmp_path / "brand")
    config = tiny.config(
        tiny.saved("flux-dev"), data, tmp_path, text_encoder="true", resolution="32"
    )
    dataset = check(data, MODALITY, config.data)
    with pytest.raises(ConfigError, match=r"text encoders of FLUX\.1 are not adapted"):
        ImageTask(config, dataset, tiny.loaded("flux-dev"), None)
