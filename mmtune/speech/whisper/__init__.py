"""Whisper: loading, encoder and decoder, labels, loss, decoding, LoRA, word times."""
