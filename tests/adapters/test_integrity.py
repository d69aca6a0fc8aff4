"""Every command that loads an adapter refuses a damaged one, and names the file and the cure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import mmtune
from mmtune.adapters.card import file_hashes, read_card, weights_hash
from mmtune.adapters.integrity import check_adapter, check_base, content_hash, seal_adapter
from mmtune.cli import main
from mmtune.errors import ERROR, AdapterError
from mmtune.system.hashing import hash_file
from mmtune.system.tensors import tensors_hash
from tests.adapters.damage import DAMAGES, SETTINGS, STORED, WEIGHTS, cut, flip, not_a_number, seal

Command = Callable[[Path], list[str]]
ROUTE = "by: accent\nlabels: {{a: {}}}\n"


def route_file(run: Path) -> list[str]:
    path = run.parent / "route.yaml"
    path.write_text(ROUTE.format(run), encoding="utf-8")
    return ["compose", "--route", str(path), "--out", "routed"]


def composed(run: Path) -> list[str]:
    return ["compose", str(run.parent / "whole"), str(run), "--out", "both"]


def routed(run: Path) -> list[str]:
    """The run's adapter lies in the folder of a route."""
    whole = run.parent / "whole"
    mmtune.compose(route=Path(route_file(whole)[2]), out=run.parent / "routed")
    [folder] = (run.parent / "routed" / "adapters").iterdir()
    shutil.rmtree(folder)
    shutil.copytree(run / "adapter", folder)
    return []


COMMANDS: dict[str, dict[str, Command]] = {
    "speech": {
        "evaluate": lambda run: ["evaluate", str(run)],
        "transcribe": lambda run: ["transcribe", "--adapter", str(run), "data/7.flac"],
        "compose": composed,
        "route": route_file,
        "use of a route": lambda run: [
            *routed(run),
            *("transcribe", "--adapter", str(run.parent / "routed"), "data/7.flac"),
        ],
        "export": lambda run: ["export", str(run), "--format", "transformers", "--out", "whole"],
    },
    "image": {
        "evaluate": lambda run: ["evaluate", str(run)],
        "generate": lambda run: ["generate", "--adapter", str(run), "--prompt", "red ball"],
        "compose": composed,
        "route": route_file,
        "use of a route": lambda run: [
            *routed(run),
            *("generate", "--adapter", str(run.parent / "routed"), "--prompt", "red ball"),
        ],
        "export": lambda run: ["export", str(run), "--format", "kohya", "--out", "x.safetensors"],
    },
}
TABLE = [(modality, name) for modality, each in COMMANDS.items() for name in each]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Gives a modality's run, with a twin `whole` beside it; the current folder has their base."""
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))

    def made(modality: str) -> Path:
        monkeypatch.chdir(STORED / modality)
        for name in ("run", "whole"):
            shutil.copytree(STORED / modality / "trained" / "finished", tmp_path / name)
            seal(tmp_path / name / "adapter")
        return tmp_path / "run"

    return made


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("modality", "command"), TABLE)
def test_a_damaged_adapter_is_refused(
    place: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    modality: str,
    command: str,
    damage: str,
) -> None:
    run = place(modality)
    DAMAGES[damage](run / "adapter" / WEIGHTS[modality])
    before = sorted(path for path in run.rglob("*") if path.is_file())
    words = COMMANDS[modality][command](run)
    capsys.readouterr()
    assert main(words) == ERROR
    said = capsys.readouterr().err
    named = SETTINGS if (modality, damage) == ("speech", "another alpha") else WEIGHTS[modality]
    assert named in said.splitlines()[0]
    cure = "copy the folder again" if command == "use of a route" else f"mmtune repair {run}"
    assert cure in said
    # Neither the comparison nor an answer was deleted, and nothing was written.
    assert sorted(path for path in run.rglob("*") if path.is_file()) == before
    left = {"run", "whole", "route.yaml", "routed"}
    assert {path.name for path in run.parent.iterdir() if path.name != "cache"} <= left


@pytest.mark.parametrize("modality", COMMANDS)
def test_a_predictor_refuses_a_damaged_adapter(place: Callable[[str], Path], modality: str) -> None:
    run = place(modality)
    flip(run / "adapter" / WEIGHTS[modality])
    with pytest.raises(AdapterError, match="is damaged: its content has SHA-256"):
        mmtune.open_predictor(run)


@pytest.mark.parametrize("weight", ["nan", "inf", "-inf"])
def test_a_weight_that_is_not_finite_is_refused(
    place: Callable[[str], Path], capsys: pytest.CaptureFixture[str], weight: str
) -> None:
    run = place("image")
    assert main(["generate", "--adapter", f"{run}={weight}", "--prompt", "x"]) == ERROR
    assert f"{run}={weight}: the weight is not a finite number" in capsys.readouterr().err
    mmtune.compose(route=Path(route_file(run)[2]), out=run.parent / "routed")
    gate = run.parent / "routed" / "gate.json"
    text = gate.read_text(encoding="utf-8")
    gate.write_text(text.replace("1.0", weight.replace("inf", "Infinity").replace("nan", "NaN")))
    words = ["generate", "--adapter", str(run.parent / "routed"), "--prompt", "x"]
    assert main(words) == ERROR
    assert f"{gate} can't be read" in capsys.readouterr().err


