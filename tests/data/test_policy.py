"""What a row may state of consent and licence, and how a policy judges it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mmtune.data.manifest import read_rows, write_manifest
from mmtune.data.policy import (
    Policy,
    find_policy,
    is_among,
    judge_rows,
    policy_of,
    read_policy,
    refusal_counts,
)
from mmtune.data.rights import joined_rights, rights_of
from mmtune.data.rights_file import ShownRows
from mmtune.data.row_rights import Consent, consent_in, is_known, licence_id
from mmtune.data.rows import Row
from mmtune.errors import ConfigError
from mmtune.image.image_row import ImageRow
from mmtune.speech.speech_row import SpeechRow
from tests.data.pieces import SPEECH

DAY = date(2026, 6, 30)


def row(**fields: Any) -> SpeechRow:
    return SpeechRow.model_validate({"id": "r", "audio": "a.wav", "text": "words", **fields})


@pytest.mark.parametrize(
    ("written", "purposes", "until"),
    [
        ("train", ("train",), None),
        ("Train, export until 2027-12-31", ("export", "train"), date(2027, 12, 31)),
        ("train;show", ("show", "train"), None),
        ("train and show", ("show", "train"), None),
        ("until 2027-12-31", (), date(2027, 12, 31)),
        ("yes", (), None),
        ("no", ("nothing",), None),
        (True, (), None),
        (False, ("nothing",), None),
        (["show", "train"], ("show", "train"), None),
        ({"purpose": "train", "until": "2027-12-31"}, ("train",), date(2027, 12, 31)),
        ({"purposes": ["train"]}, ("train",), None),
        ({"until": "2027-12-31T23:00:00Z"}, (), date(2027, 12, 31)),
        ({}, (), None),
    ],
)
def test_spellings_of_a_consent(written: Any, purposes: tuple[str, ...], until: date) -> None:
    assert row(consent=written).consent == Consent(purpose=purposes, until=until)


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("train until soon", "consent.until"),
        ({"until": "31.12.2027"}, "consent.until"),
        ({"until": 20271231}, "consent.until"),
        ({"until": "2027-02-30"}, "consent.until"),
        (5, "consent"),
        ({"purpose": [1]}, "consent.purpose"),
        ({"purpose": "train", "untill": "2027-12-31"}, "consent.untill"),
    ],
)
def test_a_wrong_consent_is_a_finding_with_its_line(written: Any, key: str, tmp_path: Path) -> None:
    """Never a row without consent, which a lax policy would use."""
    values = {"id": "r", "audio": "a.wav", "text": "words", "consent": written}
    write_manifest(tmp_path / "m.jsonl", [values])
    rows, [finding] = read_rows(tmp_path / "m.jsonl", SPEECH)
    assert rows == []
    assert key in finding.message
    assert (finding.row, finding.line, finding.severity) == ("r", 1, "error")


@pytest.mark.parametrize(
    ("written", "name", "known"),
    [  # identifiers of the SPDX License List 3.27
        ("cc-by-4.0", "CC-BY-4.0", True),
        ("CC BY-NC-SA 4.0", "CC-BY-NC-SA-4.0", True),
        ("https://creativecommons.org/licenses/by-sa/3.0/de/", "CC-BY-SA-3.0", True),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0", True),
        ("CC0", "CC0-1.0", True),
        ("apache-2.0", "Apache-2.0", True),
        ("mit OR cc-by-4.0", "MIT OR CC-BY-4.0", True),
        ("LicenseRef-own-calls", "LicenseRef-own-calls", True),
        ("all rights reserved", "all rights reserved", False),
        ("CC-BY", "CC-BY", False),
    ],
)
def test_licences_by_their_spdx_identifier(written: str, name: str, known: bool) -> None:
    assert row(licence=written).licence == name == licence_id(written)
    assert is_known(name) == known


@pytest.mark.parametrize(
    ("licence", "allowed", "found"),
    [
        ("CC-BY-4.0", ["cc-by-4.0"], True),
        ("CC-BY-4.0", ["CC-BY-*"], True),
        ("CC-BY-NC-4.0", ["CC-BY-4.0"], False),
        ("MIT OR GPL-3.0-only", ["MIT"], True),
        ("MIT AND GPL-3.0-only", ["MIT"], False),
        ("MIT AND GPL-3.0-only", ["MIT", "GPL-*"], True),
        ("all rights reserved", ["all rights reserved"], True),
        ("CC0-1.0", [], False),
    ],
)
def test_which_licences_are_among_others(licence: str, allowed: list[str], found: bool) -> None:
    assert is_among(licence, allowed) == found


@pytest.mark.parametrize(
    ("policy", "fields", "reason"),
    [
        # A consent holds on its last day.
        ({}, {"consent": {"until": "2026-06-30"}}, None),
        ({}, {"consent": {"until": "2026-06-29"}}, "consent-ended"),
        # Without a file, what is stated counts, and nothing is asked.
        ({}, {}, None),
        ({}, {"licence": "CC-BY-NC-4.0"}, None),
        ({}, {"consent": "quality"}, "consent-purpose"),
        ({"train": {"consent": "required"}}, {}, "consent-missing"),
        ({"train": {"consent": "required"}}, {"consent": True}, None),
        ({"train": {"purposes": ["Tuning"]}}, {"consent": "tuning"}, None),
        ({"train": {"purposes": ["tuning"]}}, {"consent": "train"}, "consent-purpose"),
        ({"train": {"purposes": "tuning"}}, {"consent": "train"}, "consent-purpose"),
        ({"train": {"licences": ["CC0-1.0"]}}, {}, "licence-missing"),
        ({"train": {"licences": "CC0-1.0"}}, {"licence": "MIT"}, "licence-refused"),
        ({"train": {"licences": []}}, {"licence": "MIT"}, "licence-refused"),
        ({"rows": {"licence": "cc0"}, "train": {"licences": ["CC0-1.0"]}}, {}, None),
        ({"rows": {"consent": "show"}}, {}, "consent-purpose"),
        ({"rows": {"consent": "show"}}, {"consent": "train"}, None),
        ({"export": {"consent": "required"}}, {}, None),  # another use
    ],
)
def test_how_a_policy_judges(
    policy: dict[str, Any], fields: dict[str, Any], reason: str | None
) -> None:
    """Rows alone, and the counts of rows behind an adapter, come to the same."""
    judged = judge_rows([row(**fields)], policy_of(policy, "p"), "train", DAY)
    assert judged.refused == ({} if reason is None else {reason: 1})
    assert len(judged.rows) == (reason is None)
    assert [finding.kind for finding in judged.findings] == ([] if reason is None else [reason])
    completed = policy_of(policy, "p").completed(row(**fields))
    rights = rights_of([completed], policy_of(policy, "p"), {})
    if rights is not None:
        assert rights.refusals("train", policy_of(policy, "p"), DAY) == judged.refused


def test_evaluate_is_judged_as_train_unless_it_has_a_rule() -> None:
    policy = policy_of({"train": {"consent": "required"}}, "p")
    assert judge_rows([row()], policy, "evaluate", DAY).refused == {"consent-missing": 1}
    assert judge_rows([row(consent="evaluate")], policy, "evaluate", DAY).refused == {}
    assert judge_rows([row(consent="evaluate")], policy, "train", DAY).refused != {}
    own = policy_of({"train": {"consent": "required"}, "evaluate": {}}, "p")
    assert judge_rows([row()], own, "evaluate", DAY).refused == {}


def test_a_licence_for_all_rows_is_spelled_freely_on_every_use() -> None:
    """`check` and pages read the policy's `rows` alike."""
    values: dict[str, Any] = {"rows": {"licence": "cc by 4.0"}}
    values |= {use: {"licences": ["CC-BY-4.0"]} for use in ("train", "show")}
    policy = policy_of(values, "policy.yaml")
    assert [each.licence for each in judge_rows([row()], policy, "train").rows] == ["CC-BY-4.0"]
    shown = ShownRows(policy, DAY, {row().id: (None, None)})
    assert shown.refusal({"id": row().id}) is None


