"""Write predictions.jsonl, and choose the examples that the report shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmtune.metrics.text.term_finder import term_key
from mmtune.metrics.text.wer import WordErrors
from mmtune.speech.evaluation.extra_conditions import NONSPEECH, TIMED
from mmtune.speech.evaluation.items import GENERAL, Item
from mmtune.speech.speech_options import SpeechOptions
from mmtune.system.files import write_text
from mmtune.system.hashing import hash_text

EXAMPLES = 3  # number of examples of each kind
GAINED, LOST, WRONG = "most gained", "most lost", "still most wrong"
SYNTHESIZER = "synthesizer"  # the label of synthetic rows


def _words(item: Item) -> dict[str, Any]:
    """Return the reference and the transcripts by model."""
    return {"reference": item.row.reference} | {
        name: prediction.value for name, prediction in item.heard.items()
    }


def _row(item: Item) -> dict[str, Any]:
    """Return the manifest's row, so that a reader can listen to it."""
    return item.row.model_dump(
        mode="json", exclude_defaults=True, exclude={"content", "segments", "terms"}
    )


def write_predictions(path: Path, items: Sequence[Item]) -> None:
    """Write one line of JSON for each item: its row, the reference and each model's transcript."""
    lines = []
    for item in items:
        values: dict[str, Any] = {
            "id": item.row.id,
            "slice": item.kind,
            "terms": sorted(item.terms),
            "row": _row(item),
        }
        lines.append(json.dumps(values | _words(item), ensure_ascii=False) + "\n")
    write_text(path, "".join(lines), private=True)


def examples(items: Sequence[Item], seen: set[str], options: SpeechOptions) -> list[dict[str, Any]]:
    """Choose a few examples by result, then a few of each kind by hash.

    By result: the adapter has fewer wrong words than the base, it has more, and it has most. The
    examples by hash show failures as often as they occur.
    """
    return [
        *_by_result([item for item in items if item.kind == "test"], options),
        *_by_hash(items, seen, options),
    ]


def _example(kind: str, item: Item) -> dict[str, Any]:
    shown = {"kind": kind, "row": _row(item)} | _words(item)
    # A synthetic voice that reads a made-up sentence: all texts may be shown.
    made = [*shown] if item.row.group.get(SYNTHESIZER) else []
    return shown | {"made": made}


def _by_result(items: Sequence[Item], options: SpeechOptions) -> list[dict[str, Any]]:
    metric = WordErrors(options.language)
    errors = [
        {name: float(metric.observe(item.row, item.heard[name])[:3].sum()) for name in item.heard}
        for item in items
    ]
    gained = [each["base"] - each["adapter"] for each in errors]
    wrong = [each["adapter"] for each in errors]
    found = []
    for kind, values in ((GAINED, gained), (LOST, [-g for g in gained]), (WRONG, wrong)):
        order = sorted(range(len(items)), key=lambda i: (-values[i], hash_text(items[i].row.id)))
        found += [_example(kind, items[i]) for i in order[:EXAMPLES] if values[i] > 0]
    return found


def _by_hash(items: Sequence[Item], seen: set[str], options: SpeechOptions) -> list[dict[str, Any]]:
    keys = {term_key(term, options.language) for term in seen}
    kinds: dict[str, list[Item]] = {}
    for item in sorted(items, key=lambda item: hash_text(f"example {item.row.id}")):
        if item.kind.startswith(GENERAL) and TIMED not in item.kind:
            kind = GENERAL
        elif item.kind == NONSPEECH:
            kind = NONSPEECH
        elif item.kind != "test":
            continue
        elif item.terms:
            kind = "seen term" if item.terms & keys else "unseen term"
        else:
            kind = "no term"
        kinds.setdefault(kind, []).append(item)
    order = ("seen term", "unseen term", "no term", GENERAL, NONSPEECH)
    return [
        _example(f"{kind}, as they come", item)
        for kind in order
        for item in kinds.get(kind, [])[: EXAMPLES * (2 if kind == "seen term" else 1)]
    ]
