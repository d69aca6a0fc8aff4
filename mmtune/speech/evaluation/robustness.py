"""Test rows as bad rooms and lines would have them: noise, voices, the telephone, clipping.

Every row is heard under every condition by every model, so that differences are paired. What a row
sounds like under a condition follows from its audio alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from mmtune.evaluate.answers import StoredPredictor
from mmtune.speech.evaluation.items import Active, Item, hear
from mmtune.speech.sound import augment
from mmtune.speech.sound.augment import Samples
from mmtune.speech.sound.read import SAMPLE_RATE, content_of, read_row
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.transcription.predictor import SpeechPredictor
from mmtune.system.hashing import hash_json, hash_text

DEGRADED = "degraded"
SNR_DB = (20, 10, 5)  # power of the whole clip over that of the noise
CLIPPED = 0.05  # of a clip's samples
PEAK = 0.99  # noise must not clip as well
ROBUSTNESS_VERSION = 1  # raised when the same row would sound otherwise

Condition = Callable[[Samples, np.random.Generator], Samples]


def _in_noise(snr_db: float) -> Condition:
    def degrade(samples: Samples, rng: np.random.Generator) -> Samples:
        return _fit(augment.at_snr(samples, rng.standard_normal(len(samples)), snr_db))

    return degrade


def _among_voices(snr_db: float) -> Condition:
    def degrade(samples: Samples, rng: np.random.Generator) -> Samples:
        return _fit(augment.at_snr(samples, augment.babble(samples, rng), snr_db))

    return degrade


def _fit(samples: NDArray[np.float64]) -> Samples:
    # Whisper's features are relative to the loudest frame: a lower level alone changes nothing.
    peak = float(np.abs(samples).max(initial=0.0))
    return (samples * min(1.0, PEAK / max(peak, 1e-9))).astype(np.float32)


CONDITIONS: dict[str, Condition] = {
    **{f"white noise {snr} dB": _in_noise(snr) for snr in SNR_DB},
    **{f"babble {snr} dB": _among_voices(snr) for snr in SNR_DB},
    "telephone": lambda samples, _: augment.telephone(samples),
    "clipping": lambda samples, _: augment.overdrive(samples, CLIPPED),
}


def degraded(
    predictor: StoredPredictor[SpeechPredictor],
    active: Active,
    items: Sequence[Item],
    options: SpeechOptions,
    folder: Path,
) -> Iterator[Item]:
    """At most `task.robustness` of the test items, under each condition.

    Args:
        predictor: with all models of `active`.
        folder: of the run; its `data/degraded` gets the recordings, which can be listened to.

    Yields:
        Items of the kinds "degraded: CONDITION"; a row's own keep its cluster.
    """
    test = sorted(
        (item for item in items if item.kind == "test"),
        key=lambda item: hash_text(f"probe {item.row.id}"),  # those of the other probes
    )
    chosen = test[: options.robustness]
    place = folder / "data" / DEGRADED
    made = [
        (item, name, degrade_row(item.row, name, place)) for name in CONDITIONS for item in chosen
    ]
    found = hear(predictor, active, [row for _, _, row in made])
    for (item, name, row), heard in zip(made, found, strict=True):
        yield replace(item, row=row, heard=heard, kind=f"{DEGRADED}: {name}")


def degrade_row(row: SpeechRow, name: str, folder: Path) -> SpeechRow:
    """A row under one condition, as a file of its own; the file is made unless it is there.

    Args:
        name: of `CONDITIONS`.
        folder: gets the FLAC file.
    """
    key = hash_json(
        {"version": ROBUSTNESS_VERSION, "audio": row.content or content_of(row), "as": name}
    )
    path = (folder / f"{key[:24]}.flac").resolve()
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(int(key[:15], 16))
        partial = path.with_suffix(".partial")
        samples = CONDITIONS[name](read_row(row), rng)
        soundfile.write(partial, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        partial.replace(path)
    whole = {"audio": str(path), "start": 0.0, "end": None, "channel": None, "segments": ()}
    return row.model_copy(update={**whole, "id": f"{row.id}/{name}", "content": key})
