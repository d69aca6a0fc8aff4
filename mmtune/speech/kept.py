"""What a comparison keeps of its answers: a line for each item, and a few examples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmtune.hashing import hash_text
from mmtune.speech.heard import GENERAL, Item
from mmtune.speech.normalize import normalize
from mmtune.speech.options import SpeechOptions
from mmtune.speech.probes import NONSPEECH, TIMED

EXAMPLES = 3  # of each kind


def _words(item: Item) -> dict[str, Any]:
    return {"reference": item.row.reference} | {
        name: prediction.value for name, prediction in item.heard.items()
    }


def write_predictions(path: Path, items: Sequence[Item]) -> None:
    """Write one line of JSON for each item: what was said, and what each model wrote."""
    partial_file = path.with_suffix(".partial")
    with partial_file.open("w", encoding="utf-8") as file:
        for item in items:
            values: dict[str, Any] = {
                "id": item.row.id,
                "slice": item.kind,
                "terms": sorted(item.terms),
            }
            # So that it can be heard again: `mmtune review` plays it.
            values["row"] = item.row.model_dump(
                mode="json", exclude_defaults=True, exclude={"content", "segments", "terms"}
            )
            file.write(json.dumps(values | _words(item), ensure_ascii=False) + "\n")
    partial_file.replace(path)


def examples(items: Sequence[Item], seen: set[str], options: SpeechOptions) -> list[dict[str, Any]]:
    """A few of each kind, by hash and not by result, so that failures show as often as they are."""
    keys = {normalize(term, options.language) for term in seen}
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
        {"kind": kind, "audio": item.row.path} | _words(item)
        for kind in order
        for item in kinds.get(kind, [])[: EXAMPLES * (2 if kind == "seen term" else 1)]
    ]
