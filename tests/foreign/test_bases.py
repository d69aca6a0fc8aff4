"""Six bases as other programs leave them, through every command: the table of docs/families.md."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml

from mmtune.cli import main
from mmtune.data.manifest import write_manifest
from tests.conformance.test_stored_runs import STORED
from tests.image import adapters, original_layout, tiny

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
COMMANDS = ("check", "train", "evaluate", "generate or transcribe", "export", "compose")
REFUSED = "refused: `git lfs pull`"
IMAGE = (
    *(
        "--resolution",
        "32",
        "--epochs",
        "1",
        "--batch_size",
        "4",
        "--rank",
        "2",
        "--precision",
        "fp32",
    ),
    *("--task.steps", "2", "--seeds", "1", "--validation_images", "2", "--scale_images", "2"),
    *("--scales", "1.0", "--copy_captions", "2", "--copy_seeds", "1"),
    *("--data.validation", "0.2", "--data.test", "0.2"),
)


def single(place: Path, kind: str) -> list[str]:
    """A checkpoint of A1111 or ComfyUI, here smaller than what mmtune describes itself."""
    folder = tiny.save(place / "described", kind)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    file = original_layout.write(tiny.pipeline(kind), place / f"{kind}.safetensors", torch.float16)
    return ["--base", str(file), "--base-config", str(folder)]


def variant(place: Path) -> list[str]:
    """A download of the fp16 files alone."""
    tiny.pipeline("sdxl").to(dtype=torch.float16).save_pretrained(place / "b", variant="fp16")
    return ["--base", str(place / "b")]


def whisper(place: Path) -> list[str]:
    """As transformers 5 saves a fine-tuned model and its processor: in shards, in fp16."""
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    source = STORED / "speech" / "base"
    model = WhisperForConditionalGeneration.from_pretrained(source, dtype=torch.float16)
    model.save_pretrained(place / "b", max_shard_size="50KB")
    WhisperProcessor.from_pretrained(source).save_pretrained(place / "b")
    assert len(list((place / "b").glob("*.safetensors"))) > 1
    assert not (place / "b" / "preprocessor_config.json").exists()
    return ["--base", str(place / "b")]


def family(place: Path) -> list[str]:
    return ["--base", str(tiny.save(place / "b", "chroma"))]


def pointer(place: Path) -> list[str]:
    """A clone of a repository without `git lfs pull`."""
    folder = tiny.save(place / "b", "sd")
    [weights] = (folder / "unet").glob("*.safetensors")
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    return ["--base", str(folder)]


BASES: dict[str, Callable[[Path], list[str]]] = {
    "one file, Stable Diffusion 1.x": lambda place: single(place, "sd"),
    "one file, SDXL": lambda place: single(place, "sdxl"),
    "folder with `*.fp16.safetensors` alone (SDXL)": variant,
    "Whisper folder of transformers: shards, fp16, `processor_config.json`": whisper,
    "folder of a new family (Chroma)": family,
    "folder with pointers of Git LFS": pointer,
}


@pytest.fixture(autouse=True)
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))


def rows_of_page() -> dict[str, list[str]]:
    text = PAGE.read_text(encoding="utf-8").partition("## Bases of others")[2]
    rows = [re.split(r"\s*\|\s*", line.strip("| \n")) for line in text.splitlines() if "|" in line]
    header, _, *body = rows
    assert header[1:] == list(COMMANDS)
    return {cells[0]: cells[1:] for cells in body[: len(BASES)]}


def test_the_page_has_a_row_for_each_base() -> None:
    assert list(rows_of_page()) == list(BASES)


def calls(place: Path, base: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Each command with its arguments; those after training use its run."""
    run, other = place / "runs" / "run", place / "other"
    data, out = tiny.brand(place / "brand", size=(64, 64)), ["--out", str(place / "runs")]
    yield "check", ["check", str(data), *base]
    yield (
        "train",
        ["train", "brand_style", *base, "--data", str(data), *out, "--name", "run", *IMAGE],
    )
    yield "evaluate", ["evaluate", str(run), "--fresh"]
    draw = ["--prompt", "red ball", "--steps", "2"]
    given = ["generate", "--adapter", str(run), *draw, "--out", str(place / "a")]
    yield "generate or transcribe", given
    alone = ["generate", *base, *draw, "--out", str(place / "c")]
    yield "generate or transcribe", alone
    for kind, name in (("kohya", "k.safetensors"), ("diffusers", "d"), ("fused", "f")):
        yield "export", ["export", str(run), "--format", kind, "--out", str(place / name)]
    if (run / "adapter").is_dir():
        shutil.copytree(run / "adapter", other)
    yield "compose", ["compose", str(run), str(other), "--out", str(place / "both")]


