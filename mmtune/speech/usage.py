"""How other programs load a speech adapter: the code in its README.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmtune.adapters.model_card import HERE, Usage
from mmtune.system.base_name import found_from_anywhere

if TYPE_CHECKING:
    from mmtune.adapters.card import Card

TASK = "automatic-speech-recognition"
WITH_PEFT = """
import soundfile
from peft import PeftModel
from transformers import WhisperForConditionalGeneration, WhisperProcessor

base, adapter = {base!r}, {adapter!r}
processor = WhisperProcessor.from_pretrained(base)
model = WhisperForConditionalGeneration.from_pretrained(base)
model = PeftModel.from_pretrained(model, adapter)
sound, rate = soundfile.read("clip.wav")  # 16 kHz, one channel, at most 30 s
heard = processor(sound, sampling_rate=rate, return_tensors="pt").input_features
ids = model.generate(input_features=heard.to(model.dtype){language})
print(processor.batch_decode(ids, skip_special_tokens=True)[0])
"""
WITH_MMTUNE = """
import mmtune

print(mmtune.transcribe("clip.wav", adapter={adapter!r}))
"""


def usage(card: Card, adapter: str = HERE) -> Usage:
    """Make the code that transcribes a recording with an adapter: PEFT's, for a starter mmtune's.

    Args:
        card: of the adapter.
        adapter: its folder or its id on the hub.
    """
    task = card.settings.get("task")
    language = str(task.get("language") or "") if isinstance(task, dict) else ""
    # A base for English alone takes no language.
    named = f', language="{language}"' if language.isalpha() and language != "en" else ""
    starter = card.base.startswith("starter:")
    # peft's generation knows no prefix of Whisper's decoder.
    code = WITH_MMTUNE if starter or not card.method.by_layer else WITH_PEFT
    return Usage(
        package="peft",
        task=TASK,
        code=code.format(base=found_from_anywhere(card.base), adapter=adapter, language=named),
        tags=("whisper",),
        language=language if len(language) == 2 and language.isalpha() else "",
        adapter=adapter,
    )
