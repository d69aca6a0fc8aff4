"""Give adapters of other programs to every command, and print what came of it as a table.

    python -m tests.foreign.every_command [speech|image]

PEFT and diffusers write their adapters here with their own code; the files of sd-scripts and
LyCORIS are those that `tests/foreign/adapters/make.py` wrote. Random numbers stand for training.
Before the commands, the change of each layer in mmtune's form is compared with the file's own, as
the program that wrote it computes it.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.conformance.test_stored_runs import STORED
from tests.foreign.adapters.make import applied
from tests.image import adapters, tiny

FILES = Path(__file__).parent / "adapters"
SPEECH_BASE = STORED / "speech" / "base"
REFERENCE = Path(__file__).parents[2] / "docs" / "adapters.md"
Changes = Mapping[str, torch.Tensor]  # of a layer's weight, applied to three vectors; by its name


@dataclass(frozen=True)
class Case:
    """An adapter of another program.

    Attributes:
        title: for the table.
        path: its file or folder.
        changes: of its layers, computed by the program that wrote it; empty if it is refused.
    """

    title: str
    path: Path
    changes: Changes


# --- speech: written by PEFT


def peft_whisper(title: str, folder: Path, **settings: Any) -> Case:
    from peft import LoraConfig, get_peft_model
    from transformers import WhisperForConditionalGeneration

    torch.manual_seed(3)
    whisper = WhisperForConditionalGeneration.from_pretrained(SPEECH_BASE, dtype=torch.float32)
    given: dict[str, Any] = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"]}
    model = get_peft_model(whisper, LoraConfig(**given | settings))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.copy_(2 * torch.randn(value.shape))
            elif "magnitude" in name:
                value *= 1 + 0.2 * torch.rand(value.shape)
    model.save_pretrained(str(folder))
    return Case(title, folder, merged(whisper, "default"))


def merged(model: Any, name: str, prefix: str = "") -> dict[str, torch.Tensor]:
    """The change of each layer, as peft itself merges it into the base's weight."""
    found = {}
    for place, layer in model.named_modules():
        if name not in getattr(layer, "lora_A", {}):
            continue
        alone = copy.deepcopy(layer).double()
        before = alone.get_base_layer().weight.clone()
        alone.merge(adapter_names=[name])
        found[prefix + place] = applied(alone.get_base_layer().weight - before)
    return found


def speech_cases(place: Path) -> list[Case]:
    mixed = {"rank_pattern": {"encoder_attn.q_proj": 2}, "alpha_pattern": {"v_proj": 3}}
    return [
        peft_whisper("PEFT LoRA", place / "plain"),
        peft_whisper("PEFT LoRA, `rank_pattern` and `alpha_pattern`", place / "mixed", **mixed),
        peft_whisper("PEFT DoRA", place / "dora", use_dora=True),
        peft_whisper("PEFT LoRA with `modules_to_save`", place / "whole",
                     modules_to_save=["layer_norm"]),
    ]  # fmt: skip


# --- images: written by diffusers, sd-scripts and LyCORIS


def diffusers_folder(title: str, folder: Path, **lora: Any) -> Case:
    adapters.make(folder, "sd", text=True, **lora)
    for name in ("card.json", "README.md"):
        (folder / name).unlink()
    pipeline = tiny.pipeline("sd")
    pipeline.load_lora_weights(folder, adapter_name="theirs")
    found = merged(pipeline.unet, "theirs", "unet.")
    return Case(title, folder, found | merged(pipeline.text_encoder, "theirs", "text_encoder."))


def stored_file(title: str, name: str, place: Path) -> Case:
    path = place / f"{name}.safetensors"
    shutil.copy(FILES / path.name, path)
    found = {
        key.partition("/")[2]: value
        for key, value in load_file(FILES / "expected.safetensors").items()
        if key.startswith(f"{name}/")
    }
    return Case(title, path, found)


def image_cases(place: Path) -> list[Case]:
    mixed = {"rank_pattern": {"attn1.to_q": 2}, "alpha_pattern": {"to_k": 1}}
    return [
        diffusers_folder("diffusers folder with a text encoder", place / "diffusers"),
        diffusers_folder("diffusers folder of mixed ranks and alphas", place / "mixed", **mixed),
        stored_file("sd-scripts LoRA, alpha ≠ rank, with a text encoder", "kohya", place),
        stored_file("LyCORIS LoCon", "locon", place),
        stored_file("LyCORIS LoHa", "loha", place),
        stored_file("LyCORIS LoKr", "lokr", place),
    ]


