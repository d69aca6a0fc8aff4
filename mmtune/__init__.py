"""mmtune: LoRA fine-tuning of Whisper and of diffusion models, with one training core."""

__version__ = "0.1.0"
