"""Evaluation of image adapters: comparison with the base, measures, copies, strengths."""
