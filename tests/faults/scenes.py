"""What is attacked: each command with the state before it, in both modalities, and each writer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.injection import Fault
from tests.faults.oracle import PARTIAL
from tests.faults.writers import PLANTED, STORED, WRITERS

SHORT = {
    "speech": (
        "--train.epochs", "1", "--train.checkpoint_every", "1", "--train.validate_every", "2",
        "--task.mix.joined", "0.2", "--task.mix.nonspeech", "0.2", "--task.probes", "0",
    ),
    "image": (
        "--train.epochs", "1", "--train.checkpoint_every", "1", "--train.validate_every", "2",
        "--task.copy_captions", "1",
    ),
}  # fmt: skip
UNKEPT = "can't be written"  # of the split ledger: data may lie in a folder that is read-only
BACKWARD = "call:torch/Tensor.backward"


@dataclass(frozen=True)
class Scene:
    """A command and the state of its folder before it.

    Attributes:
        name: command and case.
        modality: speech, image or "" (a writer).
        words: the command line.
        earlier: commands that run before, each with the fault that ends it ("" in `Fault.kind`
            and no event: none).
        prepare: changes the folder by hand after `earlier`.
        gone: patterns of files that the command itself deletes and makes again, so that they may
            be missing or begun after a fault.
        told: what the command prints if a fault keeps it from writing something, and it goes on.
    """

    name: str
    modality: str
    words: tuple[str, ...]
    earlier: tuple[tuple[tuple[str, ...], Fault], ...] = ()
    prepare: Callable[[Path], None] | None = None
    gone: tuple[str, ...] = ()
    told: str = ""

    @property
    def key(self) -> str:
        return f"{self.modality or 'writer'}: {self.name}"

    def start(self, place: Path) -> None:
        """Fill the folder with what all commands of this modality start from."""
        place.mkdir(parents=True)
        if self.modality:
            shutil.copytree(STORED / self.modality, place, dirs_exist_ok=True)


def _source(place: Path, rows: range) -> None:
    """A table with recordings, which stands in for a user's data."""
    source = place / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    lines = ["audio,text"]
    for i in rows:
        shutil.copy(place / "data" / f"{i}.flac", source / f"{i}.flac")
        lines.append(f"{i}.flac,words of {i}")
    (source / "table.csv").write_text("\n".join(lines) + "\n")


def _first_source(place: Path) -> None:
    _source(place, range(2))


def _next_source(place: Path) -> None:
    _source(place, range(1, 4))


def _twin(place: Path) -> None:
    shutil.copytree(place / "trained" / "finished" / "adapter", place / "again")


def _answered(place: Path) -> None:
    key = json.loads((place / "trained/finished/review/review_key.json").read_text())
    values = {"review": key["review"], "rater": "x", "answers": dict.fromkeys(key["sides"], "A")}
    (place / "people.json").write_text(json.dumps(values))


def _no_cache(place: Path) -> None:
    shutil.rmtree(place / "cache")


def _undivided(place: Path) -> None:
    """Data that names no splits: the first command that accepts it writes its split ledger."""
    manifest = place / "data" / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines = [json.dumps({k: v for k, v in row.items() if k != "split"}) + "\n" for row in rows]
    manifest.write_text("".join(lines))


def _uncaptioned(place: Path) -> None:
    (place / "data" / "manifest.jsonl").unlink()


RUN, NONE = "trained/finished", Fault()


