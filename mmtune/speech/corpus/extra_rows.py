"""Make additional training rows: joined windows, recordings without speech, replayed speech.

If Whisper is trained on single utterances alone, it forgets long audio, timestamps, and that
silence has no words. These rows prevent that. They are written to a folder of the run, so you can
listen to them. All choices follow from the data and the seed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmtune.config import RunConfig
from mmtune.data.check import check
from mmtune.data.dataset import Dataset
from mmtune.data.manifest import root_of, write_manifest
from mmtune.errors import ConfigError
from mmtune.predict import Request
from mmtune.speech.corpus.join import PAUSE, join_clips
from mmtune.speech.corpus.speech_reader import READER
from mmtune.speech.sound import augment
from mmtune.speech.sound.encode import save_sound
from mmtune.speech.sound.read import SAMPLE_RATE, read_row
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow, speech_rows
from mmtune.speech.whisper.stages import MAX_WINDOW, seconds_of
from mmtune.system.files import write_json
from mmtune.system.hashing import hash_json, hash_text
from mmtune.system.stored import stored_key

MIX_VERSION = 1  # raised when the same data gives other rows
SHORTEST_JOIN = 8.0  # seconds; the planned length of a joined window is drawn from this to 30 s
EARLIER = 3  # number of utterances before a joined window that become its prompt
NONSPEECH = (1.0, 25.0)  # length of a recording without speech, in seconds


@dataclass(frozen=True)
class Join:
    """A joined window: its utterances, the pauses between them, and the utterances before it."""

    rows: tuple[SpeechRow, ...]
    pauses: tuple[float, ...]
    before: tuple[SpeechRow, ...]


def shares(options: SpeechOptions, rows: int, general: int) -> dict[str, int]:
    """Return how many additional rows of each kind the training gets.

    Args:
        options: with `mix`, the shares of all training windows.
        rows: number of the user's own training rows.
        general: number of rows of other speech; no more are replayed.

    Raises:
        ConfigError: the shares leave nothing for the user's own rows.
    """
    mix = options.mix
    wanted = {"joined": mix.joined, "nonspeech": mix.nonspeech}
    if general:
        wanted["replay"] = mix.replay
    left = 1 - sum(wanted.values())
    if left <= 0:
        raise ConfigError(
            f"task.mix: its shares add up to {1 - left:.2f} of the training windows",
            "lower joined, nonspeech or replay, so that a share is left for your own rows",
        )
    counts = {kind: round(rows * share / left) for kind, share in wanted.items()}
    counts["replay"] = min(counts.get("replay", 0), general)
    return counts


def extend(config: RunConfig, dataset: Dataset) -> Path | None:
    """Write the additional training rows and return their folder; None if there are none.

    A folder that was made of the same data, settings and base is used again.

    Raises:
        MmtuneError: the shares or the recordings to replay can't be used.
    """
    options = config.task
    assert isinstance(options, SpeechOptions)
    train = speech_rows(dataset.split("train"))
    general = _general(options, dataset)
    counts = shares(options, len(train), len(general))
    if not any(counts.values()):
        return None
    folder = config.folder / "data" / "mix"
    facts = {
        "version": MIX_VERSION,
        "dataset": dataset.fingerprint,
        "counts": counts,
        "seed": config.train.seed,
        "base": config.base if counts["replay"] else None,
        "general": [row.content for row in general] if counts["replay"] else [],
    }
    key = hash_json(facts)
    manifest, record = folder / "manifest.jsonl", folder / "mix.json"
    if record.exists() and manifest.exists():
        if stored_key(record) == key:
            return folder
        shutil.rmtree(folder)
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    rows: list[SpeechRow] = []
    rng = np.random.default_rng([config.train.seed, 7])
    for i, join in enumerate(plan_joins(train, counts["joined"], rng)):
        rows.append(_joined(join, f"joined-{i:05}", folder, rng))
    rows += [_nonspeech(f"nonspeech-{i:05}", folder, rng) for i in range(counts["nonspeech"])]
    rows += _replayed(config, general[: counts["replay"]], folder)
    if not rows:
        return None
    write_manifest(manifest, rows)
    write_json(record, {"key": key, **facts})
    return folder


def plan_joins(rows: Sequence[SpeechRow], count: int, rng: np.random.Generator) -> Iterator[Join]:
    """Plan at most `count` windows of consecutive utterances of one speaker.

    Speakers with a single utterance are joined with one another.

    Args:
        rows: in the order of their manifest.
        count: number of windows wanted.
        rng: draws lengths and pauses.
    """
    speakers: dict[tuple[str, ...], list[SpeechRow]] = {}
    for row in rows:
        if not row.nonspeech and row.text.strip():
            speakers.setdefault((row.speaker or "", row.language or ""), []).append(row)
    alone: dict[str, list[SpeechRow]] = {}
    groups: list[list[SpeechRow]] = []
    for (_, language), group in speakers.items():
        if len(group) > 1:
            groups.append(group)
        else:
            alone.setdefault(language, []).extend(group)
    groups += [group for group in alone.values() if len(group) > 1]
    made: set[tuple[str, ...]] = set()
    # Each pass starts at another row, so that other neighbours are joined.
    while groups and len(made) < count:
        found = 0
        for at in rng.permutation(len(groups)):
            group = groups[at]
            start = int(rng.integers(len(group) - 1))
            for join in _windows(group, start, rng):
                ids = tuple(row.id for row in join.rows)
                if ids in made:
                    continue
                made.add(ids)
                found += 1
                yield join
                if len(made) >= count:
                    return
        if not found:
            return


def _windows(group: list[SpeechRow], start: int, rng: np.random.Generator) -> Iterator[Join]:
    at = start
    while at < len(group) - 1:
        most = float(rng.uniform(SHORTEST_JOIN, MAX_WINDOW))
        rows, pauses = [group[at]], []
        length = seconds_of(group[at])
        for row in group[at + 1 :]:
            pause = round(float(rng.uniform(*PAUSE)), 2)
            longer = length + pause + seconds_of(row)
            if longer > (MAX_WINDOW if len(rows) == 1 else most):
                break
            rows.append(row)
            pauses.append(pause)
            length = longer
        if len(rows) > 1:
            yield Join(tuple(rows), tuple(pauses), tuple(group[max(0, at - EARLIER) : at]))
        at += len(rows)


def _joined(join: Join, name: str, folder: Path, rng: np.random.Generator) -> SpeechRow:
    samples, segments, _ = join_clips(join.rows, join.pauses, rng)
    earlier = " ".join(" ".join(row.text.split()) for row in join.before)
    row = join.rows[0]
    audio = samples[: int(MAX_WINDOW * SAMPLE_RATE)]
    return SpeechRow(
        id=f"mix/{name}",
        split="train",
        audio=_write(audio, name, folder),
        text=" ".join(segment.text for segment in segments),
        segments=segments,
        speaker=row.speaker,
        language=row.language,
        prompt=earlier or None,
        terms=tuple(dict.fromkeys(term for each in join.rows for term in each.terms)),
        group={"mix": "joined"},
    )


def _nonspeech(name: str, folder: Path, rng: np.random.Generator) -> SpeechRow:
    count = int(rng.uniform(*NONSPEECH) * SAMPLE_RATE)
    audio = _write(augment.silence(count, rng), name, folder)
    group = {"mix": "nonspeech"}
    return SpeechRow(
        id=f"mix/{name}", split="train", audio=audio, text="", nonspeech=True, group=group
    )


def _general(options: SpeechOptions, dataset: Dataset) -> list[SpeechRow]:
    """Rows of other speech, ordered by hash.

    Rows of the data set and retention rows are left out, because all may come from one file: test
    rows must not be trained on.
    """
    from mmtune.speech.corpus.retention import retention_rows

    if options.mix.general is None or not options.mix.replay:
        return []
    known = {row.content for row in dataset.rows}
    known |= {row.content for row in retention_rows(options, "test")}
    known |= {row.content for row in retention_rows(options, "validation")}
    found = speech_rows(check(options.mix.general, READER, divide=False).rows)
    # Rows that would leak between splits are in no split, so they are known by their ids alone.
    same = root_of(options.mix.general) == root_of(dataset.source)
    withheld = set(dataset.withheld) if same else set()
    fresh = [
        row
        for row in found
        if row.content not in known and row.id not in withheld and row.reference.strip()
    ]
    return sorted(fresh, key=lambda row: hash_text(f"replay {row.id}"))


def _replayed(config: RunConfig, rows: Sequence[SpeechRow], folder: Path) -> list[SpeechRow]:
    """Label other speech with the base's own transcripts, so that the adapter keeps them."""
    if not rows:
        return []
    from mmtune.speech.transcription.predictor import SpeechPredictor
    from mmtune.speech.whisper.base import load_for

    assert isinstance(config.task, SpeechOptions)
    base = load_for(config.base, config.train.precision)
    predictor = SpeechPredictor(base, {}, language=config.task.language)
    heard = predictor.predict([Request(row, {}) for row in rows])
    made = []
    for i, (row, prediction) in enumerate(zip(rows, heard, strict=True)):
        if text := str(prediction.value).strip():
            name = f"replay-{i:05}"
            made.append(
                SpeechRow(
                    id=f"mix/{name}",
                    split="train",
                    audio=_write(read_row(row), name, folder),
                    text=text,
                    language=row.language,
                    group={"mix": "replay", "from": row.id},
                )
            )
    return made


def _write(audio: NDArray[np.float32], name: str, folder: Path) -> str:
    relative = f"audio/{name}.flac"
    save_sound(folder / relative, np.clip(audio, -1, 1), private=True)
    return relative
