"""What is measured at each strength of a look, and what a run says of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from mmtune.adapters.card import read_card
from mmtune.data.rows import Row
from mmtune.image.diffusion.denoiser_lora import WEIGHTS
from mmtune.image.evaluation.strengths import TrialImages, advise, layout_kept, prompts_kept
from mmtune.image.image_task import ImageTask
from mmtune.metrics.image.layout import kept_layout
from mmtune.metrics.image.style import StyleDistance
from mmtune.pages.report import write_report
from mmtune.runs.pipeline import train
from mmtune.training.kept_weights import read_snapshots
from mmtune.training.reporter import Reporter
from mmtune.training.selection import Trial, strengths
from tests.image import tiny
from tests.image.test_task import make

PROMPTS = [f"thing {i}" for i in range(8)]
MANY = [f"thing {i}" for i in range(16)]


def things(
    ground: str = "white", ink: str = "black", moved: int = 0, count: int = len(PROMPTS)
) -> list[Image.Image]:
    """A disc, each at another place."""
    drawn = []
    for i in range(count):
        image = Image.new("RGB", (48, 48), ground)
        x, y = 4 + (i % 3) * 12, 4 + (i // 3) * (12 if count <= 9 else 6)
        ImageDraw.Draw(image).ellipse((x + moved, y, x + 14 + moved, y + 14), fill=ink)
        drawn.append(image)
    return drawn


def test_layout_is_kept_whatever_the_colours() -> None:
    base = things()
    assert kept_layout(base, base, PROMPTS) == pytest.approx(1)
    assert kept_layout(things("navy", "gold"), base, PROMPTS) == pytest.approx(1, abs=1e-3)
    assert 0.2 < kept_layout(things(moved=5), base, PROMPTS) < 0.9
    assert kept_layout(base[1:] + base[:1], base, PROMPTS) < 0.1
    assert kept_layout([base[0]] * 8, base, PROMPTS) == pytest.approx(0, abs=0.15)
    assert kept_layout(base, base, ["one"] * 8) == pytest.approx(1)


class Knows:
    """A scorer that reads in an image which of `PROMPTS` it is like."""

    metric = "prompt match"

    def __init__(self, min_recall: float | None = None) -> None:
        self.min_recall = min_recall

    def images(self, images: Sequence[Image.Image]) -> np.ndarray:
        return np.stack([np.eye(8)[int(i.info["like"])] + 0.1 for i in images])

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.eye(8)[[PROMPTS.index(text) if text in PROMPTS else 0 for text in texts]]


def like(turn: int) -> list[Image.Image]:
    images = things()
    for i, image in enumerate(images):
        image.info["like"] = (i + turn) % 8
    return images


def trial_images(base: int = 0, real: int = 0, prompts: Sequence[str] = PROMPTS) -> TrialImages:
    return TrialImages(prompts, {Trial(0.0): like(base)}, like(real), like(0), 8)


def test_clip_score_stands_on_the_same_scale() -> None:
    kept = prompts_kept(trial_images(), Knows())
    assert kept(like(0)) == pytest.approx(1)
    assert kept(like(4)) < 0.01  # as the captions half a turn away
    assert kept(like(2)) == pytest.approx(0, abs=0.01)
    assert math.isnan(prompts_kept(trial_images(prompts=["a"] * 8), Knows())(like(0)))
    assert math.isnan(prompts_kept(trial_images(base=4), Knows())(like(0)))


def test_a_scorer_that_does_not_know_the_real_images_leaves_it_to_the_layout() -> None:
    assert prompts_kept(trial_images(), Knows(0.5))(like(4)) < 0.01
    # All images are laid out alike, whatever they are like.
    assert prompts_kept(trial_images(real=4), Knows(0.5))(like(4)) == pytest.approx(1)


def test_the_smallest_strength_that_has_the_look_is_advised() -> None:
    def colours(images: list[Image.Image]) -> np.ndarray:
        return np.stack([np.asarray(i, dtype=float).mean((0, 1)) for i in images])

    def drawn(ground: str = "white", ink: str = "black", moved: int = 0) -> list[Image.Image]:
        return things(ground, ink, moved, len(MANY))

    brand = drawn("navy", "gold")
    by_trial: dict[Trial, Sequence[Image.Image]] = {
        Trial(0.0): drawn(),
        Trial(0.5): drawn("#202060", "gold"),
        Trial(0.8): drawn("navy", "gold", moved=1),
        Trial(1.0): [brand[0]] * 16,
    }
    real = drawn("navy", "gold", moved=2)
    metric, kept = StyleDistance(colours, brand), layout_kept(drawn(), MANY)
    advice = advise(TrialImages(MANY, by_trial, real, brand, 16), metric, kept, 0.5)
    assert [p.scale for p in advice.points] == [0, 0.5, 0.8, 1]
    by = {p.scale: p for p in advice.points}
    assert by[0].retained == pytest.approx(1)
    assert by[0].figures["style"] == pytest.approx(0, abs=1e-6)
    assert by[0.8].figures["style"] == pytest.approx(1, abs=0.15)
    assert "copies" not in by[1.0].figures  # 16 held-out images can't tell what a copy is
    assert by[1.0].retained is not None
    assert by[1.0].retained < 0.5
    assert advice.chosen is by[0.8]
    # With fewer captions than a style score needs, what was trained is what is used.
    few = {trial: images[:14] for trial, images in by_trial.items()}
    advice = advise(TrialImages(MANY[:14], few, real[:14], brand, 14), metric, kept_all, 0.5)
    assert advice.chosen.scale == 1
    assert advice.reason == "14 captions are too few to compare; 15 are needed"


def kept_all(images: Sequence[Image.Image]) -> float:
    return 1.0


def test_captions_of_training_images_join_where_too_few_are_held_out(tmp_path: Path) -> None:
    monitor = make(tmp_path, scale_images="6").style_monitor
    asked: list[tuple[str, int]] = []

    def sample(row_seeds: Sequence[tuple[Row, int]]) -> list[Image.Image]:
        asked.extend((row.id, seed) for row, seed in row_seeds)
        return [Image.new("RGB", (64, 64), (40 * i, 0, 0)) for i in range(len(row_seeds))]

    monitor.sample = sample  # type: ignore[method-assign]
    held_out = list(monitor.brand[:2])
    monitor.brand = monitor.brand[2:]
    monitor.advise([Trial(0.0)], held_out, tmp_path / "grid.png")
    assert [seed for _, seed in asked] == [0] * 6
    assert len({row for row, _ in asked}) == 6
    assert {row for row, _ in asked[:2]} == {row.id for row in held_out}


class Notes(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_a_run_recommends_and_saves_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    config = tiny.config(
        tiny.saved("sdxl-one-encoder"),
        tiny.brand(tmp_path / "brand"),
        tmp_path,
        scales="[0.5, 1.0]",
        scale_images="4",
        max_steps="2",
        copy_seeds="0",
    )
    notes = Notes()
    result = train(config, notes)
    card = read_card(result.folder / "adapter")
    assert card.scale == 1.0
    assert [point["scale"] for point in card.sweep] == [0.0, 0.5, 1.0]
    assert card.advised == card.judged == 1.0
    assert "too few to compare" in card.advice
    assert f"advice     scale {card.advised:g}: {card.advice}" in notes.said
    page = (result.folder / "adapter" / "README.md").read_text()
    assert f"recommended strength {card.advised:g}" in page
    assert "| scale 0.5 |" in page
    write_report(result.folder / "report.html", [result.comparison], [result.folder])
    html = (result.folder / "report.html").read_text()
    assert "recommended scale" in html
    assert "kept content" in html
    assert result.comparison.files["strengths"].is_file()


@torch.no_grad()
def test_advising_leaves_the_adapter_as_it_was(tmp_path: Path) -> None:
    task: ImageTask = make(tmp_path, scale_images="2")
    for name, parameter in task.module.named_parameters():
        if "lora_B" in name:
            parameter.fill_(0.05)
    before = {n: p.clone() for n, p in task.module.state_dict().items()}
    advice = task.advise(strengths([1.0]), list(task._brand[:2]), "some")
    assert all(torch.equal(p, before[n]) for n, p in task.module.state_dict().items())
    assert advice.points[0].figures != advice.points[1].figures


@pytest.mark.parametrize("dora", [pytest.param("false", marks=pytest.mark.slow), "true"])
def test_checkpoints_are_compared_and_the_chosen_one_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dora: str
) -> None:
    """DoRA too, which has no strengths between."""
    monkeypatch.setenv("MMTUNE_CACHE", str(tmp_path / "cache"))
    config = tiny.config(
        tiny.saved("sdxl-one-encoder"),
        tiny.brand(tmp_path / "brand"),
        tmp_path,
        scales="[1.0]" if dora == "false" else "[0.5, 1.0]",
        scale_images="4",
        epochs="3",
        compare_checkpoints="3",
        copy_seeds="0",
        dora=dora,
    )
    notes = Notes()
    result = train(config, notes)
    card = read_card(result.folder / "adapter")
    steps = [point["step"] for point in card.checkpoints]
    assert steps == [each.step for each in read_snapshots(result.folder)]
    assert len(steps) == 4
    assert [point["scale"] for point in card.checkpoints] == [0.0, 1.0, 1.0, 1.0]
    assert card.checkpoints[0]["retained"] == pytest.approx(1)
    assert not card.sweep
    assert card.best_step in steps[1:]
    assert card.checkpoint
    assert f"checkpoint step {card.best_step}: {card.checkpoint}" in notes.said
    assert any("DoRA" in text for text in notes.said) is (dora == "true")
    # What is saved is that step's.
    chosen = next(s for s in read_snapshots(result.folder) if s.step == card.best_step)
    assert card.validation == chosen.values
    saved = load_file(result.folder / "adapter" / WEIGHTS)
    kept = {
        name.replace(".default", "").replace("vector.weight", "vector"): weight
        for name, weight in chosen.weights.items()
    }
    assert saved.keys() == kept.keys()
    assert all(torch.equal(weight, kept[name]) for name, weight in saved.items())
    page = (result.folder / "adapter" / "README.md").read_text()
    assert f"step {card.best_step} of {card.steps}: {card.checkpoint}" in page
    assert "| checkpoint | on held-out rows |" in page
    html = (result.folder / "report.html").read_text()
    assert "kept checkpoint" in html
    assert result.comparison.files["checkpoints"].is_file()
