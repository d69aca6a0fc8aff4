"""Diffusion models: loading, families, training objectives, encoding, quantization and LoRA."""
