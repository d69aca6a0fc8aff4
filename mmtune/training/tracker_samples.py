"""Send samples to a tracker in the form that it shows: text, pictures and sound."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmtune.training.samples import Sample

COLUMNS = ("name", "expected", "text")


def send_samples(tracker: Any, samples: Sequence[Sample], step: int) -> None:
    """Send samples to one of Accelerate's trackers; one without a way to show them gets none.

    Args:
        tracker: an `accelerate.tracking.GeneralTracker` that has begun.
        samples: of one validation.
        step: the optimizer step of that validation.
    """
    send = SENDERS.get(str(tracker.name))
    if send is not None:
        send(tracker, samples, step)


def _tensorboard(tracker: Any, samples: Sequence[Sample], step: int) -> None:
    writer = tracker.tracker
    texts = [each for each in samples if each.text]
    if texts:
        writer.add_text("samples", _markdown(texts), step)
    for each in samples:
        if each.picture is not None:
            writer.add_image(f"samples/{each.name}", each.picture, step, dataformats="HWC")
        if each.sound is not None:
            sound = np.clip(each.sound, -1.0, 1.0)[None, :]  # add_audio takes a tensor or an array
            writer.add_audio(f"samples/{each.name}", sound, step, sample_rate=each.rate)
    writer.flush()


def _wandb(tracker: Any, samples: Sequence[Sample], step: int) -> None:
    import wandb

    values: dict[str, Any] = {}
    if any(each.text for each in samples):
        values["samples/text"] = wandb.Table(columns=list(COLUMNS), data=_lines(samples))
    pictures = [each for each in samples if each.picture is not None]
    if pictures:
        values["samples/pictures"] = [
            wandb.Image(each.picture, caption=each.expected) for each in pictures
        ]
    sounds = [each for each in samples if each.sound is not None]
    if sounds:
        values["samples/sounds"] = [
            wandb.Audio(each.sound, sample_rate=each.rate, caption=each.expected) for each in sounds
        ]
    tracker.log(values, step=step)


def _mlflow(tracker: Any, samples: Sequence[Sample], step: int) -> None:
    import mlflow
    from PIL import Image

    if any(each.text for each in samples):
        mlflow.log_text(_markdown(samples), f"samples/step-{step:07d}.md")
    for i, each in enumerate(samples):
        if each.picture is not None:
            place = f"samples/step-{step:07d}-{i}.png"
            mlflow.log_image(Image.fromarray(each.picture), place)


def _trackio(tracker: Any, samples: Sequence[Sample], step: int) -> None:
    import trackio

    values: dict[str, Any] = {}
    if any(each.text for each in samples):
        values["samples/text"] = trackio.Markdown(_markdown(samples))
    for i, each in enumerate(samples):
        if each.picture is not None:
            values[f"samples/picture-{i}"] = trackio.Image(each.picture, caption=each.expected)
        if each.sound is not None:
            whole = np.round(np.clip(each.sound, -1.0, 1.0) * 32767).astype(np.int16)
            values[f"samples/sound-{i}"] = trackio.Audio(
                whole, caption=each.expected, sample_rate=each.rate
            )
    tracker.log(values, step=step)


SENDERS: Mapping[str, Callable[[Any, Sequence[Sample], int], None]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}


def _lines(samples: Sequence[Sample]) -> list[list[str]]:
    return [[each.name, each.expected, each.text] for each in samples]


def _markdown(samples: Sequence[Sample]) -> str:
    rows = [COLUMNS, ("---",) * len(COLUMNS), *_lines(samples)]
    cells = ([" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
