"""Adapters measured on other data, against each other, with a run and without one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import mmtune
from mmtune.cli import main
from mmtune.data.check import check
from mmtune.errors import AdapterError, ConfigError, DataError, MmtuneError
from mmtune.evaluation.comparison import read_comparison
from mmtune.metrics.bootstrap import paired_bootstrap
from mmtune.metrics.measure import Measure
from mmtune.metrics.text.wer import WordErrors
from mmtune.predict import Prediction
from mmtune.runs.elsewhere import _other_base
from mmtune.runs.measured_adapter import MeasuredAdapter, _foreign, find_adapter
from mmtune.runs.measuring import keep_measuring
from mmtune.runs.modalities import MODALITIES, find_modality
from mmtune.runs.other_data import results_in, rows_to_measure
from mmtune.runs.pipeline import Evaluation
from mmtune.runs.recipes import load_run
from mmtune.runs.trained_rows import record_rows, recorded_fingerprint
from mmtune.settings.declare import settings_of
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.whisper.base import load_base
from tests.conformance.test_stored_runs import STORED, contents

RUN = Path("trained/finished")
QUICK = {"probes": 0}  # extra conditions are tested elsewhere
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "speech"
    shutil.copytree(STORED / "speech", folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    return folder


def others(
    folder: str = "others", trained: int = 0, splits: Sequence[str] = (), text: str = ""
) -> Path:
    """New recordings of the stored sentences; `trained` of them are the stored ones themselves."""
    place = Path(folder)
    place.mkdir()
    rows = [json.loads(line) for line in Path("data/manifest.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["split"] == "train"][:trained] + rows[::3]
    written = []
    for i, row in enumerate(rows):
        sound, rate = soundfile.read(Path("data") / row["audio"])
        factor = 1.0 if i < trained else 0.9 - 0.05 * i
        soundfile.write(place / f"{i}.flac", sound * factor, rate)
        if i < trained:
            shutil.copy(Path("data") / row["audio"], place / f"{i}.flac")
        values = {"id": str(i), "audio": f"{i}.flac", "text": text or row["text"]}
        values |= {"split": splits[i]} if splits else {}
        written.append(json.dumps(values) + "\n")
    (place / "manifest.jsonl").write_text("".join(written))
    return place


def bare(name: str, factor: float = 1.0) -> Path:
    """The run's adapter as another program has it: no card; the second matrices times a factor."""
    folder = Path(name)
    folder.mkdir()
    shutil.copy(RUN / "adapter" / "adapter_config.json", folder)
    tensors = load_file(RUN / "adapter" / WEIGHTS)
    changed = {k: v * np.float32(factor) if "lora_B" in k else v for k, v in tensors.items()}
    save_file(changed, folder / WEIGHTS, {"format": "pt"})
    return folder


def wer(measures: Sequence[Measure]) -> Measure:
    return next(m for m in measures if (m.metric, m.slice) == ("WER", "test"))


def test_a_run_on_other_data_leaves_the_run_as_it_is(place: Path) -> None:
    before = contents(RUN)
    data = others(trained=2)
    found = mmtune.evaluate(RUN, data=data, settings=QUICK)
    assert found.folder == RUN / "evaluations" / "others"
    assert wer(found.comparison.measures).items == 4
    assert found.comparison.notes == ["2 of 6 rows aren't measured: finished was trained on them"]
    assert found.verdict is not None
    assert found.verdict.suite == "stored"
    after = {k: v for k, v in contents(RUN).items() if not k.startswith("evaluations/")}
    assert after == before
    # What was trained on is known, so terms are told apart as in the run.
    assert any(m.slice == "seen terms" for m in found.comparison.measures)
    assert str(found).count("note: 2 of 6 rows") == 1


