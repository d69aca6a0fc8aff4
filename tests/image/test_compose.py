"""Merged adapters of diffusion models: the denoiser's layers, and those of a text encoder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from mmtune.adapters.card import read_card
from mmtune.adapters.compose import MAX_DISTANCE
from mmtune.adapters.members import Mixing
from mmtune.adapters.routing import RoutedPredictor, read_route, write_route
from mmtune.cli import main
from mmtune.data.manifest import write_manifest
from mmtune.errors import AdapterError
from mmtune.image.diffusion.denoiser_lora import active, load_adapter, probe_output
from mmtune.image.image_row import ImageRow
from mmtune.image.sampling.predictor import ImagePredictor
from mmtune.predict import Request
from mmtune.runs.adapters import compose
from tests.evaluation.runs import image as run_of_images
from tests.image import adapters, tiny

KIND = "sdxl-one-encoder"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("adapters")
    one = adapters.make(root / "one", KIND)
    return one, adapters.make(root / "two", KIND, r=2, lora_alpha=4, target_modules=["to_q"])


def test_cat_is_what_the_weights_give_together(pair: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = pair
    done = compose({one: 0.5, two: 1.5}, Mixing("cat"), tmp_path / "both")
    assert done.distance < MAX_DISTANCE
    assert [parent["weight"] for parent in read_card(done.path).parents] == [0.5, 1.5]
    together, merged = tiny.loaded(KIND), tiny.loaded(KIND)
    known = {"one": one, "two": two}
    for name, folder in known.items():
        load_adapter(together, folder, name)
    load_adapter(merged, done.path, "m")
    with active(together, {"one": 0.5, "two": 1.5}, known):
        wanted = probe_output(together)
    with active(merged, {"m": 1.0}, {"m": done.path}):
        torch.testing.assert_close(probe_output(merged), wanted, rtol=1e-4, atol=1e-5)
    # By diffusers alone.
    plain = tiny.loaded(KIND)
    plain.pipeline.load_lora_weights(done.path)
    torch.testing.assert_close(probe_output(plain), wanted, rtol=1e-4, atol=1e-5)


def test_other_methods_and_refusals(pair: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = pair
    assert compose({one: 1, two: 1}, Mixing("svd", rank=6), tmp_path / "svd").distance < 1e-4
    with pytest.raises(AdapterError, match="equal ranks"):
        compose({one: 1, two: 1}, Mixing("ties"), tmp_path / "ties")
    dora = adapters.make(tmp_path / "dora", KIND, use_dora=True)
    with pytest.raises(AdapterError, match="uses DoRA"):
        compose({one: 1, dora: 1}, Mixing("cat"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_gate_is_the_same_for_images(pair: tuple[Path, Path], tmp_path: Path) -> None:
    source = tmp_path / "gate.yaml"
    source.write_text(f"by: product\nlabels:\n  shoes: {pair[0]}\notherwise: none\n")
    gate, folders = read_route(write_route(source, tmp_path / "gated").path)
    predictor = ImagePredictor(tiny.loaded(KIND), folders, steps=1, guidance=1.0)
    rows = [
        ImageRow(id=name, image="-", caption="a red box", group={"product": name})
        for name in ("shoes", "hats")
    ]
    shoes, hats = RoutedPredictor(predictor, gate).predict([Request(row) for row in rows])
    [base] = ImagePredictor(tiny.loaded(KIND), {}, steps=1, guidance=1.0).predict(
        [Request(rows[1])]
    )
    assert hats.value.tobytes() == base.value.tobytes()
    assert shoes.value.tobytes() != base.value.tobytes()


def test_generate_follows_a_gate(pair: tuple[Path, Path], tmp_path: Path) -> None:
    source = tmp_path / "gate.yaml"
    source.write_text(f"by: product\nlabels: {{shoes: {pair[0]}, hats: none}}\n")
    gated = write_route(source, tmp_path / "gated")
    data = tiny.brand(tmp_path / "data", 2)
    rows = [
        {"id": name, "image": f"{name} ball.png", "caption": "a ball", "group": {"product": of}}
        for name, of in (("red", "shoes"), ("blue", "hats"))
    ]
    write_manifest(data / "manifest.jsonl", rows)

    def drawn(*words: str) -> list[bytes]:
        out = tmp_path / "-".join(w.replace("/", "") for w in words)[-60:]
        asked = ["--steps", "2", "--guidance", "2", "--out", str(out)]
        assert main(["generate", *words, *asked]) == 0
        return [Image.open(path).tobytes() for path in sorted(out.iterdir())]

    prompt, use = ("--prompt", "a ball"), ("--adapter", str(gated.path))
    base = drawn("--base", gated.route.base, *prompt)
    shoes = drawn("--adapter", str(pair[0]), *prompt)
    assert base != shoes
    assert drawn(*use, "--label", "hats", *prompt) == base
    assert drawn(*use, *prompt) == base  # `otherwise`
    # Both rows have one caption: the second picture's name says "again".
    assert drawn(*use, "--rows", str(data / "manifest.jsonl")) == [*base, *shoes]


@pytest.mark.slow
def test_each_way_is_measured_on_each_runs_own_captions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Strong ones: the style encoder must tell them apart in what a random model draws.
    runs = [run_of_images(tmp_path / name, rank, 40.0) for name, rank in (("a", 4), ("b", 3))]
    words = ["compose", *map(str, runs), "--json", "--compare", "--out"]
    assert main([*words, str(tmp_path / "o")]) == 0
    facts = json.loads(capsys.readouterr().out)
    head, *lines = facts["comparison"]
    assert [line[0] for line in lines] == ["base", "1 brand", "2 brand", "together", "merged, cat"]
    assert [note.split(":")[0] for note in facts["notes"]] == [
        f"{method} is not compared" for method in ("linear", "ties", "dare_linear")
    ]
    assert [name.split(",")[0] for name in head] == [
        "adapters", *["style distance", "nearest training image"] * 2,
    ]  # fmt: skip
    assert [name.split(", ")[1] for name in head[1:]] == [
        "run (8 captions)", "run", "run-2 (8 captions)", "run-2",
    ]  # fmt: skip
    assert lines[0][1] != lines[1][1] != lines[2][1]
    # The exact sum looks as the weights do together, but for how they round.
    numbers = [[float(n) for n in re.findall(r"-?\d+\.\d+", " ".join(x[1:]))] for x in lines[3:5]]
    assert len(numbers[0]) == 4 * 3
    assert numbers[0] == pytest.approx(numbers[1], abs=0.02)
    card = read_card(runs[0] / "adapter")
    card.model_copy(update={"dataset": "0" * 64}).write(runs[0] / "adapter")
    assert main([*words, str(tmp_path / "p")]) == 2
    assert "has changed since" in capsys.readouterr().err
