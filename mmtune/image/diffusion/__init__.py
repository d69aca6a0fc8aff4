"""Diffusion models: loading, families, objectives, stages, quantization, LoRA."""