def commands() -> list[Scene]:
    """All commands that write, in both modalities."""
    found: list[Scene] = []
    for modality, short in SHORT.items():
        train = ("train", "recipe.yaml", "--name", "new", *short)
        stopped = (train, Fault(at=2, event=BACKWARD))
        review = ("review", RUN, "--items", "2")
        found += [
            Scene("train", modality, train, prepare=_no_cache),
            Scene("train, resumed", modality, train, (stopped,), gone=("checkpoints/*",)),
            Scene("evaluate", modality, ("evaluate", RUN), (), gone=("comparison.json",)),
            Scene("evaluate --fresh", modality, ("evaluate", RUN, "--fresh"),
                  gone=("comparison.json", "answers.jsonl", "answers/*")),
            Scene("check", modality, ("check", "data"), prepare=_undivided, told=UNKEPT),
            Scene("report", modality, ("report", RUN), ((("report", RUN), NONE),)),
            Scene("report --redacted", modality, ("report", RUN, "--redacted")),
            Scene("compose", modality,
                  ("compose", f"{RUN}=0.5", "again=0.5", "--out", "both"), prepare=_twin),
        ]  # fmt: skip
        if modality == "speech":
            said = ("transcribe", "--adapter", RUN, "--out", "heard", "--format", "vtt",
                    "data/7.flac", "data/8.flac")  # fmt: skip
            found += [
                Scene("import", modality, ("import", "source", "--to", "corpus"),
                      prepare=_first_source),
                Scene("import, repeated", modality, ("import", "source", "--to", "corpus"),
                      ((("import", "data", "--to", "corpus", "--format", "table"), NONE),),
                      prepare=_next_source, gone=("corpus/audio/*",)),
                Scene("transcribe", modality, said, ((said, NONE),)),
            ]  # fmt: skip
            formats = ("transformers", "ctranslate2")
        else:
            drawn = ("generate", "--adapter", RUN, "--prompt", "red ball", "--steps", "2",
                     "--guidance", "2", "--grid", "--out", "drawn")  # fmt: skip
            found += [
                Scene("generate", modality, drawn, ((drawn, NONE),)),
                Scene("caption", modality, ("caption", "data"), prepare=_uncaptioned),
                Scene("review", modality, review),
                Scene("review --answers", modality, ("review", RUN, "--answers", "people.json"),
                      ((review, NONE),), prepare=_answered),
            ]  # fmt: skip
            formats = ("kohya", "diffusers", "fused")
        for name in formats:
            out = "out.safetensors" if name == "kohya" else "out"
            words = ("export", RUN, "--format", name, "--out", out)
            found.append(Scene(f"export {name}", modality, words))
    return found


def writers() -> list[Scene]:
    """Each writer alone: what was there before, and then other content."""
    return [
        Scene(
            name,
            "",
            ("writer", name, "now"),
            ((("writer", name, "earlier"), NONE),),
            told=UNKEPT if name.startswith("split ledger") else "",
        )
        for name in WRITERS
        if name not in PLANTED
    ]


# Stages of a run, each with the files that are written in it (a part of their path), and the
# functions that are called or files that are read in stages that write nothing.
STAGES: dict[str, tuple[str, ...]] = {
    "import": ("corpus/",),
    "precompute": ("cache/prefix/",),
    "settings": ("new/config.yaml", "new/data.json", "new/suite.yaml"),
    "added rows": ("data/mix/",),
    "log": ("log.jsonl",),
    "checkpoint write": ("checkpoints/",),
    "kept weights": ("validated/",),
    "adapter save": ("/adapter/", "/adapter"),
    "comparison": ("answers", "comparison.json", "predictions", "samples/", "grid.png"),
    "verdict": ("verdict.json",),
    "report": ("report.html",),
    "compose": ("both",),
    "export": ("out",),
    "review": ("review",),
}
EVENTS: dict[str, tuple[str, ...]] = {
    "check": ("open:/data/",),
    "forward and backward": (BACKWARD,),
    "optimizer": ("call:torch.optim/AdamW.step",),
    "schedule": ("call:torch.optim.lr_scheduler/LambdaLR.step",),
    "checkpoint": ("call:torch.save",),
    "tensors": ("call:safetensors.torch.save_file",),
}


def targets(trace: Sequence[tuple[str, str, str]]) -> list[str]:
    """The path of each call of a trace; for what is written aside, the path that it will have.

    Its own name doesn't tell: it is the next one in its folder that gets its last name.
    """
    found: list[str] = []
    waiting: dict[str, str] = {}  # the last name of what is renamed next, by folder
    for call, path, _ in reversed(trace):
        aside = PARTIAL.search(path)
        if aside is None and call in ("rename", "link"):
            waiting[path.rpartition("/")[0]] = path
        folder = path[: aside.start()] if aside else ""
        found.append(waiting.get(folder, path) if aside else path)
    return found[::-1]


def stage_of(path: str) -> str:
    """The stage in which a file is written."""
    return next((n for n, parts in STAGES.items() if any(p in path for p in parts)), "other")


def find(keys: Sequence[str]) -> list[Scene]:
    """The scenes with these keys, or all."""
    every = [*writers(), *commands()]
    return [scene for scene in every if not keys or scene.key in keys]
