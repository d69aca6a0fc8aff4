"""Each command × a consent that ended, is missing or for something else, or a licence: a table."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from mmtune.adapters.adapter_rights import (
    NOTICE,
    licences_beside,
    licences_of,
    notice_of,
    policy_of_run,
)
from mmtune.adapters.card import CARD_FILE, Card, read_card
from mmtune.adapters.compose import Composed
from mmtune.adapters.members import Mixing
from mmtune.adapters.resolve import resolve_adapters
from mmtune.cli import main
from mmtune.data.check import usable_rows
from mmtune.data.dataset import remarks
from mmtune.data.rights import joined_rights
from mmtune.data.rights_file import RIGHTS, keep_rights, read_shown_rows
from mmtune.errors import AdapterError, ConfigError, DataError
from mmtune.evaluation.comparison import Comparison, read_comparison
from mmtune.pages.review import write_review
from mmtune.pages.sources import sources_of
from mmtune.runs import adapters, pipeline
from mmtune.runs.folder import record_data
from mmtune.runs.modalities import find_modality
from mmtune.runs.push import push, stage
from mmtune.runs.recipes import load_run
from mmtune.runs.run_data import named_data, own_dataset
from mmtune.runs.run_policy import learned_rights, renew_rights
from mmtune.speech import SpeechModality
from tests.runs.rights import CASES, GOOD, POLICY, Case, stored_run

EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.reason + "-" + case.policy[:5])
ENDED = CASES[0]
PAGES = (CASES[0], CASES[-1])  # whole pages are written for these
FINE = Case("", "", GOOD)


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def place_of(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folder in which the run was started the current one."""
    monkeypatch.chdir(run.parents[1])
    return run.relative_to(run.parents[1])


