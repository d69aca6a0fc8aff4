"""Write the adapters of this folder with the code of the programs that they come from.

Each is trained in name alone: random numbers stand for training. `expected.safetensors` holds the
change of each layer's weight, computed by that program's own code and applied to three vectors.

    pip install lycoris-lora==4.1.3
    git clone https://github.com/kohya-ss/sd-scripts   # 48d368fa was used
    python -m tests.foreign.adapters.make --sd-scripts sd-scripts
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import torch
from safetensors.torch import save_file

from tests.image import tiny

HERE = Path(__file__).parent
# Few layers keep the files small: a linear one, convolutions of 3x3 and 1x1, one of the text.
SD = (
    "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k",
    "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0",
    "lora_unet_down_blocks_0_resnets_0_conv1",
    "lora_unet_down_blocks_1_attentions_0_proj_in",
    "lora_te_text_model_encoder_layers_1_self_attn_q_proj",
)
UNET = SD[:4]
FLUX = (
    "lora_unet_double_blocks_0_img_attn_qkv",
    "lora_unet_double_blocks_0_txt_mlp_0",
    "lora_unet_single_blocks_0_linear1",
    "lora_unet_single_blocks_0_linear2",
)
# LyCORIS: the settings of a network, by the name of the file.
LYCORIS: dict[str, dict[str, Any]] = {
    "locon": {"network_dim": 4, "network_alpha": 1, "conv_dim": 2, "conv_alpha": 3},
    "locon_tucker": {"network_dim": 4, "network_alpha": 2, "conv_dim": 3, "use_tucker": True},
    "loha": {"algo": "loha", "network_dim": 3, "network_alpha": 1},
    "loha_tucker": {"algo": "loha", "network_dim": 2, "network_alpha": 1, "use_tucker": True},
    "lokr": {"algo": "lokr", "network_dim": 2, "network_alpha": 1, "factor": 4},
    "lokr_both": {
        **{"algo": "lokr", "network_dim": 1, "network_alpha": 3, "factor": 4},
        **{"decompose_both": True, "use_tucker": True},
    },
    "lokr_whole": {"algo": "lokr", "network_dim": 10_000, "network_alpha": 1, "factor": 4},
    "rslora": {"network_dim": 4, "network_alpha": 2, "rs_lora": True},
    "full": {"algo": "full", "network_dim": 4, "network_alpha": 1},
    "dora": {"network_dim": 4, "network_alpha": 2, "dora_wd": True},
}

PRESET = """
enable_conv = true
unet_target_module = ["Transformer2DModel", "ResnetBlock2D"]
text_encoder_target_module = ["CLIPAttention"]
"""

Tensors = dict[str, torch.Tensor]


def applied(change: torch.Tensor) -> torch.Tensor:
    """A weight's change applied to three fixed vectors, [out, 3]: it is smaller than the change."""
    flat = change.detach().double().flatten(1)
    places = torch.arange(1.0, flat.shape[1] + 1, dtype=torch.float64)[:, None]
    return flat @ torch.cos(places * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).sqrt())


def randomise(modules: Any) -> None:
    """Random numbers in place of training; what starts as zero gets some too."""
    with torch.no_grad():
        for name, value in (each for module in modules for each in module.named_parameters()):
            if "dora_scale" in name:
                value *= 1 + 0.2 * torch.rand(value.shape)
            else:
                value.copy_(0.3 * torch.randn(value.shape))


def chosen(state: Mapping[str, torch.Tensor], layers: tuple[str, ...]) -> Tensors:
    # Both programs are used with a transformers that has this name; its newer versions lack it.
    state = {key.replace("lora_te_encoder", "lora_te_text_model_encoder"): state[key]
             for key in state}  # fmt: skip
    kept = {key: value for key, value in state.items() if key.partition(".")[0] in layers}
    return {key: value.detach().clone().contiguous() for key, value in kept.items()}


