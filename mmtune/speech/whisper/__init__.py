"""Whisper: load bases, run encoder and decoder, make labels, train LoRA, decode, time words."""