@EACH
@pytest.mark.parametrize("modality", ["speech", "image"])
def test_check_counts_quarantined_rows(
    case: Case, modality: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stored_run(modality, tmp_path, case)
    manifest = run.parents[1] / "data" / "manifest.jsonl"
    main(["check", str(manifest), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["refused"].keys() == {case.reason}
    [count] = found["refused"].values()
    of_kind = [each for each in found["findings"] if each["kind"] == case.reason]
    assert len(of_kind) == count >= 2
    assert {each["row"] for each in of_kind} <= set(found["withheld"])
    assert not {each["row"] for each in of_kind} & set(found["quarantined"])
    for each in of_kind:
        assert each["row"] in each["message"]
        assert each["file"] == "manifest.jsonl"
        assert each["line"] is not None
        assert each["cure"]
        assert ("policy.yaml" in each["message"]) == bool(case.policy)
    main(["check", str(manifest)])
    by = f" by {manifest.parent / 'policy.yaml'}" if case.policy else ""
    assert f"{count} quarantined{by}: {case.words} {count}" in capsys.readouterr().out


@EACH
def test_train_says_it_before_training_and_records_it(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = place_of(stored_run("speech", tmp_path, case), monkeypatch)
    config = load_run(run).model_copy(update={"name": "new"})
    dataset = own_dataset(config, Path("data"))
    count = dataset.refused[case.reason]
    said = remarks(dataset)
    assert any(f"{count} rows are quarantined" in line and case.words in line for line in said)
    assert any(line.startswith(f"warning {case.reason}") for line in said)
    config.folder.mkdir()
    record_data(config.folder, dataset)
    assert json.loads((config.folder / "data.json").read_text())["refused"] == dataset.refused
    rights = learned_rights(config, dataset)
    assert rights is not None
    assert rights.refused == dataset.refused
    assert rights.rows == len(dataset.split("train")) + len(dataset.split("validation"))
    assert rights.purposes.keys() == {"train", "show", "export"}
    assert str(rights.earliest_end) == "2999-12-31"


def test_training_stops_if_no_row_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = place_of(stored_run("speech", tmp_path, FINE), monkeypatch)
    Path("data/policy.yaml").write_text("train: {licences: [MIT]}")
    assert main(["check", "data"]) == 0
    assert "licence not allowed" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"no row is left.*licence not allowed \d+") as error:
        own_dataset(load_run(run).model_copy(update={"name": "new"}), Path("data"))
    assert "its licence is CC0-1.0; allowed: MIT" in error.value.found
    assert "mmtune check data --all" in error.value.cure


@EACH
def test_evaluate_leaves_rows_out_and_says_so(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = place_of(stored_run("speech", tmp_path, case), monkeypatch)
    measured: list[str] = []

    def compare(_: Any, config: Any, dataset: Any, *__: Any) -> Comparison:
        measured.extend(row.id for row in dataset.rows)
        return Comparison("speech", [], "another one")

    monkeypatch.setattr(SpeechModality, "compare", compare)
    monkeypatch.setattr(pipeline, "write_report", lambda *_, **__: None)
    found = pipeline.evaluate(load_run(run))
    assert len(measured) < 20
    assert any("quarantined" in note and case.words in note for note in found.notes)
    ended = [note for note in found.notes if "behind this adapter has ended" in note]
    assert bool(ended) == (case.reason == "consent-ended")
    assert (run / RIGHTS).is_file()
    assert (run / "policy.yaml").is_file() == bool(case.policy)


@EACH
def test_rows_named_for_an_evaluation_are_judged_by_their_own_policy(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = place_of(stored_run("speech", tmp_path, case), monkeypatch)
    named = named_data(Path("data"), load_run(run), {}, [], None)
    assert named.dataset.refused.keys() == {case.reason}


@EACH
@pytest.mark.parametrize("modality", ["speech", "image"])
def test_report_and_review_show_no_example_of_such_rows(
    case: Case, modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = place_of(stored_run(modality, tmp_path, case), monkeypatch)
    _record_all(run, modality)
    texts = _texts_of(run, case.reason, modality)
    assert texts
    rows = read_shown_rows(run, policy_of_run(run, None), sources_of(run).in_run)
    shown, hidden = rows.divided(read_comparison(run).examples)
    assert hidden == {case.reason: len(hidden_examples(run, texts))}
    assert not [each for each in shown if each.get("prompt", each["base"]) in texts]
    assert rows.hides_rows
    if case not in PAGES:
        return
    page = pipeline.report([run]).read_text()
    for text in texts:
        assert f">{text}<" not in page
    assert "are not shown, by policy: " in page
    assert case.words in page
    assert ("behind this adapter has ended" in page) == (case.reason == "consent-ended")
    content = write_review(run, tmp_path / "review.html").path.read_text()
    for text in texts:
        assert text not in content


def test_pages_show_all_where_all_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = place_of(stored_run("speech", tmp_path, FINE), monkeypatch)
    unrecorded = pipeline.report([run]).read_text()  # an earlier mmtune measured it
    assert "no consent 4; mmtune evaluate records what the rows" in unrecorded
    _record_all(run, "speech")
    assert "not shown" not in pipeline.report([run]).read_text()
    Path("data/policy.yaml").write_text(POLICY.replace("show: {", "show: {purposes: [press], "))
    assert "consent for other purposes" in pipeline.report([run]).read_text()
    Path("data/policy.yaml").write_text("shown: {}")
    with pytest.raises(ConfigError, match="unknown key 'shown'") as error:
        pipeline.report([run])
    assert "did you mean show" in error.value.cure


@EACH
@pytest.mark.parametrize("modality", ["speech", "image"])
def test_rows_for_transcribe_and_generate(case: Case, modality: str, tmp_path: Path) -> None:
    run = stored_run(modality, tmp_path, case)
    manifest = run.parents[1] / "data" / "manifest.jsonl"
    rows, unusable = usable_rows(manifest, find_modality(modality))
    assert len(unusable) >= 2
    assert not {row.id for row in rows} & {line.split(": ")[1] for line in unusable}
    if case.policy:
        assert all("policy.yaml" in line for line in unusable)


@EACH
@pytest.mark.parametrize("modality", ["speech", "image"])
def test_using_an_adapter(
    case: Case, modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`transcribe`, `generate` and `open_predictor`."""
    run = place_of(stored_run(modality, tmp_path, case), monkeypatch)
    notes = resolve_adapters(modality, {run: 1.0}).notes
    if case.reason != "consent-ended":
        assert notes == ()
        return
    [note] = notes
    assert "has ended, the first on 2020-01-31" in note
    Path("data/policy.yaml").write_text(f"{case.policy}ended: refuse\n")
    for use in (
        lambda: resolve_adapters(modality, {run: 1.0}),
        lambda: adapters.open_predictor(run),
    ):
        with pytest.raises(AdapterError, match=r"refuses its use then \(data/policy.yaml\)"):
            use()


@EACH
@pytest.mark.parametrize(("modality", "format"), [("speech", "transformers"), ("image", "kohya")])
def test_export_and_push_are_refused(
    case: Case, modality: str, format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = place_of(stored_run(modality, tmp_path, case), monkeypatch)
    for act, word in (
        (lambda: adapters.export(run, format, tmp_path / "out"), "exported"),
        (lambda: push(run, "team/words", anyway=True, dry=True), "pushed"),
    ):
        with pytest.raises(AdapterError, match=f"may not be {word}: of the") as error:
            act()
        assert f"{case.words} 2" in error.value.found
        assert ("by data/policy.yaml" in error.value.found) == bool(case.policy)
    assert not (tmp_path / "out").exists()


def test_the_policy_in_the_card_counts_without_the_run(tmp_path: Path) -> None:
    run = stored_run("speech", tmp_path, CASES[6])
    moved = (run / "adapter").rename(tmp_path / "words")
    with pytest.raises(AdapterError, match="licence not allowed 2"):
        adapters.export(moved, "transformers", tmp_path / "out")


def test_an_adapter_that_may_be_exported_isnt_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = place_of(stored_run("speech", tmp_path, FINE), monkeypatch)
    with pytest.raises(ConfigError, match="on this machine"):  # the base, which is asked next
        push(run, "team/words", anyway=True, dry=True)


def test_compose_sums_up_and_notes_ended_consents(tmp_path: Path) -> None:
    run = stored_run("speech", tmp_path, ENDED)
    card = read_card(run / "adapter")
    both = joined_rights([card.rights, card.rights, None])
    assert both is not None
    assert card.rights is not None
    assert both.rows == 2 * card.rights.rows
    assert both.licences == {name: 2 * rows for name, rows in card.rights.licences.items()}
    assert both.earliest_end == card.rights.earliest_end
    done = Composed(tmp_path, (), Mixing("cat"), 0.0, ended=("its consent has ended",))
    assert "note: its consent has ended" in done.shown()


def test_resuming_says_which_rows_are_kept_out_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = place_of(stored_run("speech", tmp_path, FINE), monkeypatch)
    config = load_run(run)
    dataset = own_dataset(config, Path("data"))
    (run / "data.json").unlink()
    record_data(run, dataset)
    manifest = Path("data/manifest.jsonl")
    lines = manifest.read_text().replace("2999-12-31", "2020-01-31", 1)
    manifest.write_text(lines)
    with pytest.raises(ConfigError, match="keeps out today: consent ended 1"):
        record_data(run, own_dataset(config, Path("data")))


def test_a_consent_that_is_renewed_counts_for_the_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no other data."""
    run = place_of(stored_run("speech", tmp_path, FINE), monkeypatch)
    config = load_run(run)
    before = own_dataset(config, Path("data")).fingerprint
    manifest = Path("data/manifest.jsonl")
    manifest.write_text(manifest.read_text().replace("2999", "3000").replace("CC0-1.0", "cc0"))
    dataset = own_dataset(config, Path("data"))
    assert dataset.fingerprint == before
    renew_rights(config, dataset)
    assert "3000" not in (run / "adapter" / CARD_FILE).read_text()  # it learned from other rows
    card = read_card(run / "adapter").model_copy(update={"dataset": before})
    (run / "adapter" / CARD_FILE).write_text(card.model_dump_json())
    renew_rights(config, dataset)
    rights = read_card(run / "adapter").rights
    assert rights is not None
    assert str(rights.earliest_end) == "3000-12-31"


def test_licences_and_sources_go_along(tmp_path: Path) -> None:
    case = Case("", "", {**GOOD, "licence": "CC BY 4.0", "source": "Icons by Ada Example"}, "")
    run = stored_run("image", tmp_path, case)
    card = read_card(run / "adapter").model_copy(update={"base_licence": "apache-2.0"})
    facts = licences_of(card)
    assert facts["mmtune.base_licence"] == "apache-2.0"
    assert "CC-BY-4.0 (" in facts["mmtune.data_licences"]
    assert facts["mmtune.attribution"] == "Icons by Ada Example (CC-BY-4.0)"
    assert "Icons by Ada Example (CC-BY-4.0; 2 rows)" in notice_of(card)
    assert "source to be named: Icons by Ada Example" in card._page(None)
    (tmp_path / "staged").mkdir()
    stage(run / "adapter", card, "team/base", "team/words", tmp_path / "staged")
    assert "Ada Example" in (tmp_path / "staged" / NOTICE).read_text()
    shared = read_card(tmp_path / "staged").rights
    assert shared is not None
    assert shared.policy == {}
    assert len(shared.ends) == 1
    (run / "adapter" / CARD_FILE).write_text(card.model_dump_json())
    assert licences_beside(run / "adapter") == facts


def test_a_card_of_an_earlier_version_and_a_run_without_statements_are_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = place_of(stored_run("speech", tmp_path, Case("", "", {}, "")), monkeypatch)
    manifest = Path("data/manifest.jsonl")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    plain = [{k: v for k, v in row.items() if k not in GOOD} for row in rows]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in plain))
    config = load_run(run)
    dataset = own_dataset(config, Path("data"))
    assert learned_rights(config, dataset) is None
    keep_rights(run, dataset)
    assert not (run / RIGHTS).exists()
    card = json.loads((run / "adapter" / CARD_FILE).read_text())
    card.pop("rights")
    assert Card.model_validate({k: v for k, v in card.items() if k != "format"}).rights is None


def _record_all(run: Path, modality: str) -> None:
    """Write what all rows of the run's data state, as an evaluation before today did."""
    from mmtune.data.manifest import read_rows
    from mmtune.data.policy import find_policy

    rows, _ = read_rows(Path("data"), find_modality(modality))
    dataset = own_dataset(load_run(run), Path("data"))
    root = Path("data").resolve()
    placed = tuple(
        row.model_copy(update={row.media: str(root / str(getattr(row, row.media)))}) for row in rows
    )
    policy = find_policy(None, Path("data"))
    keep_rights(run, dataclasses.replace(dataset, rows=placed, policy=policy))


def hidden_examples(run: Path, texts: set[str]) -> list[dict[str, Any]]:
    """The examples with one of these prompts or answers, also beside other pictures."""
    return [
        each
        for each in read_comparison(run).examples
        if str(each.get("prompt", each["base"])) in texts
    ]


def _texts_of(run: Path, reason: str, modality: str) -> set[str]:
    """The references or prompts of the test rows that the check refuses."""
    dataset = own_dataset(load_run(run), Path("data"))
    refused = {each.row for each in dataset.findings if each.kind == reason}
    comparison = read_comparison(run)
    if modality == "speech":
        return {str(e["base"]) for e in comparison.examples if e["row"]["id"] in refused}
    return {str(e["prompt"]) for e in comparison.examples if Path(e["brand"]).stem in refused}