@pytest.mark.slow
def test_the_results_are_a_folder_for_report_verify_runs_and_evaluate(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = mmtune.evaluate(RUN, data=others(), out="results", settings=QUICK)
    assert mmtune.report("results").is_file()
    assert not mmtune.verify("results").damaged
    assert mmtune.list_runs("results").runs[0].decision == found.to_dict()["verdict"]["decision"]
    again = mmtune.evaluate("results", suite="dialect")
    assert again.folder == Path("results")
    assert again.comparison.to_dict()["measures"] == found.comparison.to_dict()["measures"]
    assert again.verdict is not None
    assert again.verdict.suite == "dialect"
    with pytest.raises(ConfigError, match="results of another evaluation: --data was"):
        mmtune.evaluate(RUN, data=others("more"), out="results")
    # The run may be moved with its results, or be gone: the results hold a copy of the adapter.
    shutil.move("trained", "elsewhere")
    third = mmtune.evaluate("results")
    assert wer(third.comparison.measures) == wer(found.comparison.measures)


@pytest.mark.slow
def test_results_in_a_run_move_with_it(place: Path) -> None:
    data = others()
    found = mmtune.evaluate(RUN, data=data, settings=QUICK)
    RUN.rename("renamed")
    again = mmtune.evaluate(Path("renamed") / "evaluations" / "others")
    assert again.comparison.to_dict()["measures"] == found.comparison.to_dict()["measures"]
    assert (
        json.loads(Path("renamed/evaluations/others/evaluation.json").read_text())["adapter"]
        == "../.."
    )


def test_an_adapter_of_another_program_gives_what_the_run_gives(place: Path) -> None:
    data = others()
    secret = place / "secret.json"
    secret.write_text("{}")
    of_run = mmtune.evaluate(RUN, data=data, out="of-run", settings=QUICK | {"terms": "terms.txt"})
    folder = bare("lora")
    (folder / "notes.json").symlink_to(secret)
    found = mmtune.evaluate(
        folder, data=data, base="base", suite="dialect", settings=QUICK | {"terms": "terms.txt"}
    )
    assert found.folder == Path("lora-on-others")
    assert wer(found.comparison.measures) == wer(of_run.comparison.measures)
    assert found.verdict is not None
    assert any(
        "nothing tells which rows it was trained on" in note for note in found.comparison.notes
    )
    assert not (found.folder / "adapter" / "notes.json").exists()
    assert not (folder / "card.json").exists(), "the adapter's own folder stays as it is"
    assert mmtune.report(found.folder).is_file()
    readme = (found.folder / "adapter" / "README.md").read_text()
    assert "trained with mmtune" not in readme


@pytest.mark.slow
def test_declared_test_rows_are_measured_alone_and_that_is_said(place: Path) -> None:
    splits = ["train", "test", "test", "validation"]
    found = mmtune.evaluate(RUN, data=others(splits=splits), settings=QUICK)
    assert wer(found.comparison.measures).items == 2
    [note] = found.comparison.notes
    assert note.startswith("2 of 4 rows of others are measured")


def test_two_adapters_on_the_same_rows(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, other = others(text="say bravo now"), bare("other", 0.02)
    found = mmtune.evaluate(RUN, against=other, data=data, settings=QUICK)
    assert not isinstance(found, Evaluation)
    assert found.folder == RUN / "evaluations" / "others-against-other"
    # Both figures and the paired interval follow from the transcripts that were stored.
    lines = (found.folder / "predictions.jsonl").read_text().splitlines()
    items = [item for line in lines if (item := json.loads(line))["slice"] == "test"]
    metric = WordErrors("en")

    def stats(model: str) -> list[np.ndarray]:
        rows = [SpeechRow(id=i["id"], audio="a", text=i["reference"]) for i in items]
        return [
            metric.observe(r, Prediction(r.id, i[model])) for r, i in zip(rows, items, strict=True)
        ]

    measure = wer(found.comparison.measures)
    wanted = paired_bootstrap(stats("base"), stats("adapter"), metric.reduce)
    assert measure.base.value == pytest.approx(wanted[0].value)
    assert measure.adapter.value == pytest.approx(wanted[1].value)
    assert measure.difference.value == pytest.approx(wanted[2].value)
    assert measure.difference.low <= measure.difference.value <= measure.difference.high
    assert measure.base.value != measure.adapter.value
    # The page says it in words, with the adapters' names in place of base and adapter.
    html = found.page.read_text()
    assert found.page == found.folder / "report.html"
    assert "Which of two adapters is better?" in html
    first = html.partition('<p class="first">')[2].partition("</p>")[0]
    assert first.startswith("finished gets ")
    assert " words of 100 wrong, other " in first
    assert "<dt>finished</dt>" in html
    assert html.count("<dt>base</dt>") == 1, "of the facts"
    # What was stored is what was found; its files are named from the folder on.
    assert read_comparison(found.folder, "against.json").notes == found.comparison.notes
    assert any(note.startswith("other has no run: nothing") for note in found.comparison.notes)
    alone = mmtune.evaluate(other, data=data, base="base", settings=QUICK)
    assert wer(alone.comparison.measures).adapter.value == measure.base.value
    assert (
        main(["evaluate", str(RUN), "--against", "other", "--data", "others", "--probes", "0"]) == 0
    )
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].startswith("trained/finished ")
    assert " other: " in shown.splitlines()[0]
    # The results are measured again as they were made, and have no verdict.
    assert main(["evaluate", str(found.folder), "--redacted"]) == 0
    *again, last = capsys.readouterr().out.splitlines()
    assert last.startswith("redacted ")
    # Below the names: 10 measures, the file, the page and the note.
    rows = [[line.split() for line in out[-13:]] for out in (shown.splitlines(), again)]
    assert rows[0] == rows[1]
    # The page can be written again, also without names and items.
    before = found.page.read_text()
    found.page.unlink()
    assert mmtune.report(found.folder).read_text().count("<dt>other</dt>") == before.count(
        "<dt>other</dt>"
    )
    hidden = (found.folder / "report-redacted.html").read_text()
    assert '<p class="first">A gets ' in hidden
    for private in ("finished", "other<", "bravo", "<audio"):
        assert private in before, private
        assert private not in hidden, private
    assert main(["report", str(found.folder), str(RUN), "--out", "both.html"]) == 2
    assert "has a page of its own" in capsys.readouterr().err
    assert main(["evaluate", str(found.folder), "--gate"]) == 2
    said = capsys.readouterr()
    assert "compares two adapters" in said.err
    assert not said.out, "it is refused before anything is measured"


@pytest.mark.slow
def test_two_adapters_on_different_bases(place: Path) -> None:
    """Each answers on its own base; what both get alone is what the page compares."""
    data, other = others(), Path("other-run/adapter")
    shutil.copytree("base", "base2")
    tensors = load_file("base2/model.safetensors")
    save_file(
        {k: v * np.float32(1.3) if "layer_norm" in k else v for k, v in tensors.items()},
        "base2/model.safetensors",
        {"format": "pt"},
    )
    shutil.copytree(RUN, "other-run")
    card = json.loads((other / "card.json").read_text())
    card |= {"base": "base2", "base_hash": load_base("base2").fingerprint}
    (other / "card.json").write_text(json.dumps(card))
    config = yaml.safe_load(Path("other-run/config.yaml").read_text())
    config |= {"base": "base2", "report": {"content": "none"}}
    Path("other-run/config.yaml").write_text(yaml.safe_dump(config))
    # Other weights on the same base are another adapter, as are the same ones on another base.
    tensors = load_file(other / WEIGHTS)
    save_file({k: v * np.float32(0.9) for k, v in tensors.items()}, other / WEIGHTS)
    alone = mmtune.evaluate("other-run", data=data, settings=QUICK)
    ours = mmtune.evaluate(RUN, data=data, settings=QUICK)
    both = mmtune.evaluate(RUN, against="other-run", data=data, settings=QUICK)
    measure = wer(both.comparison.measures)
    assert measure.base == wer(alone.comparison.measures).adapter
    assert measure.adapter == wer(ours.comparison.measures).adapter
    # The other run's policy holds for both.
    html = both.page.read_text()
    assert "The bases differ: A is an adapter of " in html
    assert "<audio" not in html
    assert "other-run" not in html
    again = mmtune.evaluate(both.folder)
    assert again.comparison.to_dict()["measures"] == both.comparison.to_dict()["measures"]


@pytest.mark.slow
def test_two_adapters_without_data_answer_the_first_run_s_test_rows(place: Path) -> None:
    found = mmtune.evaluate(RUN, against=bare("other", 0.5), settings=QUICK)
    own = json.loads((RUN / "comparison.json").read_text())["measures"]
    items = next(m["items"] for m in own if (m["metric"], m["slice"]) == ("WER", "test"))
    assert wer(found.comparison.measures).items == items


def test_what_cant_be_measured_is_an_error_with_a_cure(place: Path) -> None:
    data, folder = others(), bare("lora")
    (place / "full").mkdir()
    (place / "full" / "file").write_text("x")
    shutil.copytree("data", "trained-on")
    rows = Path("data/manifest.jsonl").read_text().splitlines()
    kept = [line for line in rows if json.loads(line)["split"] == "train"]
    Path("trained-on/manifest.jsonl").write_text("\n".join(kept))
    cases: list[tuple[dict[str, object], type[MmtuneError], str]] = [
        ({"run": "nothing", "data": data}, ConfigError, "nothing is not a run folder"),
        ({"run": RUN, "data": "nothing"}, ConfigError, "--data: no such file or folder"),
        ({"run": RUN, "data": data, "out": "full"}, ConfigError, "holds no results"),
        ({"run": RUN, "data": data, "settings": {"rank_of": 3}}, ConfigError, "rank_of"),
        ({"run": RUN, "data": data, "suite": "nothing"}, ConfigError, "no suite 'nothing'"),
        ({"run": RUN, "data": data, "suite": "brand_style"}, ConfigError, "suite for image"),
        (
            {"run": RUN, "data": data, "settings": {"terms": "no.txt"}},
            ConfigError,
            "no such term list",
        ),
        ({"run": RUN, "data": "trained-on"}, DataError, "no row is left to measure on"),
        ({"run": RUN, "against": RUN, "data": data}, AdapterError, "have the same weights"),
        ({"run": RUN, "against": folder, "suite": "dialect"}, ConfigError, "--suite has no effect"),
        ({"run": folder, "data": data, "base": "nowhere"}, MmtuneError, "nowhere"),
        ({"run": folder}, ConfigError, "no data of its own"),
        ({"run": "data", "data": data}, AdapterError, "holds no adapter"),
        ({"run": RUN, "speakers": "a=0", "base": "base"}, ConfigError, "--speakers belongs"),
    ]
    for given, kind, words in cases:
        with pytest.raises(kind, match=words) as caught:
            mmtune.evaluate(**given)  # type: ignore[call-overload]
        assert caught.value.cure, given
    assert main(["evaluate", str(RUN), "--terms"]) == 2
    (place / "odd").mkdir()
    with pytest.raises(AdapterError) as caught:
        _foreign(place / "odd")
    for _, modality in MODALITIES.usable():
        assert " and ".join(modality.adapter_files) in caught.value.cure
    assert main(["evaluate", str(RUN), "--against", "lora", "--gate"]) == 2


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stored run of images, and new pictures in `others`."""
    folder = tmp_path / "image"
    shutil.copytree(STORED / "image", folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    Path("others").mkdir()
    rows = [json.loads(line) for line in Path("data/manifest.jsonl").read_text().splitlines()]
    written = []
    for i, row in enumerate(rows):
        picture = Image.open(Path("data") / row["image"]).convert("RGB")
        picture.transpose(Image.Transpose.ROTATE_90).save(f"others/{i}.png")
        written.append(json.dumps({"image": f"{i}.png", "caption": row["caption"]}))
    Path("others/manifest.jsonl").write_text("\n".join(written))
    return folder


def test_adapters_of_different_bases_are_compared_where_the_modality_can(pictures: Path) -> None:
    first = find_adapter(RUN)
    assert first.card is not None
    card = first.card.model_copy(update={"base": "base2", "base_hash": "ff"})
    second = replace(first, given=Path("other"), card=card)
    assert _other_base(first, first, None) is None, "one base"
    assert _other_base(first, second, "base") is None, "the user named one for both"
    assert _other_base(first, replace(second, card=None), None) is None, "it names none"
    with pytest.raises(AdapterError, match=r"trained on the base .*base, other on base2") as caught:
        _other_base(first, second, None)
    assert f"mmtune evaluate {RUN} --data DATA; mmtune evaluate other" in caught.value.cure
    Path("base here").symlink_to(Path(first.card.base).resolve())
    spelled = first.card.model_copy(update={"base": "./base here", "base_hash": ""})
    assert _other_base(first, replace(second, card=spelled), None) is None, "of another spelling"
    # Speech can: the second one is measured on the base that its own card names.
    hears = replace(first, modality=find_modality("speech"))
    assert _other_base(hears, replace(second, given=RUN), None) == first.config.base


def test_a_folder_of_pictures_that_were_trained_on_says_how_many(pictures: Path) -> None:
    more = Path("more")
    shutil.copytree("data", more)
    shutil.copy("others/0.png", more / "new.png")
    row = json.dumps({"image": "new.png", "caption": "a new one"})
    rows = [json.loads(line) for line in (more / "manifest.jsonl").read_text().splitlines()]
    kept = [json.dumps(each) for each in rows if each.get("split") != "test"]
    (more / "manifest.jsonl").write_text("\n".join([*kept, row]))
    with pytest.raises(DataError) as caught:
        rows_to_measure([find_adapter(RUN)], more)
    assert caught.value.found == (
        f"more: 1 of its {len(kept) + 1} rows can be measured: finished was trained on the other "
        f"{len(kept)}, which are left out; 2 or more are needed, and as many others to compare with"
    )
    assert caught.value.cure.endswith("--data PATH")


@pytest.mark.slow
def test_pictures_of_a_run_and_without_one(pictures: Path) -> None:
    found = mmtune.evaluate(RUN, data="others")
    style = next(m for m in found.comparison.measures if m.metric == "style distance")
    assert style.items == 2 * 12
    assert any(m.metric == "copies" for m in found.comparison.measures)
    folder = Path("lora")
    folder.mkdir()
    shutil.copy(RUN / "adapter" / "pytorch_lora_weights.safetensors", folder)
    alone = mmtune.evaluate(
        folder, data="others", base="base", settings={"task.steps": 2, "seeds": 1}
    )
    assert alone.folder == Path("lora-on-others")
    assert not any(m.metric == "copies" for m in alone.comparison.measures)
    assert any("the others show the look" in note for note in alone.comparison.notes)
    assert mmtune.report(alone.folder).is_file()


@pytest.mark.slow
def test_two_adapters_draw_the_same_captions(pictures: Path) -> None:
    folder = Path("other")
    folder.mkdir()
    name = "pytorch_lora_weights.safetensors"
    tensors = load_file(RUN / "adapter" / name)
    with safe_open(RUN / "adapter" / name, "numpy") as file:
        facts = file.metadata()
    save_file({k: v * np.float32(0.5) for k, v in tensors.items()}, folder / name, facts)
    both = mmtune.evaluate(RUN, against=folder, data="others", settings={"seeds": 1})
    one = mmtune.evaluate(RUN, data="others", settings={"seeds": 1}, out="one")
    two = mmtune.evaluate(folder, data="others", base="base", settings={"seeds": 1}, out="two")
    assert not any(m.metric in ("style", "copies") for m in both.comparison.measures)
    [distance] = [m for m in both.comparison.measures if m.metric == "style distance"]
    [alone] = [m for m in one.comparison.measures if m.metric == "style distance"]
    assert distance.adapter == alone.adapter
    assert distance.difference.value == pytest.approx(distance.adapter.value - distance.base.value)
    assert distance.base.value != alone.base.value
    assert two.comparison.measures


def test_the_run_s_record_tells_what_it_was_trained_on(place: Path) -> None:
    config = load_run(RUN)
    fingerprint = recorded_fingerprint(RUN)
    dataset = check(Path("data"), find_modality("speech"), config.data, earlier=[fingerprint])
    record_rows(RUN, dataset)
    data = others(trained=2)
    shutil.rmtree("data")
    files = sorted(data.iterdir())
    found = rows_to_measure([find_adapter(RUN)], data)
    assert len(found.dataset.split("test")) == 4
    assert found.notes == ("2 of 6 rows aren't measured: finished was trained on them",)
    assert sorted(data.iterdir()) == files, "measuring keeps no splits beside the data"


def recorded(run: Path, source: Path) -> None:
    """Record in a run's folder that it was trained on a manifest."""
    dataset = check(source, find_modality("speech"), load_run(RUN).data)
    record_rows(run, dataset)


def test_two_runs_with_one_name_leave_out_what_either_was_trained_on(place: Path) -> None:
    data = others(trained=4)
    lines = (data / "manifest.jsonl").read_text().splitlines()
    for name, own in (("trained", lines[:2]), ("again", lines[2:4])):
        if name != "trained":
            shutil.copytree("trained", name)
        manifest = data / f"{name}.jsonl"
        manifest.write_text(
            "".join(json.dumps(json.loads(x) | {"split": "train"}) + "\n" for x in own)
        )
        recorded(Path(name) / "finished", manifest)
    shutil.rmtree("data")
    for runs, left in ((["trained"], 6), (["again"], 6), (["trained", "again"], 4)):
        adapters = [find_adapter(Path(name) / "finished") for name in runs]
        found = rows_to_measure(adapters, data)
        assert len(found.dataset.split("test")) == left, runs


def test_a_note_on_an_adapter_stays_whatever_its_name_begins_with(place: Path) -> None:
    bare("finished-2")
    Path("data").rename("recordings")
    adapters = [find_adapter(RUN), find_adapter(Path("finished-2"), "base")]
    found = rows_to_measure(adapters, Path("recordings"))
    assert found.notes == (
        "finished-2 has no run: nothing tells which rows it was trained on",
        "recordings is what finished was trained on: its test rows are measured",
    )


def test_results_of_another_adapter_are_not_replaced(place: Path) -> None:
    data, out = others(), Path("results")
    first, second = find_adapter(bare("first"), "base"), find_adapter(bare("second", 0.5), "base")

    def write(name: str, adapter: MeasuredAdapter = second) -> None:
        with results_in(out, adapter, Path(name)):
            pass

    write("others", first)
    with pytest.raises(
        ConfigError, match=r"results of another evaluation: the adapter was .*first"
    ):
        write("others")
    with pytest.raises(ConfigError, match="results of another evaluation: --data was"):
        write("data", first)
    # The results' own copy is no other adapter, and neither is one that was moved.
    write("others", find_adapter(out, "base"))
    write("others", first)
    Path("first").rename("moved")
    write("others", find_adapter(Path("moved"), "base"))
    assert data.is_dir()


def test_calls_of_the_run_are_not_heard_with_other_data(place: Path) -> None:
    keep_measuring(load_run(RUN), {"calls": "data"})
    assert find_adapter(RUN).config.task.calls is None  # type: ignore[attr-defined]
    given = find_adapter(RUN, settings={"calls": "data"}).config.task
    assert given.calls == Path("data")  # type: ignore[attr-defined]
    own = {each.name for each in settings_of(SpeechOptions) if each.own_data}
    assert own == {"calls"}
