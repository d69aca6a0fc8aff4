"""What an adapter's files say of its base holds in any working directory."""

from __future__ import annotations

import json
import shutil
import wave
from pathlib import Path

import pytest

from mmtune.adapters.card import README, adapter_folder, read_card
from mmtune.adapters.integrity import PEFT_CONFIG, check_adapter, seal_adapter
from mmtune.runs.modalities import find_modality
from mmtune.system.base_name import found_from_anywhere
from tests.conformance.test_stored_runs import STORED


def test_names_of_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "one.safetensors").touch()
    here = str(tmp_path)
    named = {
        "base": f"{here}/base",
        "./base": f"{here}/base",
        f"{here}/base": f"{here}/base",
        "one.safetensors": f"{here}/one.safetensors",
        "one.safetensors@base": f"{here}/one.safetensors@{here}/base",
        "openai/whisper-tiny": "openai/whisper-tiny",
        "starter:whisper-tiny.en": "starter:whisper-tiny.en",
        "gone": "gone",
    }
    assert {base: found_from_anywhere(base) for base in named} == named


@pytest.mark.parametrize("modality", ["speech", "image"])
def test_the_card_s_code_names_the_base_s_place(
    modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(STORED / modality)
    card = read_card(adapter_folder(Path("trained/finished"))).model_copy(update={"base": "base"})
    card.write(tmp_path, find_modality(modality).usage(card))
    page = (tmp_path / README).read_text()
    assert f"'{STORED / modality / 'base'}'" in page
    assert "Run this in the folder of this README.md:" in page
    hub = card.model_copy(update={"base": "team/model"})
    hub.write(tmp_path, find_modality(modality).usage(hub, "team/words"))
    page = (tmp_path / README).read_text()
    assert "'team/model'" in page
    assert "'team/words'" in page
    assert "in the folder of" not in page
    assert str(STORED) not in page


def test_the_card_s_code_runs_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(STORED / "speech")
    adapter = tmp_path / "adapter"
    shutil.copytree(adapter_folder(Path("trained/finished")), adapter, copy_function=shutil.copy)
    card = read_card(adapter)
    card.model_copy(update={"files": seal_adapter(adapter)}).write(
        adapter, find_modality("speech").usage(card)
    )
    check_adapter(adapter)
    config = json.loads((adapter / PEFT_CONFIG).read_text())
    assert config["base_model_name_or_path"] == str(STORED / "speech" / "base")
    monkeypatch.chdir(adapter)
    with wave.open("clip.wav", "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(32_000))
    code = (adapter / README).read_text().partition("```python\n")[2].partition("```")[0]
    exec(compile(code, README, "exec"), {})
    assert capsys.readouterr().out.endswith("\n")
