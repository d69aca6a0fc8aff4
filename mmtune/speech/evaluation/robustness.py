"""Robustness test: test rows with noise, babble, over the telephone, and clipped.

Every model transcribes every row under every condition, so differences are paired. The sound of a
row under a condition depends only on its audio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmtune.evaluation.answers import StoredPredictor
from mmtune.speech.evaluation.items import Active, Item, hear
from mmtune.speech.sound import augment
from mmtune.speech.sound.augment import Samples
from mmtune.speech.sound.encode import save_sound
from mmtune.speech.sound.read import content_of, read_row
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.transcription.predictor import SpeechPredictor
from mmtune.system.hashing import hash_json, hash_text

DEGRADED = "degraded"
SNR_DB = (20, 10, 5)  # power of the whole clip over the power of the noise
CLIPPED = 0.05  # share of a clip's samples that are clipped
PEAK = 0.99  # highest peak of noisy clips, so that they don't clip too
ROBUSTNESS_VERSION = 1  # raised when the same row sounds different

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
    # Whisper's features are relative to the loudest frame, so a lower level changes nothing.
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
    """Transcribe at most `task.robustness` of the test items under each condition.

    Args:
        predictor: with all models of `active`.
        active: adapters of each model.
        items: items of the comparison; those of the test are used.
        options: settings of the comparison.
        folder: folder of the run; its `data/degraded` gets the recordings, to listen to.

    Yields:
        Items of the kinds "degraded: CONDITION", each with the cluster of its row.
    """
    test = sorted(
        (item for item in items if item.kind == "test"),
        # The same rows as in the extra conditions.
        key=lambda item: hash_text(f"probe {item.row.id}"),
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
    """Return a row under one condition, with an audio file of its own.

    Args:
        row: the original row.
        name: key of `CONDITIONS`.
        folder: gets the FLAC file, unless the file exists.
    """
    key = hash_json(
        {"version": ROBUSTNESS_VERSION, "audio": row.content or content_of(row), "as": name}
    )
    path = (folder / f"{key[:24]}.flac").resolve()
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(int(key[:15], 16))
        save_sound(path, CONDITIONS[name](read_row(row), rng), private=True)
    whole = {"audio": str(path), "start": 0.0, "end": None, "channel": None, "segments": ()}
    return row.model_copy(update={**whole, "id": f"{row.id}/{name}", "content": key})