def calls_of_pointer(place: Path, base: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Nothing can be trained on it, so the adapters are of the same base as it should be."""
    ours, other = (adapters.make(place / name, "sd") for name in ("ours", "other"))
    data = tiny.brand(place / "brand", size=(64, 64))
    images = sorted(path.name for path in data.iterdir())
    rows = [
        {"id": name, "image": name, "caption": name, "split": ("train", "test")[i % 2]}
        for i, name in enumerate(images)
    ]
    write_manifest(data / "manifest.jsonl", rows)
    yield "check", ["check", str(data), *base]
    yield "train", ["train", "brand_style", *base, "--data", str(data), "--out", str(place)]
    yield "evaluate", ["evaluate", str(ours), *base, "--data", str(data)]
    draw = ["--prompt", "red ball", "--out", str(place / "a")]
    yield "generate or transcribe", ["generate", "--adapter", str(ours), *base, *draw]
    yield "generate or transcribe", ["generate", *base, *draw]
    file = str(place / "k.safetensors")
    yield "export", ["export", str(ours), "--format", "kohya", "--out", file, *base]
    yield "compose", ["compose", str(ours), str(other), "--out", str(place / "both"), *base]


def calls_of_speech(place: Path, base: list[str]) -> Iterator[tuple[str, list[str]]]:
    source, run, other = STORED / "speech", place / "runs" / "run", place / "other"
    data = shutil.copytree(source / "data", place / "data")  # training writes its splits there
    settings = yaml.safe_load((source / "recipe.yaml").read_text())
    settings |= {"name": "run", "out": str(place / "runs")}
    settings["data"] = {"path": str(data), "shared": ["sentence"]}
    settings["task"]["terms"] = str(source / "terms.txt")
    settings["suite"] = str(source / "suite.yaml")
    settings["train"] |= {"epochs": 2}
    (place / "run.yaml").write_text(yaml.safe_dump(settings))
    yield "check", ["check", str(data)]
    yield "train", ["train", str(place / "run.yaml"), *base]
    yield "evaluate", ["evaluate", str(run), "--fresh"]
    sound = str(data / "0.flac")
    yield "generate or transcribe", ["transcribe", sound, "--adapter", str(run)]
    yield "generate or transcribe", ["transcribe", sound, *base]
    yield "export", ["export", str(run), "--format", "transformers", "--out", str(place / "t")]
    shutil.copytree(run / "adapter", other)
    yield "compose", ["compose", str(run), str(other), "--out", str(place / "both")]


@pytest.mark.slow
@pytest.mark.parametrize("name", BASES)
def test_a_base_goes_through_every_command(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make = BASES[name]
    commands = {whisper: calls_of_speech, pointer: calls_of_pointer}.get(make, calls)
    found: dict[str, set[str]] = {command: set() for command in COMMANDS}
    for command, words in commands(tmp_path, make(tmp_path)):
        code, said = main(words), capsys.readouterr()
        refused = code == 2 and "git lfs pull" in said.err
        assert refused or code in (0, 1), (words, said.err)
        found[command].add(REFUSED if refused else "yes")
    assert rows_of_page()[name] == [" ".join(sorted(found[command])) for command in COMMANDS]
