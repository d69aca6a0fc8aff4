"""mmtune: LoRA fine-tuning of Whisper and of diffusion models, with one training core."""

from mmtune.system.version import VERSION as __version__

__all__ = ["__version__"]