# --- the change of each layer


def speech_changes(folder: Path) -> dict[str, torch.Tensor]:
    from mmtune.speech.whisper.base import load_for
    from mmtune.speech.whisper.decoder_lora import load_adapters

    base = load_for(str(SPEECH_BASE), "fp32")
    return merged(base.model, load_adapters(base, {"theirs": folder}).inner["theirs"])


def image_changes(folder: Path) -> dict[str, torch.Tensor]:
    from mmtune.image.diffusion.denoiser_lora import load_adapter

    base = tiny.loaded("sd")
    load_adapter(base, folder, "theirs")
    found: dict[str, torch.Tensor] = {}
    for part, model in base.adapted.items():
        found |= merged(model, "theirs", f"{part}.")
    return found


def plain(name: str) -> str:
    """A layer's name without prefixes and dots: sd-scripts' and diffusers' are then the same."""
    name = name.replace("text_model.", "").replace(".", "_").replace("text_model_", "")
    starts = (("lora_unet_", "unet_"), ("lora_te_", "text_encoder_"))
    for theirs, ours in starts:
        name = ours + name.removeprefix(theirs) if name.startswith(theirs) else name
    return name


def distance(found: Changes, wanted: Changes) -> float:
    """The largest relative distance of a layer's change from that of the file."""
    ours, theirs = ({plain(k): v for k, v in each.items()} for each in (found, wanted))
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    return max(float((ours[k] - theirs[k]).norm() / theirs[k].norm()) for k in ours)


# --- commands


def run(*words: object) -> str:
    """Run a command; "yes", or the error's words."""
    from mmtune.cli import main

    said, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
        code = main([str(word) for word in words])
    if code == 0:
        return "yes"
    text = errors.getvalue()
    assert code in (1, 2), (words, code, text)
    assert "cure: " in text, (words, text)
    return text[text.rindex("error: ") :].strip()


Commands = Mapping[str, Callable[[Path, Path], str]]


def with_results(base: Path, data: Path, quick: tuple[str, ...]) -> Commands:
    """The commands that measure: each takes the results of the one before."""

    def evaluate(adapter: Path, place: Path) -> str:
        return run("evaluate", adapter, "--base", base, "--data", data, "--out", place / "results",
                   *quick)  # fmt: skip

    def against(adapter: Path, place: Path) -> str:
        other = place.parent / "other"
        return run("evaluate", adapter, "--against", other, "--base", base, "--data", data,
                   "--out", place / "against", *quick)  # fmt: skip

    return {
        "`evaluate`": evaluate,
        "`evaluate --against`": against,
        "`report`": lambda adapter, place: run("report", place / "results"),
        "`review`": lambda adapter, place: run("review", place / "results"),
        "`verify`": lambda adapter, place: run("verify", adapter),
        "`compose`": lambda adapter, place: run(
            *("compose", f"{adapter}=0.5", place.parent / "other", "--base", base),
            *("--out", place / "both"),
        ),
    }


def exports(base: Path, formats: Mapping[str, str]) -> Commands:
    def export(name: str, file: str) -> Callable[[Path, Path], str]:
        return lambda adapter, place: run(
            *("export", adapter, "--format", name, "--base", base, "--out", place / file)
        )

    return {f"`export --format {name}`": export(name, file) for name, file in formats.items()}