def test_an_unknown_licence_is_reported_once() -> None:
    rows = [row(id=str(i), licence="all mine") for i in range(3)]
    judged = judge_rows(rows, Policy(), "train", DAY)
    assert len(judged.rows) == 3
    [finding] = judged.findings
    assert (finding.kind, finding.severity, finding.row) == ("licence-unknown", "warning", "0")
    assert "LicenseRef-NAME" in finding.cure


@pytest.mark.parametrize(
    ("text", "found", "cure"),
    [
        ("trian: {}", "unknown key 'trian'", "did you mean train?"),
        ("train: {license: [MIT]}", "unknown key 'train.license'", "did you mean licences?"),
        ("rows: {license: MIT}", "unknown key 'rows.license'", "did you mean licence?"),
        ("train: {consent: always}", "train.consent = 'always'", "correct train.consent"),
        ("rows: {consent: {until: soon}}", "rows.consent.until", "correct rows.consent.until"),
        ("- train", "holds no settings", "key: value"),
        ("train: [", "is not YAML", "mend line"),
    ],
)
def test_a_wrong_policy_names_its_key(text: str, found: str, cure: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        find_policy(None, tmp_path)
    assert str(path) in error.value.found
    assert found in error.value.found
    assert cure in error.value.cure


def test_where_a_policy_is_found(tmp_path: Path) -> None:
    assert find_policy(None, tmp_path).place == ""
    (tmp_path / "policy.yaml").write_text("ended: refuse")
    for source in (tmp_path, tmp_path / "manifest.jsonl"):
        assert find_policy(None, source).ended == "refuse"
    (tmp_path / "other.yaml").write_text("ended: warn")
    assert find_policy(tmp_path / "other.yaml", tmp_path).ended == "warn"
    with pytest.raises(ConfigError, match=r"none\.yaml is missing"):
        read_policy(tmp_path / "none.yaml")


def test_counts_name_nobody() -> None:
    rows = [
        row(id="Ada", subject="Ada", consent="train until 2027-01-31", source="Ada's calls"),
        row(id="Bo", speaker="Bo", consent="train, show", licence="CC-BY-4.0", source="corpus B"),
        row(id="Cy"),
    ]
    rights = rights_of(rows, Policy(), {"consent-missing": 2})
    assert rights is not None
    assert rights.purposes == {"show": 1, "train": 2}
    assert rights.earliest_end == date(2027, 1, 31)
    assert rights.licence_counts() == "not stated (2 rows), CC-BY-4.0 (1 row)"
    assert "corpus B (CC-BY-4.0; 1 row)" in rights.notice()
    said = rights.model_dump_json() + " ".join(rights.lines())
    assert not any(name in said for name in ("Ada", "Bo", "Cy"))
    assert "kept out of training by policy: no consent 2" in rights.lines()
    assert refusal_counts(rights.refusals("show", Policy(), date(2027, 2, 1))) == (
        "consent ended 1, consent for other purposes 1"
    )
    both = joined_rights([rights, None, rights])
    assert both is not None
    assert (both.rows, both.purposes, both.ends) == (
        6,
        {"show": 2, "train": 4},
        {date(2027, 1, 31): 2},
    )
    assert joined_rights([None]) is None
    assert rights_of([row(subject="Ada", source="here")], Policy(), {}) is None


@pytest.mark.parametrize("kind", [SpeechRow, ImageRow])
def test_statements_change_no_hash_of_a_row(kind: type[Row]) -> None:
    values = {"id": "1", "audio": "a", "text": "w"}
    if kind is ImageRow:
        values = {"id": "1", "image": "a", "caption": "w", "subject": "apple"}
    plain = kind.model_validate(values)
    stated = kind.model_validate(values | {"consent": "train", "licence": "MIT", "source": "here"})
    assert plain.own_fields() == stated.own_fields()
    assert plain.own_fields().get("subject") == values.get("subject")
    assert stated.unhashed >= {"consent", "licence", "source"}
    assert ("subject" in plain.unhashed) == (kind is SpeechRow)


@pytest.mark.parametrize(
    ("cell", "until", "found"),
    [
        (None, None, None),
        ("", "", None),
        ("train", "2027-12-31", Consent(purpose=("train",), until=date(2027, 12, 31))),
        ("train until 2027-01-31", "2027-12-31", Consent(purpose=("train",), until="2027-01-31")),
        (None, "2027-12-31", Consent(until=date(2027, 12, 31))),
        (["train"], "2027-12-31", Consent(purpose=("train",), until=date(2027, 12, 31))),
        (False, None, Consent(purpose=("nothing",))),
        ({"purpose": "train"}, None, Consent(purpose=("train",))),
    ],
)
def test_cells_of_tables(cell: Any, until: Any, found: Consent | None) -> None:
    read = consent_in(cell, until)
    assert (None if read is None else Consent.model_validate(read)) == found


def test_a_date_is_one_of_the_calendar() -> None:
    with pytest.raises(ValidationError, match="write a date, such as 2027-12-31"):
        Consent.model_validate({"until": "2027-13-01"})
