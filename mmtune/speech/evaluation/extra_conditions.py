"""Extra test conditions: decoding with timestamps, other windows, silence, groups of speakers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmtune.evaluation.answers import StoredPredictor
from mmtune.predict import Predictor
from mmtune.speech.evaluation.items import GENERAL, Active, Item, hear
from mmtune.speech.evaluation.label_groups import group_by_labels
from mmtune.speech.sound import augment
from mmtune.speech.sound.encode import save_sound
from mmtune.speech.sound.read import SAMPLE_RATE
from mmtune.speech.speech_options import SpeechOptions, Windows
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.transcription.predictor import SpeechPredictor
from mmtune.system.hashing import hash_text

TIMED, NONSPEECH = "with times", "non-speech"
SILENCE_SECONDS = (5.0, 30.0)
RECORDING_LABELS = ("terms", "channel", "side", "device", "source")  # of a row, not of its speaker
SPEAKER_LABELS = ("accent", "age", "dialect", "gender", "native_language", "region", "sex")
# Variants of the models: a comparison also uses other search options and windows than its own.
PROBED: dict[str, Callable[[SpeechPredictor], SpeechPredictor]] = {
    TIMED: lambda p: p.with_options(replace(p.options, timestamps=True)),
    "padded": lambda p: p.with_windows("padded"),
    "trimmed": lambda p: p.with_windows("trimmed"),
}


def other_windows(options: SpeechOptions) -> str:
    """Name the slice of the windows that the comparison itself doesn't use."""
    return "test, trimmed windows" if options.score_windows == "padded" else "test, padded windows"


def probes(
    predictor: StoredPredictor[SpeechPredictor],
    active: Active,
    items: Sequence[Item],
    options: SpeechOptions,
    folder: Path,
) -> list[Item]:
    """Make items of the extra conditions, at most `options.probes` of each kind.

    Args:
        predictor: with all models of `active`, and the variants of `PROBED`.
        active: adapters of each model.
        items: items of the test and of general speech; some of them are transcribed again.
        options: settings of the comparison.
        folder: folder of the run; its `data/silence` gets recordings without speech.
    """
    if not options.probes:
        return []
    found: list[Item] = []
    some = {kind: _some(items, kind, options.probes) for kind in ("test", GENERAL)}
    if options.beams == 1:
        timed = predictor.variant(TIMED)
        found += _again(timed, active, some["test"], f"test {TIMED}")
        found += _again(timed, active, some[GENERAL], f"{GENERAL} {TIMED}")
    windows: Windows = "trimmed" if options.score_windows == "padded" else "padded"
    others = predictor.variant(windows)
    found += _again(others, active, some["test"], other_windows(options))
    silence = list(_silence(options.probes, folder / "data" / "silence", options.language))
    for row, heard in zip(silence, hear(predictor, active, silence), strict=True):
        found.append(Item(row, heard, cluster=row.id, kind=NONSPEECH))
    return found


def by_label(items: Sequence[Item]) -> dict[str, dict[str, list[Item]]]:
    """Group items by each label of their rows (accent, gender …) and by its values.

    Numbers with many values, such as ages, are grouped into bands of ten.
    """
    found = group_by_labels([item.row.group for item in items])
    return {
        label: {value: [items[i] for i in members] for value, members in groups.items()}
        for label, groups in found.items()
    }


def tells_speakers(label: str, items: Sequence[Item]) -> bool:
    """Whether a label groups speakers, such as an accent: each speaker has one value.

    Labels of recordings, such as the channel or the terms of a row, don't. Without names of
    speakers, only the labels in `SPEAKER_LABELS` do.
    """
    if label in RECORDING_LABELS:
        return False
    values: dict[str, set[str]] = {}
    for item in items:
        if item.row.speaker:
            values.setdefault(item.row.speaker, set()).add(item.row.group.get(label, ""))
    if not values:
        return label in SPEAKER_LABELS
    return all(len(each) == 1 for each in values.values())


def _some(items: Sequence[Item], kind: str, count: int) -> list[Item]:
    chosen = [item for item in items if item.kind == kind]
    return sorted(chosen, key=lambda item: hash_text(f"probe {item.row.id}"))[:count]


def _again(
    predictor: Predictor, active: Active, items: Sequence[Item], kind: str
) -> Iterator[Item]:
    heard = hear(predictor, active, [item.row for item in items])
    for item, each in zip(items, heard, strict=True):
        yield replace(item, heard=each, kind=kind)


def _silence(count: int, folder: Path, language: str) -> Iterator[SpeechRow]:
    # Another seed than that of the training rows gives other recordings.
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        rng = np.random.default_rng([i, 11])
        seconds = float(rng.uniform(*SILENCE_SECONDS))
        path = (folder / f"{i:03}.flac").resolve()
        save_sound(path, augment.silence(int(seconds * SAMPLE_RATE), rng))
        yield SpeechRow(
            id=f"silence/{i:03}",
            audio=str(path),
            text="",
            nonspeech=True,
            language=language,
            duration_s=round(seconds, 3),
        )
