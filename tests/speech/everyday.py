"""Everyday sentences by the voices of the test: speech of another language."""

from __future__ import annotations

from mmtune.speech.corpus.synthesize import Utterance, read_lines, voices_for
from mmtune.system.resources import resource


def everyday_speech(language: str) -> list[Utterance]:
    """The sentences of assets/carriers/everyday.LANGUAGE.txt, each spoken over a clean line."""
    lines = read_lines(resource("assets", "carriers") / f"everyday.{language}.txt")
    voices = voices_for(language)["test"]
    return [
        Utterance("test", line, line, None, voices[i % len(voices)], "clean")
        for i, line in enumerate(lines)
    ]