def lycoris(settings: dict[str, Any]) -> tuple[Tensors, Tensors]:
    """A file of LyCORIS, and the changes that its modules' `forward` makes."""
    from lycoris.kohya import create_network

    torch.manual_seed(0)
    pipeline = tiny.pipeline("sd")
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as preset:
        preset.write(PRESET)
        preset.flush()
        network = create_network(
            1.0,
            vae=None,
            text_encoder=pipeline.text_encoder,
            unet=pipeline.unet,
            preset=preset.name,
            **settings,
        )
    randomise(network.loras)
    layers = UNET if settings.get("algo") == "full" else SD
    changes = {}
    for module in network.loras:
        shape = module.org_module[0].weight.shape
        if settings.get("algo") in ("loha", "lokr"):
            change = module.get_weight(shape)
        elif settings.get("algo") == "full":
            change = module.weight
        else:
            change = module.get_diff_weight(1.0, shape)[0]
        if "dora_wd" in settings:  # what is added to the weight, with its rows' new lengths
            weight = module.org_module[0].weight
            change = module.apply_weight_decompose(weight + change) - weight
        changes[module.lora_name] = change
    state = (
        {
            f"{module.lora_name}.{key}": value
            for module in network.loras
            for key, value in module.custom_state_dict().items()
        }
        if settings.get("algo") != "full"
        else {f"{module.lora_name}.diff": module.weight for module in network.loras}
    )
    return chosen(state, layers), chosen(changes, layers)


def sd_scripts() -> dict[str, tuple[Tensors, Tensors]]:
    """Files of sd-scripts' `networks.lora` and `networks.lora_flux`, and their changes."""
    from library import flux_models
    from networks.lora import LoRAInfModule, LoRANetwork
    from networks.lora_flux import LoRAInfModule as FluxModule
    from networks.lora_flux import LoRANetwork as FluxNetwork

    torch.manual_seed(1)
    pipeline = tiny.pipeline("sd")
    network = LoRANetwork(
        [pipeline.text_encoder],
        pipeline.unet,
        lora_dim=4,
        alpha=1,
        conv_lora_dim=8,
        conv_alpha=4,
        module_class=LoRAInfModule,
    )
    found = {"kohya": of_sd_scripts(network, SD)}
    # The shapes of the tiny FLUX.1 of the tests.
    config = tiny.pipeline("flux-dev").transformer.config
    width = config.num_attention_heads * config.attention_head_dim
    flux = flux_models.Flux(
        flux_models.FluxParams(
            in_channels=config.in_channels,
            vec_in_dim=config.pooled_projection_dim,
            context_in_dim=config.joint_attention_dim,
            hidden_size=width,
            mlp_ratio=4.0,
            num_heads=config.num_attention_heads,
            depth=config.num_layers,
            depth_single_blocks=config.num_single_layers,
            axes_dim=list(config.axes_dims_rope),
            theta=10_000,
            qkv_bias=True,
            guidance_embed=config.guidance_embeds,
        )
    )
    plain = FluxNetwork([], flux, lora_dim=2, alpha=1, module_class=FluxModule)
    found["kohya_flux"] = of_sd_scripts(plain, FLUX)
    return found


def of_sd_scripts(network: Any, layers: tuple[str, ...]) -> tuple[Tensors, Tensors]:
    modules = [*network.text_encoder_loras, *network.unet_loras]
    randomise(modules)
    state: Tensors = {}
    for module in modules:
        state |= {f"{module.lora_name}.{key}": v for key, v in module.state_dict().items()
                  if not key.startswith("org_module")}  # fmt: skip
    changes = {m.lora_name: m.get_weight() for m in modules}
    return chosen(state, layers), chosen(changes, layers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sd-scripts", type=Path, required=True, help="a checkout of sd-scripts")
    options = parser.parse_args()
    sys.path.insert(0, str(options.sd_scripts))
    # What these modules import for other parts of sd-scripts.
    for name in ("utils", "device_utils", "custom_offloading_utils"):
        sys.modules[f"library.{name}"] = MagicMock()
    logging.disable()
    files = {name: lycoris(settings) for name, settings in LYCORIS.items()} | sd_scripts()
    expected: Tensors = {}
    for name, (tensors, changes) in files.items():
        assert tensors.keys(), name
        assert changes.keys() == {key.partition(".")[0] for key in tensors}, name
        save_file(tensors, HERE / f"{name}.safetensors")
        expected |= {f"{name}/{layer}": applied(value) for layer, value in changes.items()}
    save_file(expected, HERE / "expected.safetensors")


if __name__ == "__main__":
    main()