def speech_commands(place: Path) -> Commands:
    data = place / "data"
    shutil.copytree(STORED / "speech" / "data", data)
    rows = [json.loads(line) for line in (data / "manifest.jsonl").read_text().splitlines()]
    lines = [json.dumps({k: v for k, v in row.items() if k != "split"}) for row in rows]
    heard = place / "heard"
    shutil.copytree(data, heard)
    (heard / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    sound = next(data.glob("*.flac"))
    route = "by: accent\nlabels: {scottish: ADAPTER, us: none}\n"

    def routed(adapter: Path, to: Path) -> str:
        file = to / "route.yaml"
        file.write_text(route.replace("ADAPTER", str(adapter)))
        return run("compose", "--route", file, "--base", SPEECH_BASE, "--out", to / "routed")

    def train(adapter: Path, to: Path) -> str:
        return run("train", "terminology", "--init", adapter, "--base", SPEECH_BASE,
                   "--data", data, "--out", to, "--name", "next", "--max_steps", 1,
                   "--batch_size", 2, "--scales", "[1.0]", "--shared", "sentence", "--probes", 0,
                   "--joined", 0, "--nonspeech", 0, "--replay", 0)  # fmt: skip

    return {
        "`transcribe`": lambda adapter, to: run(
            *("transcribe", "--adapter", adapter, "--base", SPEECH_BASE, sound)
        ),
        **with_results(SPEECH_BASE, heard, ("--probes", "0")),
        "`compose --route`": routed,
        **exports(SPEECH_BASE, {"transformers": "hf", "ctranslate2": "ct2"}),
        "`train --init`": train,
    }


def image_commands(place: Path) -> Commands:
    base, data = tiny.saved("sd"), tiny.brand(place / "data")
    quick = ("--task.steps", "2", "--seeds", "1", "--copy_captions", "2")
    formats = {"diffusers": "folder", "kohya": "one.safetensors", "fused": "whole"}

    def train(adapter: Path, to: Path) -> str:
        return run("train", "brand_style", "--init", adapter, "--base", base, "--data", data,
                   "--out", to, "--name", "next", "--max_steps", 1, "--scales", "[1.0]",
                   "--task.steps", 2, "--seeds", 1, "--validation_images", 2,
                   "--data.validation", 0.2, "--data.test", 0.2, "--copy_captions", 2)  # fmt: skip

    return {
        "`generate`": lambda adapter, to: run(
            *("generate", "--adapter", adapter, "--base", base, "--prompt", "a red ball"),
            *("--steps", 2, "--out", to / "pictures"),
        ),
        **with_results(base, data, quick),
        **exports(base, formats),
        "`train --init`": train,
    }


# --- the table


def table(
    cases: list[Case], commands: Commands, changes: Callable[[Path], Changes], place: Path,
    base: Path,
) -> tuple[list[list[str]], list[str]]:  # fmt: skip
    """Run each command with each adapter.

    Returns:
        The rows of the table with its head, and the errors that its numbers stand for.
    """
    from mmtune.errors import MmtuneError
    from mmtune.runs.foreign_adapters import own_form

    told: list[str] = []
    rows = [["adapter", "largest distance of a layer's change", *commands]]
    shutil.copytree(cases[0].path, place / "other")
    (other,) = (place / "other").glob("*.safetensors")
    weights = {k: v * 0.5 if "lora_B" in k else v for k, v in load_file(other).items()}
    with safe_open(other, "pt") as file:
        metadata = file.metadata()
    save_file(weights, other, metadata)
    for number, case in enumerate(cases):
        cells = [case.title]
        try:
            off = distance(changes(own_form(case.path, str(base))), case.changes)
            cells.append("below 1e-6" if off < 1e-6 else f"{off:.1e}")
        except MmtuneError:
            cells.append("")
        (to := place / f"case{number}").mkdir()
        for command, do in commands.items():
            if command in ("`report`", "`review`") and not (to / "results").is_dir():
                cells.append("–")
                continue
            found = do(case.path, to)
            if found != "yes":
                note = found.replace(str(place), "").replace(str(base), "BASE")
                told += [note] if note not in told else []
                found = f"no ({told.index(note) + 1})"
            cells.append(found)
            print(f"{case.title}: {command}: {found}", file=sys.stderr)
        rows.append(cells)
    return rows, told


def lines_of(rows: list[list[str]]) -> list[str]:
    """The table in Markdown."""
    head, *rest = ([f"| {' | '.join(row)} |"] for row in rows)
    return [*head, "|---" * len(rows[0]) + "|", *(line for each in rest for line in each)]


def table_of(modality: str, place: Path) -> tuple[list[list[str]], list[str]]:
    """The table of one modality; `place` is an empty folder."""
    if modality == "speech":
        return table(
            speech_cases(place), speech_commands(place), speech_changes, place, SPEECH_BASE
        )
    return table(image_cases(place), image_commands(place), image_changes, place, tiny.saved("sd"))


def main() -> None:
    for name in sys.argv[1:] or ("speech", "image"):
        with tempfile.TemporaryDirectory() as scratch:
            os.environ["MMTUNE_CACHE"] = f"{scratch}/cache"
            rows, told = table_of(name, Path(scratch))
        print(f"\n{name}\n", *lines_of(rows), sep="\n")
        print(*(f"{i}. {note}" for i, note in enumerate(told, 1)), sep="\n")


if __name__ == "__main__":
    main()
