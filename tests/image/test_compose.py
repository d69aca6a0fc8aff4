"""Merged adapters of diffusion models: the denoiser's layers, and those of a text encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmtune.adapters.card import read_card
from mmtune.adapters.compose import EXACT, Mixing, compose
from mmtune.adapters.gate import GatedPredictor, read_gate, write_gate
from mmtune.cli import main
from mmtune.errors import AdapterError
from mmtune.image.generate import ImagePredictor, active, load_adapter, probe_output
from mmtune.image.rows import ImageRow
from mmtune.predict import Request
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
    assert done.distance < EXACT
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
    with pytest.raises(AdapterError, match="is a DoRA"):
        compose({one: 1, dora: 1}, Mixing("cat"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_gate_is_the_same_for_images(pair: tuple[Path, Path], tmp_path: Path) -> None:
    source = tmp_path / "gate.yaml"
    source.write_text(f"by: product\nlabels:\n  shoes: {pair[0]}\notherwise: none\n")
    gate, folders = read_gate(write_gate(source, tmp_path / "gated").path)
    predictor = ImagePredictor(tiny.loaded(KIND), folders, steps=1, guidance=1.0)
    rows = [
        ImageRow(id=name, image="-", caption="a red box", group={"product": name})
        for name in ("shoes", "hats")
    ]
    shoes, hats = GatedPredictor(predictor, gate).predict([Request(row) for row in rows])
    [base] = ImagePredictor(tiny.loaded(KIND), {}, steps=1, guidance=1.0).predict(
        [Request(rows[1])]
    )
    assert hats.value.tobytes() == base.value.tobytes()
    assert shoes.value.tobytes() != base.value.tobytes()


def test_no_table_for_images(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o"
    words = ["compose", *map(str, pair), "--out", str(out), "--compare", str(tmp_path)]
    assert main(words) == 2
    assert "generate --adapter A --adapter B --grid" in capsys.readouterr().err
