"""Small random pipelines of the families of transformers."""

from __future__ import annotations

from typing import Any

import torch

KINDS = (
    *("sd3", "sd3-no-t5", "flux-dev", "flux-schnell", "chroma", "flux2-dev", "flux2-klein"),
    *("qwen-image", "z-image"),
)
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
    elif kind.startswith("flux2-"):
        made = _flux2(kind == "flux2-dev")
    else:
        made = {"chroma": _chroma, "qwen-image": _qwen_image, "z-image": _z_image}[kind]()
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


def _qwen_words() -> Any:
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    pieces = [*special, *sorted(ByteLevel.alphabet())]
    words = Qwen2Tokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[],
        additional_special_tokens=special[1:],
    )
    words.chat_template = TEMPLATE
    return words


def _qwen(width: int, layers: int) -> tuple[Any, Any]:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    words = _qwen_words()
    config = Qwen3Config(
        vocab_size=len(words),
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


def _chroma() -> Any:
    from diffusers import ChromaPipeline, ChromaTransformer2DModel

    words, t5 = _t5(24)
    transformer = ChromaTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=24,
        axes_dims_rope=(2, 2, 4),
        approximator_num_channels=16,
        approximator_hidden_dim=16,
        approximator_layers=1,
    )
    return ChromaPipeline(
        transformer=transformer,
        scheduler=_scheduler(shift=3.0, use_dynamic_shifting=True),
        vae=_vae(4, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=t5,
        tokenizer=words,
    )


def _qwen_image() -> Any:
    from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    words = _qwen_words()
    text = {
        "vocab_size": len(words),
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [2, 2, 2],
        },
        "pad_token_id": 0,
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 24,
        "fullatt_block_indexes": [0],
    }
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    vae = AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[-0.7, -0.7, -0.9, 0.1],
        latents_std=[2.8, 1.4, 2.3, 2.6],
    )
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=24,
        axes_dims_rope=(2, 2, 4),
    )
    return QwenImagePipeline(
        transformer=transformer,
        scheduler=_scheduler(
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=0.9,
            max_image_seq_len=8192,
            shift_terminal=0.02,
        ),
        vae=vae,
        text_encoder=Qwen2_5_VLForConditionalGeneration(config),
        tokenizer=words,
    )


def _mistral(width: int, layers: int) -> tuple[Any, Any]:
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as Decoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import (
        Mistral3Config,
        Mistral3ForConditionalGeneration,
        PreTrainedTokenizerFast,
    )

    special = ["<unk>", "<s>", "</s>", "<pad>", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    pieces = [*special, *sorted(ByteLevel.alphabet())]
    inner = Tokenizer(
        BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], unk_token="<unk>")
    )
    inner.pre_tokenizer, inner.decoder = ByteLevel(add_prefix_space=False), Decoder()
    words = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="left",
        additional_special_tokens=special[4:],
    )
    words.chat_template = (
        "<s>{% for m in messages %}{{ m['role'] }}{% for c in m['content'] %}{{ c['text'] }}"
        "{% endfor %}{% endfor %}"
    )
    text = {
        "model_type": "mistral",
        "vocab_size": len(pieces),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "pad_token_id": 3,
    }
    vision = {
        "model_type": "pixtral",
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    config = Mistral3Config(text_config=text, vision_config=vision, image_token_index=4)
    return words, Mistral3ForConditionalGeneration(config)


def _flux2(dev: bool) -> Any:
    from diffusers import (
        AutoencoderKLFlux2,
        Flux2KleinPipeline,
        Flux2Pipeline,
        Flux2Transformer2DModel,
    )

    # [klein] reads its 9th, 18th and 27th layer, [dev] its 10th, 20th and 30th.
    words, reader = _mistral(8, 30) if dev else _qwen(8, 27)
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
        guidance_embeds=dev,
    )
    return (Flux2Pipeline if dev else Flux2KleinPipeline)(
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
