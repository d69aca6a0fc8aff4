"""A stored run whose rows state consents and licences, with a policy beside its data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.adapters.card import CARD_FILE, read_card
from mmtune.data.policy import POLICY_FILE, find_policy
from mmtune.data.rights import rights_of
from mmtune.data.rows import Row
from mmtune.runs.modalities import find_modality
from tests.conformance.test_stored_runs import STORED

GOOD = {
    "consent": {"purpose": ["train", "show", "export"], "until": "2999-12-31"},
    "licence": "CC0-1.0",
}
RULE = "{consent: required, licences: [CC0-1.0, LicenseRef-own-*]}"
POLICY = f"train: {RULE}\nshow: {RULE}\nexport: {RULE}\n"


@dataclass(frozen=True)
class Case:
    """A row that a policy refuses, with the kind of the finding and its words in a summary."""

    reason: str
    words: str
    row: Mapping[str, Any]
    policy: str = POLICY


CASES = [
    Case("consent-ended", "consent ended", {**GOOD, "consent": {"until": "2020-01-31"}}),
    Case("consent-ended", "consent ended", {"consent": "train until 2020-01-31"}, ""),
    Case("consent-missing", "no consent", {"licence": "CC0-1.0"}),
    Case("consent-purpose", "consent for other purposes", {**GOOD, "consent": "quality"}),
    Case("consent-purpose", "consent for other purposes", {"consent": False}, ""),
    Case("licence-missing", "no licence", {"consent": GOOD["consent"]}),
    Case("licence-refused", "licence not allowed", {**GOOD, "licence": "cc-by-nc-4.0"}),
]


def stated_rows(rows: list[dict[str, Any]], fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows with good statements; of each split that has two rows or more, one with `fields`."""
    seen: dict[str, int] = {}
    found = []
    for row in rows:
        split = str(row.get("split"))
        seen[split] = seen.get(split, 0) + 1
        found.append({**row, **(fields if seen[split] == 2 else GOOD)})
    return found


def stored_run(modality: str, folder: Path, case: Case) -> Path:
    """Copy a finished run with its data; one row of each split is that of the case.

    The card says that all rows of training and validation were learned from, the refused ones too.

    Returns:
        The run folder; the data is in `data` in the folder of its parent's parent.
    """
    place = shutil.copytree(STORED / modality, folder / modality)
    manifest = place / "data" / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    if modality == "speech":  # sentences that splits share would be leaks
        rows = [row | {"text": f"say {row['id']}"} for row in rows]
    rows = stated_rows(rows, case.row)
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if case.policy:
        (place / "data" / POLICY_FILE).write_text(case.policy)
    run = place / "trained" / "finished"
    kind = find_modality(modality).row
    learned: list[Row] = [kind.model_validate(row) for row in rows if row["split"] != "test"]
    rights = rights_of(learned, find_policy(None, manifest), {})
    card = read_card(run / "adapter").model_copy(update={"rights": rights})
    (run / "adapter" / CARD_FILE).write_text(card.model_dump_json())
    return run
