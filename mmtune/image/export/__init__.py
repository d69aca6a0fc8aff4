"""Export of image adapters: written, read back, and compared with the source before it is kept."""

from __future__ import annotations

from mmtune.adapters.exported import Export, Exported
from mmtune.errors import AdapterError, ConfigError
from mmtune.image.diffusion.base import load_base
from mmtune.image.diffusion.denoiser_lora import load_adapter
from mmtune.image.export.fused import write_fused
from mmtune.image.export.kohya import write_diffusers, write_single
from mmtune.image.export.proof import SOURCE, Picture
from mmtune.image.export.weights import fold
from mmtune.system.precision import DTYPES
from mmtune.system.processes import pick_device


def export(request: Export) -> Exported:
    """Write `request.to` in one of the image modality's formats.

    Raises:
        ConfigError: `request.to` has a name that other programs would not find, or a setting is one
            of speech.
        AdapterError: the adapter doesn't load, the format can't hold it, or it isn't the same when
            it is read back.
    """
    precision = request.precision or "fp32"
    if precision not in DTYPES:
        raise ConfigError(
            f"--precision {precision}: image adapters know {', '.join(DTYPES)}", "use one of them"
        )
    if request.check is not None:
        raise ConfigError(
            "--check is for speech: image adapters are proved on a picture that they draw",
            "leave it out",
        )
    single = request.format == "kohya"
    if single != (request.to.suffix == ".safetensors"):
        raise ConfigError(
            f"{request.to.name}: format {request.format} is a {'file' if single else 'folder'}",
            "name a .safetensors file" if single else f"--out {request.to.stem}",
        )
    base = load_base(request.base, pick_device(), DTYPES[precision])
    load_adapter(base, request.adapter, SOURCE)
    if single and any(m.peft_config[SOURCE].use_dora for m in base.adapted.values()):
        raise AdapterError(
            f"{request.adapter} is a DoRA: single files write its magnitudes in ways that loaders "
            "read differently or drop",
            "--format fused puts it into the weights; --format diffusers keeps it as it is",
        )
    picture = Picture(base, precision)
    before = picture.draw({SOURCE: request.scale})
    if request.format == "fused":
        proof, notes = write_fused(request, base, picture, before)
    else:
        write = write_single if single else write_diffusers
        proof, notes = write(request, base, fold(base, SOURCE, request.scale), picture, before)
    return Exported(request.to, request.format, proof, notes)
