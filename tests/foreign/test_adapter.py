"""An adapter from somebody else: its config is read and never run, its size is bounded."""

from __future__ import annotations

import json
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmtune.adapters.card import read_card
from mmtune.adapters.foreign import lora_settings
from mmtune.adapters.named_base import ALLOW, base_of
from mmtune.cli import main
from mmtune.errors import AdapterError, BaseModelError
from mmtune.runs.measured_adapter import config_of, find_adapter
from mmtune.speech.whisper.base import WhisperBase, load_base
from mmtune.speech.whisper.decoder_lora import load_adapters
from tests.foreign.opened import watch

STORED = Path(__file__).parents[1] / "conformance" / "stored" / "speech"
NEVER = r"(([a-z_.0-9])+)+!"  # takes longer than the universe on a name of a layer
LAYER = "base_model.model.model.decoder.layers.0.fc1.lora_A.weight"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def base() -> WhisperBase:
    return load_base(str(STORED / "base"))


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    shutil.copytree(STORED / "trained" / "finished" / "adapter", folder)
    return folder


def with_config(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(config | values))

    return change


def with_tensors(make: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        make(tensors)
        save_file(tensors, folder / WEIGHTS)

    return change


def wide(tensors: dict[str, torch.Tensor]) -> None:
    for key in tensors:
        side = tensors[key].shape[1 if "lora_A" in key else 0]
        shape = (5000, side) if "lora_A" in key else (side, 5000)
        tensors[key] = torch.ones(shape, dtype=torch.float16)


def oversized(folder: Path) -> None:
    with_tensors(wide)(folder)
    with_config(r=5000)(folder)


def named(key: str) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.update({key: tensors[LAYER].clone()})


def pair(layer: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def add(tensors: dict[str, torch.Tensor]) -> None:
        for half in ("lora_A", "lora_B"):
            source = LAYER.replace("lora_A", half)
            tensors[f"{layer}.{half}.weight"] = tensors[source].clone()

    return add


def header(claimed: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", claimed) + data[8:])

    return change


def many(folder: Path) -> None:
    size = 20 * 2**20  # a header for 200,000 tensors
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", size))
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate(8 + size)


def pickled(folder: Path) -> None:
    torch.save({LAYER: torch.ones(4, 8)}, folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()


def long_config(folder: Path) -> None:
    with_config(note="x" * 2_000_000)(folder)


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pattern of ranks": (with_config(rank_pattern={NEVER: 4}), "regular expression"),
    "a pattern of alphas": (with_config(alpha_pattern={NEVER: 4}), "regular expression"),
    "another rank": (with_config(r=10**9), "the rank of .* is 1e\\+09, but its tensor has rank 4"),
    "a rank for a layer": (with_config(rank_pattern={"fc1": 7}), "rank of .*fc1 is 7"),
    "no finite alpha": (with_config(lora_alpha=float("inf")), "lora_alpha = inf is not a finite"),
    "no number": (with_config(lora_alpha="8"), "lora_alpha = 8 is not a finite number"),
    "an alpha for a layer": (with_config(alpha_pattern={"fc1": float("nan")}), "not a finite"),
    "another kind": (with_config(peft_type="IA3"), "lora_A.weight is no part of a"),
    "whole modules": (with_config(modules_to_save=["proj_out"]), "uses modules_to_save"),
    "copied layers": (with_config(layer_replication=[[0, 9]]), "uses layer_replication"),
    "biases": (with_config(bias="all"), "uses bias"),
    "tensors larger than the layer": (oversized, "too large for a layer"),
    "a name that is no layer's": (with_tensors(named("model." + NEVER)), "no name of a layer"),
    "half a pair": (with_tensors(named("base_model.model.x.lora_A.weight")), "1 keys are missing"),
    "an unknown layer": (with_tensors(pair("base_model.model.x")), "match nothing"),
    "an unknown part": (with_tensors(named(LAYER + ".weight")), "match nothing"),
    "integers": (with_tensors(lambda t: t.update({LAYER: t[LAYER].int()})), "has the type I32"),
    "a header of an exabyte": (header(2**60), "it claims a header"),
    "a header beyond the file": (header(2**22), "it claims a header"),
    "many tensors": (many, "it claims a header"),
    "a pickled file": (pickled, "can hold code"),
    "a config of megabytes": (long_config, "more than 1,048,576 bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_an_adapter_may_not_hold(name: str, base: WhisperBase, theirs: Path) -> None:
    change, told = REFUSED[name]
    change(theirs)
    before = set(dict(base.model.named_parameters()))
    start = time.monotonic()
    with pytest.raises(AdapterError, match=told) as error:
        load_adapters(base, {"theirs": theirs})
    assert error.value.cure
    assert time.monotonic() - start < 10
    assert set(dict(base.model.named_parameters())) == before, "nothing was added to the base"


IGNORED = {
    "targets": {"target_modules": NEVER},
    "excluded": {"exclude_modules": NEVER},
    "layers": {"layers_pattern": [NEVER], "layers_to_transform": [0]},
    "the start": {"init_lora_weights": "pissa"},
    "the base": {"base_model_name_or_path": "somebody/else", "auto_mapping": {"x": "y"}},
}


@pytest.mark.parametrize("name", IGNORED)
def test_what_an_adapter_s_config_has_no_say_in(name: str, theirs: Path) -> None:
    with_config(**IGNORED[name])(theirs)
    loaded = load_base(str(STORED / "base"))
    weight = loaded.model.model.decoder.layers[0].fc1.weight.clone()
    start = time.monotonic()
    switch = load_adapters(loaded, {"theirs": theirs, "ours": STORED / "trained" / "finished"})
    assert time.monotonic() - start < 20
    layer = loaded.model.model.decoder.layers[0].fc1
    assert torch.equal(layer.get_base_layer().weight, weight)
    with switch.on({"theirs": 1.0}):
        one = switch.answer()
    with switch.on({"ours": 1.0}):
        assert torch.equal(one, switch.answer())


def test_a_route_copies_no_file_from_elsewhere(theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("SENTINEL-of-a-private-file")
    (theirs / "notes.md").symlink_to(tmp_path / "secret")
    (theirs / "more").symlink_to(tmp_path, target_is_directory=True)
    route = tmp_path / "route.yaml"
    route.write_text(f"by: accent\nlabels: {{a: {theirs}}}\n")
    out = tmp_path / "out"
    assert main(["compose", "--route", str(route), "--out", str(out)]) == 0
    [adapter] = (out / "adapters").iterdir()
    copied = {path.name for path in adapter.iterdir()}
    assert copied == {"README.md", CONFIG, WEIGHTS, "card.json"}


def test_names_in_patterns_count_as_peft_means_them() -> None:
    ranks = {"q": 4, "k": 4, "v": 2}
    shapes = {f"a.{name}.lora_A.weight": (rank, 8) for name, rank in ranks.items()}
    shapes |= {f"a.{name}.lora_B.weight": (8, rank) for name, rank in ranks.items()}
    patterns = {"rank_pattern": {"v": 2}, "alpha_pattern": {"^a\\.q$": 6, "k": 3}}
    found = lora_settings(shapes, {"r": 4, "lora_alpha": 3, **patterns}, Path("x"))
    assert (found["r"], found["rank_pattern"]) == (4, {"a.v": 2})
    assert (found["lora_alpha"], found["alpha_pattern"]) == (3, {"a.q": 6})
    assert found["target_modules"] == ["a.k", "a.q", "a.v"]


@pytest.mark.parametrize("key", ["image_filter", "task.image_filter", "task"])
def test_a_card_names_no_code(tmp_path: Path, key: str) -> None:
    """However a card writes it; what the user names stands."""
    stored = STORED.parent / "image"
    theirs, base = tmp_path / "theirs", str(stored / "base")
    shutil.copytree(stored / "trained" / "finished" / "adapter", theirs)
    card = json.loads((theirs / "card.json").read_text())
    value: Any = "os:abort"
    value = card["settings"]["task"] | {"image_filter": value} if key == "task" else value
    card["settings"] |= {key: value}
    (theirs / "card.json").write_text(json.dumps(card))
    read = read_card(theirs)
    assert vars(find_adapter(theirs, base).config.task)["image_filter"] is None
    assert vars(config_of(theirs, read).task)["image_filter"] is None
    named = find_adapter(theirs, base, {"image_filter": "ours:violence"})
    assert vars(named.config.task)["image_filter"] == "ours:violence"


def test_only_a_named_base_is_downloaded(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = json.loads((theirs / "card.json").read_text())
    (theirs / "card.json").write_text(json.dumps(card | {"base": "somebody/whisper"}))
    asked: list[str] = []

    def ask(base: str) -> Any:
        asked.append(base)
        raise BaseModelError("asked", "no")

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("mmtune.speech.whisper.base._from_hub", ask)
    monkeypatch.setattr("mmtune.adapters.export.licence_of", ask)
    sound = str(STORED / "data" / "0.flac")
    out = ["--out", str(tmp_path / "out")]
    commands = {
        "transcribe": ["transcribe", "--adapter", str(theirs), sound],
        "export": ["export", str(theirs), "--format", "transformers", *out],
        "compose": ["compose", str(theirs), str(STORED / "trained" / "finished"), *out],
    }
    for name in ("transcribe", "export"):
        assert main(commands[name]) == 2
        assert asked == [], name
        assert main([*commands[name], "--base", "somebody/whisper"]) == 2
        assert asked == ["somebody/whisper"], name
        asked.clear()
    main(commands["compose"])
    assert asked == []
    monkeypatch.setenv(ALLOW, "1")
    assert main(commands["transcribe"]) == 2
    assert asked == ["somebody/whisper"]


def test_an_unnamed_base_reaches_no_network(theirs: Path, tmp_path: Path) -> None:
    card = json.loads((theirs / "card.json").read_text())
    (theirs / "card.json").write_text(json.dumps(card | {"base": "somebody/whisper"}))
    sound = str(STORED / "data" / "0.flac")
    watched = watch(["transcribe", "--adapter", str(theirs), sound], tmp_path / "record.json")
    assert watched.code == 2
    assert "--base somebody/whisper" in watched.err
    assert watched.ran == []


@pytest.mark.parametrize("named", ["starter:whisper-base", "base", "./a/b", "~/x", "a/b/c"])
def test_what_needs_no_consent(named: str, tmp_path: Path) -> None:
    assert base_of(named, tmp_path) == named


def test_a_base_that_is_here_needs_no_consent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    def hub(folder: Path) -> None:
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))

    hub(tmp_path)
    with pytest.raises(BaseModelError, match="add --base some/model"):
        base_of("some/model", tmp_path)
    with pytest.raises(BaseModelError, match=f"set {ALLOW}=1 in the environment and repeat"):
        base_of("some/model", tmp_path, option=False)
    snapshot = tmp_path / "models--some--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    assert base_of("some/model", tmp_path) == "some/model"
