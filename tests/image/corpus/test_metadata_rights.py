"""What metadata.csv and metadata.jsonl state of consent and licence comes with the rows."""

from __future__ import annotations

import json
from pathlib import Path

from mmtune.data.check import check
from tests.data.pieces import IMAGE, write_image

STATED = {"consent": {"purpose": ["train"], "until": "2999-12-31"}, "licence": "CC-BY-4.0"}


def test_columns_of_metadata(tmp_path: Path) -> None:
    write_image(tmp_path / "csv" / "a.png", seed=1)
    (tmp_path / "csv" / "metadata.csv").write_text(
        "file_name,text,subject,consent,consent_until,license,source\n"
        "a.png,red apple,apple,train,2999-12-31,CC BY 4.0,Ada Example\n"
    )
    write_image(tmp_path / "jsonl" / "a.png", seed=1)
    line = {"file_name": "a.png", "text": "red apple", "subject": "apple", "consent": ["train"]}
    line |= {"consent_until": "2999-12-31", "licence": "cc-by-4.0", "source": "Ada Example"}
    (tmp_path / "jsonl" / "metadata.jsonl").write_text(json.dumps(line) + "\n")
    for kind in ("csv", "jsonl"):
        [row] = check(tmp_path / kind, IMAGE, divide=False).rows
        dumped = row.model_dump(mode="json", include={"subject", "source", *STATED})
        assert dumped == {**STATED, "subject": "apple", "source": "Ada Example"}


def test_a_policy_states_for_a_folder_of_files(tmp_path: Path) -> None:
    for i, name in enumerate(("red apple", "green apple", "blue box")):
        write_image(tmp_path / f"{name}.png", seed=i)
    (tmp_path / "policy.yaml").write_text(
        "train: {licences: [LicenseRef-own]}\nrows: {licence: LicenseRef-own, source: our studio}\n"
    )
    data = check(tmp_path, IMAGE, divide=False)
    assert [(row.licence, row.source) for row in data.rows] == [
        ("LicenseRef-own", "our studio")
    ] * 3
    assert not [each for each in data.findings if "policy.yaml" in each.message]
    assert data.files["left_out"] == 0
