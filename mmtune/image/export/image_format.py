"""What an export format of images is: a LoRA or a pipeline, proved by its layers and a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtune.adapters.exported import Export, Exported, ExportFormat
from mmtune.errors import AdapterError, ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmtune.image.diffusion.base import DiffusionBase
    from mmtune.image.export.parity import Picture

Proof = tuple[dict[str, Any], tuple[str, ...]]  # figures of the comparison, and remarks
PRECISIONS = ("fp32", "bf16", "fp16")  # of the base while the adapter is proved


@dataclass(frozen=True, kw_only=True)
class ImageFormat(ExportFormat):
    """A file or folder that other programs load.

    Attributes:
        write: writes `request.to`, reads it back and compares it with the adapter, which is loaded
            as `proof.SOURCE`; the last argument is the picture that it draws.
        dora: why a DoRA can't be held, and what to do about it; None where it can.
        lora_alone: whether it holds pairs of matrices, as LoRA has them, and nothing else.
        after: writes what belongs beside the file, and gives notes on its use.
    """

    write: Callable[[Export, DiffusionBase, Picture, Image], Proof]
    dora: tuple[str, str] | None = None
    lora_alone: bool = True
    after: Callable[[Export, Path, str], tuple[str, ...]] | None = None

    def finish(self, request: Export, place: Path) -> tuple[str, ...]:
        """See `after`, which gets the class of the base's pipeline."""
        from mmtune.image.source import read_index, resolve_base

        if self.after is None:
            return ()
        index = read_index(resolve_base(request.base))
        return self.after(request, place, str(index.get("_class_name")))

    def export(self, request: Export) -> Exported:
        """Write `request.to`, and prove it on its layers and on a picture that it draws.

        Raises:
            ConfigError: `request.to` has a name that other programs would not find, or a setting is
                one of speech.
            AdapterError: the adapter doesn't load, the format can't hold it, or it isn't the same
                when it is read back.
        """
        from mmtune.image.diffusion.base import load_base
        from mmtune.image.diffusion.denoiser_lora import load_adapter
        from mmtune.image.export.parity import SOURCE, Picture
        from mmtune.system.precision import DTYPES
        from mmtune.system.processes import pick_device

        precision = self.precision_of(request)
        if self.lora_alone:
            self._require_lora(request)
        if request.check is not None:
            raise ConfigError(
                "--check is for speech: image adapters are proved on a picture that they draw",
                "leave it out",
            )
        base = load_base(request.base, pick_device(), DTYPES[precision])
        lacking = base.family.export_names.unsupported.get(self.name)
        if lacking is not None:
            raise AdapterError(
                f"adapters of {base.family.name} can't be exported as {self.name}: {lacking}",
                "choose another --format",
            )
        load_adapter(base, request.adapter, SOURCE)
        configs = [model.peft_config[SOURCE] for model in base.adapted.values()]
        if self.dora and any(config.use_dora for config in configs):
            found, cure = self.dora
            raise AdapterError(f"{request.adapter} is a DoRA: {found}", cure)
        picture = Picture(base, precision)
        proof, notes = self.write(request, base, picture, picture.draw({SOURCE: request.scale}))
        return Exported(request.to, request.format, proof, notes)

    def _require_lora(self, request: Export) -> None:
        from mmtune.adapters.method_files import peft_kind
        from mmtune.methods import method_of_peft

        method = method_of_peft(peft_kind(request.adapter))
        if method is not None and method.peft_type != "LORA":
            raise AdapterError(
                f"{request.adapter} is trained by {method.title}, and the format {self.name} holds "
                "LoRA alone",
                "--format fused puts it into the base's weights; the adapter's own folder loads in "
                "peft (PeftModel.from_pretrained)",
            )