def test_the_loaders_compare_by_themselves(place: Callable[[str], Path]) -> None:
    """What loads adapters for all commands doesn't rely on the command's own look."""
    import torch

    from mmtune.image.diffusion.base import load_base as load_pipeline
    from mmtune.image.diffusion.denoiser_lora import load_adapter
    from mmtune.speech.whisper.base import load_base as load_whisper
    from mmtune.speech.whisper.decoder_lora import load_adapters

    run = place("speech")
    flip(run / "adapter" / WEIGHTS["speech"])
    with pytest.raises(AdapterError, match="is damaged: its content"):
        load_adapters(load_whisper("base"), {"x": run})
    shutil.rmtree(run)
    shutil.rmtree(run.parent / "whole")
    run = place("image")
    flip(run / "adapter" / WEIGHTS["image"])
    with pytest.raises(AdapterError, match="is damaged: its content"):
        load_adapter(load_pipeline("base", torch.device("cpu"), torch.float32), run / "adapter", "")


def bad_speech_base(folder: Path) -> list[str]:
    return ["transcribe", "--adapter", str(folder / "run"), "data/7.flac"]


def bad_image_base(folder: Path) -> list[str]:
    words = ["generate", "--adapter", str(folder / "run"), "--prompt", "red ball", "--steps", "1"]
    return [*words, "--out", str(folder / "out")]


@pytest.mark.parametrize(
    ("modality", "weights", "words"),
    [
        ("speech", "model.safetensors", bad_speech_base),
        ("image", "unet/diffusion_pytorch_model.safetensors", bad_image_base),
    ],
)
@pytest.mark.parametrize("damage", [flip, not_a_number, cut])
def test_a_damaged_base_is_refused(
    place: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    modality: str,
    weights: str,
    words: Callable[[Path], list[str]],
    damage: Callable[[Path], None],
) -> None:
    root = place(modality).parent
    for name in ("base", "data"):
        shutil.copytree(STORED / modality / name, root / name)
    monkeypatch.chdir(root)
    damage(root / "base" / weights)
    assert main(words(root)) == ERROR
    said = capsys.readouterr().err
    wanted = {flip: "with other weights", not_a_number: "hold NaN", cut: "base"}
    assert wanted[damage] in said
    assert "cure:" in said


def test_another_base_is_refused_by_name_and_weights(place: Callable[[str], Path]) -> None:
    folder = place("image") / "adapter"
    card = read_card(folder)
    check_base(folder, "base", card.base_hash)
    with pytest.raises(AdapterError, match="with other weights or settings"):
        check_base(folder, "base", "0" * 64, any_name=True)
    with pytest.raises(AdapterError, match="not on 'other'"):
        check_base(folder, "other", "0" * 64)
    check_base(folder, "other", "0" * 64, any_name=True)
    (folder / "card.json").unlink()
    check_base(folder, "other", "0" * 64)


def test_a_file_that_is_no_adapter_is_not_read(place: Callable[[str], Path]) -> None:
    folder = place("speech") / "adapter"
    path = folder / WEIGHTS["speech"]
    with path.open("r+b") as file:
        file.truncate(17 * 2**30)  # takes no room on the disk
    with pytest.raises(AdapterError, match="an adapter has at most"):
        check_adapter(folder)
    path.unlink()
    os.mkfifo(path)  # reading it would wait for ever
    with pytest.raises(AdapterError, match="a pipe or a device"):
        check_adapter(folder)


def test_a_card_of_an_earlier_version_names_nothing_and_is_hashed_as_before(
    place: Callable[[str], Path],
) -> None:
    old = STORED / "speech" / "trained" / "finished" / "adapter"
    assert read_card(old).files == {}
    check_adapter(old)
    assert file_hashes(old) == {WEIGHTS["speech"]: hash_file(old / WEIGHTS["speech"])}
    new = place("speech") / "adapter"
    assert file_hashes(new) == {WEIGHTS["speech"]: tensors_hash(new / WEIGHTS["speech"])}
    assert weights_hash(new) != weights_hash(old)


def test_a_sealed_adapter_has_files_that_do_not_depend_on_the_order_of_sets(
    place: Callable[[str], Path],
) -> None:
    folder = place("speech") / "adapter"
    path = folder / SETTINGS
    text = path.read_text(encoding="utf-8")
    written = set()
    for targets in ('["b", "a"]', '["a", "b"]'):
        path.write_text(text.replace('"target_modules": ', f'"target_modules": {targets}, "x": '))
        files = seal_adapter(folder)
        assert files[SETTINGS] == content_hash(path)
        written.add(path.read_bytes())
    assert len(written) == 1
    not_a_number(folder / WEIGHTS["speech"])
    with pytest.raises(AdapterError, match="hold NaN"):
        seal_adapter(folder)


def test_what_a_killed_process_left_beside_the_adapter_does_not_count(
    place: Callable[[str], Path], tmp_path: Path
) -> None:
    run = place("speech")
    before = weights_hash(run / "adapter")
    for suffix in (".json", ".md", ".safetensors"):
        (run / "adapter" / f".partial-{'0' * 32}{suffix}").write_bytes(b"")
    check_adapter(run / "adapter")
    assert weights_hash(run / "adapter") == before
    mmtune.compose(route=Path(route_file(run)[2]), out=tmp_path / "routed")
    assert not list((tmp_path / "routed").rglob(".partial-*"))
