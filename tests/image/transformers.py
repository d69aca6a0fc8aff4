"""Small random pipelines of the transformer families: SD3, FLUX.1, FLUX.2 klein, Z-Image."""

from __future__ import annotations

from typing import Any

import torch

KINDS = ("sd3", "sd3-no-t5", "flux-dev", "flux-schnell", "flux2-klein", "z-image")
SIDE = 32  # pixels of the images in tests; the autoencoders halve a side
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }} {{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)


def pipeline(kind: str) -> Any:
    """A pipeline of the real class with random weights that depend on `kind` alone."""
    torch.manual_seed(0)
    if kind.startswith("sd3"):
        made = _sd3("no-t5" not in kind)
    elif kind.startswith("flux-"):
        made = _flux(kind == "flux-dev")
    else:
        made = _klein() if kind == "flux2-klein" else _z_image()
    _wake(made.transformer)
    return made


def _wake(model: Any) -> None:
    # Layers that begin at zero would hide what feeds them.
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)


def _vae(channels: int, **settings: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=channels,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **settings,
    )


def _scheduler(**settings: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**settings)


def _t5(width: int) -> tuple[Any, Any]:
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    letters = [("▁", -2.0), *((chr(c), -3.0) for c in range(33, 127))]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters]
    words = T5Tokenizer(vocab=vocab, extra_ids=0)
    config = T5Config(
        vocab_size=len(vocab), d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    return words, T5EncoderModel(config)


def _qwen(width: int, layers: int) -> tuple[Any, Any]:
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    pieces = [*special, *sorted(ByteLevel.alphabet())]
    words = Qwen2Tokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[],
        additional_special_tokens=special[1:],
    )
    words.chat_template = TEMPLATE
    config = Qwen3Config(
        vocab_size=len(pieces),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        pad_token_id=0,
        eos_token_id=2,
    )
    return words, Qwen3ForCausalLM(config)


def _sd3(with_t5: bool) -> Any:
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    from tests.image import tiny

    words = tiny.tokenizer()
    third, t5 = _t5(40) if with_t5 else (None, None)
    transformer = SD3Transformer2DModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=40,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        pos_embed_max_size=24,
        dual_attention_layers=(0,),  # as in SD 3.5 medium
        qk_norm="rms_norm",
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=_scheduler(shift=3.0),
        vae=_vae(4, scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=tiny.text_encoder(len(words), 16, projected=True),
        tokenizer=words,
        text_encoder_2=tiny.text_encoder(len(words), 16, projected=True),
        tokenizer_2=words,
        text_encoder_3=t5,
        tokenizer_3=third,
    )


def _flux(dev: bool) -> Any:
    from diffusers import FluxPipeline, FluxTransformer2DModel

    from tests.image import tiny

    words = tiny.tokenizer()
    second, t5 = _t5(24)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=24,
        pooled_projection_dim=16,
        guidance_embeds=dev,
        axes_dims_rope=(2, 2, 4),
    )
    return FluxPipeline(
        transformer=transformer,
        scheduler=_scheduler(shift=3.0, use_dynamic_shifting=True) if dev else _scheduler(),
        vae=_vae(4, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=tiny.text_encoder(len(words), 16, projected=False),
        tokenizer=words,
        text_encoder_2=t5,
        tokenizer_2=second,
    )


def _klein() -> Any:
    from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel

    words, reader = _qwen(8, 27)  # the pipeline reads its 9th, 18th and 27th layer
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
    )
    torch.nn.init.normal_(vae.bn.running_mean)
    torch.nn.init.uniform_(vae.bn.running_var, 0.5, 2.0)
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=24,
        timestep_guidance_channels=16,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=False,
    )
    return Flux2KleinPipeline(
        transformer=transformer,
        scheduler=_scheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae,
        text_encoder=reader,
        tokenizer=words,
    )


def _z_image() -> Any:
    from diffusers import ZImagePipeline, ZImageTransformer2DModel

    words, reader = _qwen(24, 2)
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=24,
        axes_dims=[4, 6, 6],
        axes_lens=[1024, 64, 64],
    )
    return ZImagePipeline(
        transformer=transformer,
        scheduler=_scheduler(shift=3.0),
        vae=_vae(4, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=reader,
        tokenizer=words,
    )
