"""`mmtune push`: what would leave this machine, who is refused, and what the hub's answers mean."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.errors import OfflineModeIsEnabled

import mmtune.runs.push
from mmtune.adapters.card import Card, read_card
from mmtune.adapters.integrity import check_adapter
from mmtune.cli import main
from mmtune.errors import MmtuneError
from mmtune.runs.modalities import find_modality
from mmtune.runs.push import push, stage, without_content
from mmtune.system.tensors import load_tensors, read_metadata, save_tensors
from tests.conformance.test_stored_runs import STORED

HUB = "my-team/words"
ON_THE_HUB = "some-team/tiny-model"
FILES = {
    "speech": ["README.md", "adapter_config.json", "adapter_model.safetensors", "card.json"],
    "image": ["README.md", "card.json", "pytorch_lora_weights.safetensors"],
}


@pytest.fixture(params=FILES)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A finished run of each modality, with an unpublished file in its adapter folder."""
    folder = tmp_path / "runs" / str(request.param)
    shutil.copytree(STORED / request.param / "trained" / "finished", folder)
    (folder / "adapter" / "notes.txt").write_text("call Ms Miller")
    return folder


class Hub:
    """`huggingface_hub.HfApi` that keeps what it gets."""

    def __init__(self, private: bool = True, fails: Exception | None = None) -> None:
        self.private, self.fails = private, fails
        self.calls: list[str] = []
        self.files: dict[str, bytes] = {}

    def __call__(self, token: str) -> Hub:
        assert token == "hf_secret"
        return self

    def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> None:
        if self.fails is not None:
            raise self.fails
        self.calls.append(f"create {repository} private={private} exist_ok={exist_ok}")

    def model_info(self, repository: str) -> Any:
        return SimpleNamespace(private=self.private)

    def upload_folder(self, *, folder_path: str, repo_id: str, commit_message: str) -> Any:
        self.calls.append(f"upload {repo_id}")
        self.files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


def on_hub(monkeypatch: pytest.MonkeyPatch, hub: Hub, token: str | None = "hf_secret") -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
    monkeypatch.setattr(mmtune.runs.push, "licence_of", lambda base: None)


def texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [*value, *(text for each in value.values() for text in texts(each))]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


