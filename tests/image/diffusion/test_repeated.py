"""One token that stands for the 256 of zeros: against diffusers' transformer with all of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from peft import LoraConfig
from torch import Tensor

from mmtune.image.diffusion.denoiser_lora import save_adapter
from mmtune.image.diffusion.families.repeated import biases
from mmtune.image.diffusion.families.sd3 import T5_TOKENS
from mmtune.image.diffusion.stages import TextStage, text_part
from mmtune.image.sampling.sampler import generator_of
from tests.image import tiny
from tests.image.transformers import SIDE

PROMPTS = ["red ball", "a blue box"]


def theirs() -> Any:
    """The pipeline as diffusers alone has it."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        tiny.saved("sd3-no-t5"), text_encoder_3=None, tokenizer_3=None
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def with_lora(
    transformer: Any, wider: bool, dtype: torch.dtype = torch.float32
) -> list[tuple[str, Tensor]]:
    """The same random LoRA on the attention, `wider` also on what feeds and follows it."""
    transformer.requires_grad_(False)
    names = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj"]
    names += ["to_add_out", *(["context_embedder", "ff_context.net.2"] if wider else [])]
    config = LoraConfig(r=3, lora_alpha=6, target_modules=names, init_lora_weights=False)
    torch.manual_seed(5)
    transformer.add_adapter(config, adapter_name="default")
    transformer.to(dtype)
    return [(n, p) for n, p in transformer.named_parameters() if p.requires_grad]


@pytest.mark.parametrize(
    ("dtype", "wider", "near"), [(torch.float32, False, 1e-5), (torch.float64, True, 1e-6)]
)
# diffusers' RMS norm works in fp32 even there.
def test_output_and_gradients_are_those_of_256_tokens(
    dtype: torch.dtype, wider: bool, near: float
) -> None:
    ours, plain = tiny.loaded("sd3-no-t5"), theirs()
    stage = TextStage(ours)
    stored = [stage.encode([text_part(prompt)])[0] for prompt in PROMPTS]
    conditions = {k: v.to(dtype) for k, v in ours.family.conditions(stored, []).items()}
    assert conditions["embeds"].shape == (2, tiny.LENGTH + 1, 40)
    with torch.no_grad():
        embeds, _, pooled, _ = plain.encode_prompt(
            list(PROMPTS), None, None, do_classifier_free_guidance=False
        )
    assert embeds.shape == (2, tiny.LENGTH + T5_TOKENS, 40)
    ours.denoiser.to(dtype)
    plain.transformer.to(dtype)
    embeds, pooled = embeds.to(dtype), pooled.to(dtype)
    noisy = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    timesteps = torch.tensor([800.0, 200.0])
    small, whole = (with_lora(m, wider, dtype) for m in (ours.denoiser, plain.transformer))
    found = ours.family.predict(ours.denoiser, noisy, timesteps, conditions)
    expected = plain.transformer(
        noisy, encoder_hidden_states=embeds, pooled_projections=pooled, timestep=timesteps
    ).sample
    torch.testing.assert_close(found, expected, rtol=near, atol=near)
    for result in (found, expected):
        result.square().sum().backward()
    for (name, ours_), (other, theirs_) in zip(small, whole, strict=True):
        assert name == other
        assert torch.equal(ours_, theirs_)
        # The last block's text goes nowhere.
        assert (ours_.grad is None) == (theirs_.grad is None)
        if ours_.grad is not None:
            scale = float(theirs_.grad.abs().max()) or 1.0
            # Sums over 256 tokens round otherwise than 256 times one, and on every processor.
            torch.testing.assert_close(
                ours_.grad / scale, theirs_.grad / scale, rtol=0, atol=3 * near
            )
    assert any("add_k_proj" in name and bool(p.grad.any()) for name, p in small)
    # One token that counts once is something else.
    with torch.no_grad():
        once = plain.transformer(
            noisy,
            encoder_hidden_states=conditions["embeds"],
            pooled_projections=pooled,
            timestep=timesteps,
        ).sample
    assert float((once - expected).abs().max()) > 1e-3


@torch.no_grad()
def test_equal_tokens_of_the_text_stay_equal_through_the_blocks() -> None:
    """What it rests on, in diffusers' own blocks."""
    plain = theirs()
    seen: list[Tensor] = []
    for block in plain.transformer.transformer_blocks[:-1]:
        block.register_forward_hook(lambda _m, _a, out: seen.append(out[0]))
    embeds, _, pooled, _ = plain.encode_prompt("red", None, None, do_classifier_free_guidance=False)
    noisy = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    plain.transformer(
        noisy,
        encoder_hidden_states=embeds,
        pooled_projections=pooled,
        timestep=torch.tensor([500.0]),
    )
    [text] = seen
    zeros = text[0, tiny.LENGTH :]
    torch.testing.assert_close(zeros, zeros[:1].expand_as(zeros), rtol=0, atol=1e-5)
    assert float((text[0, 0] - zeros[0]).abs().max()) > 1e-2


def test_the_pipeline_still_takes_all_256(tmp_path: Path) -> None:
    """A prompt given to the pipeline itself, and an adapter of ours in diffusers alone."""
    ours, plain = tiny.loaded("sd3-no-t5"), theirs()
    with_lora(ours.denoiser, wider=False)
    save_adapter(ours, "default", tmp_path / "adapter")
    plain.load_lora_weights(tmp_path / "adapter")

    def drawn(pipeline: Any, **inputs: Any) -> Tensor:
        found: Tensor = pipeline(
            **inputs,
            height=SIDE,
            width=SIDE,
            num_inference_steps=2,
            guidance_scale=3.0,
            generator=[generator_of(prompt, 0) for prompt in PROMPTS],
            output_type="latent",
        ).images
        return found

    expected = drawn(plain, prompt=list(PROMPTS))
    assert torch.equal(drawn(ours.pipeline, prompt=list(PROMPTS)), expected)
    stage = TextStage(ours)
    stored = [stage.encode([text_part(prompt)])[0] for prompt in PROMPTS]
    [empty] = stage.encode([text_part("")])
    short = ours.family.sampling(stored, empty, 3.0, ours.device)
    short.pop("guidance_scale")
    torch.testing.assert_close(drawn(ours.pipeline, **short), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("count", [2, 77, 256])
def test_two_keys_weigh_as_many_in_every_precision(dtype: torch.dtype, count: int) -> None:
    found = biases(count, dtype)
    assert all(float(torch.tensor(b, dtype=dtype)) == b for b in found)
    assert math.fsum(map(math.exp, found)) == pytest.approx(count, rel=2e-4)