def test_a_dry_run_lists_the_files_and_asks_nobody(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_hub(monkeypatch, hub := Hub())
    words = ["push", str(run), HUB, "--base", ON_THE_HUB, "--dry-run", "--anyway"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert [name for name in FILES[run.name] if name in said] == FILES[run.name]
    assert "notes.txt" not in said
    assert f"nothing was uploaded to {HUB} (private)" in said
    assert hub.calls == []
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["files"]) == FILES[run.name]
    assert all(size > 100 for size in found["files"].values())


def test_what_arrives_is_whole_and_tells_nothing_of_the_data(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_hub(monkeypatch, hub := Hub())
    done = push(run, HUB, base=ON_THE_HUB, anyway=True)
    assert hub.calls == [f"create {HUB} private=True exist_ok=True", f"upload {HUB}"]
    assert done.url == f"https://hub/{HUB}/commit/1"
    assert sorted(hub.files) == FILES[run.name]
    arrived = tmp_path / "arrived"
    arrived.mkdir()
    for name, content in hub.files.items():
        (arrived / name).write_bytes(content)
    check_adapter(arrived)
    card = read_card(arrived)
    assert card.base == ON_THE_HUB
    assert "data" not in card.settings
    kept = texts(json.loads((arrived / "card.json").read_text())["settings"])
    assert not any("/" in text or text.endswith((".txt", ".jsonl")) for text in kept)
    if run.name == "speech":
        config = json.loads((arrived / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == ON_THE_HUB
    page = ModelCard((arrived / "README.md").read_text())
    assert page.data.base_model == ON_THE_HUB
    assert f"'{HUB}'" in page.text
    assert str(tmp_path) not in (arrived / "README.md").read_text()


def test_a_card_without_content() -> None:
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    measure = {"metric": "WER", "items": 7}
    measure |= dict.fromkeys(("base", "adapter", "difference"), interval)
    card = Card(
        name="a", recipe="dialect", modality="speech", base="b", base_hash="", dataset="1",
        rows={"train": 3},
        settings={
            "base": "b", "data": {"path": "secret"}, "train": {"lr": 0.1, "tracker": "wandb"},
            "lora": {"rank": 8, "targets": ["q_proj"]},
            "task": {"trigger": "t", "language": "de", "terms": "secret.txt", "probes": 3},
        },
        measures=[
            {**measure, "slice": "test", "note": "Ms Miller", "references": {"secret": interval}},
            {**measure, "slice": "test, speaker Miller", "group": ["speaker", "Miller"]},
        ],
    )  # fmt: skip
    found = without_content(card, find_modality("speech"))
    assert found.settings == {
        "train": {"lr": 0.1},
        "lora": {"rank": 8},
        "task": {"trigger": "t", "language": "de", "probes": 3},
    }
    assert [m["slice"] for m in found.measures] == ["test", "test, speaker 1"]
    assert found.measures[1]["group"] == ["speaker", "1"]
    everything = found.model_dump_json()
    assert "secret" not in everything
    assert "Miller" not in everything


def test_no_place_of_this_machine_leaves(tmp_path: Path) -> None:
    """Not in the weights' metadata (transformers names the text encoder), nor in the lineage."""
    folder = shutil.copytree(STORED / "image" / "trained" / "finished" / "adapter", tmp_path / "a")
    [weights] = folder.glob("*.safetensors")
    said = read_metadata(weights)
    settings = json.loads(said["lora_adapter_metadata"])
    settings["text_encoder.base_model_name_or_path"] = "/home/me/base/text_encoder"
    metadata = said | {"lora_adapter_metadata": json.dumps(settings)}
    save_tensors(weights, load_tensors(weights), metadata)
    parent = {"name": "p", "recipe": "r", "hash": "1", "base": "/home/me/base", "dataset": "2"}
    card = read_card(folder).model_copy(update={"lineage": [parent]})
    (tmp_path / "staged").mkdir()
    stage(folder, card, ON_THE_HUB, HUB, tmp_path / "staged")
    for path in (tmp_path / "staged").iterdir():
        assert b"/home/me" not in path.read_bytes(), path.name
    staged = tmp_path / "staged" / weights.name
    assert json.loads(read_metadata(staged)["lora_adapter_metadata"]) == settings | {
        "text_encoder.base_model_name_or_path": None
    }
    before, after = load_tensors(weights), load_tensors(staged)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_method_is_named(tmp_path: Path) -> None:
    folder = STORED / "speech" / "trained" / "finished" / "adapter"
    card = read_card(folder)
    card = card.model_copy(
        update={"settings": card.settings | {"adapter": {"method": "lokr", "factor": 4}}}
    )
    found = without_content(card, find_modality("speech"))
    assert found.settings["adapter"] == {"method": "lokr", "factor": 4}
    stage(folder, card, ON_THE_HUB, HUB, tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "lokr" in ModelCard(page).data.tags
    assert "LoKr" in page


def test_a_folder_with_a_name_like_a_hub_id_is_no_base_for_others(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where push runs in another folder than the training."""
    (tmp_path / "models" / "whisper-de").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(MmtuneError, match="a folder on this machine"):
        push(run, HUB, base="models/whisper-de", anyway=True, dry=True)


def test_it_is_refused_before_anything_is_asked(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_hub(monkeypatch, hub := Hub())
    decision = json.loads((run / "verdict.json").read_text())["decision"]
    if decision in {"keep the base", "no adapter needed"}:
        with pytest.raises(MmtuneError, match="the verdict on") as refused:
            push(run, HUB, base=ON_THE_HUB)
        assert "--anyway" in refused.value.cure
    with pytest.raises(MmtuneError, match="a folder on this machine") as refused:
        push(run, HUB, anyway=True)
    assert "--base OWNER/NAME" in refused.value.cure
    with pytest.raises(MmtuneError, match="which only mmtune has") as refused:
        mmtune.runs.push._require_base("starter:icons", run, False)
    assert "--anyway" in refused.value.cure
    for wrong in ("words", "a/b/c", "../x", "my team/x", ""):
        with pytest.raises(MmtuneError, match="can't be the name"):
            push(run, wrong, base=ON_THE_HUB, anyway=True)
    with pytest.raises(MmtuneError, match="licence"):
        push(run, HUB, base=ON_THE_HUB, anyway=True, accept="cc-by-nc-4.0")
    assert hub.calls == []


def test_a_verdict_against_the_adapter(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(STORED / "speech" / "trained" / "finished", run)
    stored = json.loads((run / "verdict.json").read_text())
    (run / "verdict.json").write_text(json.dumps(stored | {"decision": "keep the base"}))
    with pytest.raises(MmtuneError, match="'keep the base'"):
        push(run, HUB, base=ON_THE_HUB, dry=True)
    assert push(run, HUB, base=ON_THE_HUB, dry=True, anyway=True).url == ""


class Answer(Exception):
    """An HTTP error as the hub's client raises it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} Client Error")
        self.response = SimpleNamespace(status_code=status)


@pytest.mark.parametrize(
    ("fails", "found", "cure"),
    [
        (Answer(401), "refused the token", "hf auth login"),
        (Answer(403), "doesn't let this token write", "my-team"),
        (Answer(404), "no owner my-team", "correct OWNER/NAME"),
        (Answer(503), "answered 503", "later"),
        (OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set", "unset it"),
        (OSError("no route to host"), "no route to host", "network"),
    ],
    ids=["401", "403", "404", "503", "offline", "no network"],
)
def test_what_the_hub_answers(
    fails: Exception, found: str, cure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_hub(monkeypatch, Hub(fails=fails))
    with pytest.raises(MmtuneError, match=found) as refused:
        mmtune.runs.push._upload(tmp_path, HUB, True)
    assert cure in refused.value.cure


def test_no_token_and_a_public_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_hub(monkeypatch, Hub(), token=None)
    with pytest.raises(MmtuneError, match="no token") as refused:
        mmtune.runs.push._upload(tmp_path, HUB, True)
    assert "HF_TOKEN" in refused.value.cure
    on_hub(monkeypatch, hub := Hub(private=False))
    with pytest.raises(MmtuneError, match="exists and is public"):
        mmtune.runs.push._upload(tmp_path, HUB, True)
    assert not any(call.startswith("upload") for call in hub.calls)
    assert mmtune.runs.push._upload(tmp_path, HUB, False).startswith("https://")


def test_the_header_of_a_new_card_is_yaml(tmp_path: Path) -> None:
    card = read_card(STORED / "speech" / "trained" / "finished" / "adapter")
    licensed = card.model_copy(update={"base": "openai/whisper-tiny", "base_licence": "apache-2.0"})
    licensed.write(tmp_path, find_modality("speech").usage(licensed))
    head = yaml.safe_load((tmp_path / "README.md").read_text().split("---\n")[1])
    assert head["base_model"] == "openai/whisper-tiny"
    assert head["library_name"] == "peft"
    assert head["pipeline_tag"] == "automatic-speech-recognition"
    assert head["license"] == "apache-2.0"
    assert {"lora", "whisper", "mmtune"} <= set(head["tags"])
    assert "wer" in head["metrics"]
    [index] = head["model-index"]
    results = [(r["dataset"]["name"], m) for r in index["results"] for m in r["metrics"]]
    values = {(where, m["type"]): m["value"] for where, m in results}
    assert values["test", "wer"] == 0.3333
    other = card.model_copy(update={"base_licence": "flux-1-dev-non-commercial-license"})
    other.write(tmp_path)
    head = yaml.safe_load((tmp_path / "README.md").read_text().split("---\n")[1])
    assert (head["license"], head["license_name"]) == ("other", other.base_licence)
    assert "base_model" not in head  # "base" is no name on the hub


@pytest.mark.parametrize("kind", FILES)
def test_the_code_of_a_model_card_runs(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(STORED / kind / "trained" / "finished" / "adapter", tmp_path / "a")
    card = read_card(tmp_path / "a").model_copy(update={"base": str(STORED / kind / "base")})
    card.write(tmp_path / "a", find_modality(kind).usage(card))
    code = (tmp_path / "a" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path / "a")
    if kind == "speech":
        import soundfile

        sound, rate = soundfile.read(STORED / "speech" / "data" / "0.flac")
        assert rate == 16_000
        soundfile.write("clip.wav", sound, rate)
    exec(compile(code, "README.md", "exec"), {})
    if kind == "speech":
        assert capsys.readouterr().out.strip()
    else:
        from PIL import Image

        assert Image.open("apple.png").size[0] > 0
