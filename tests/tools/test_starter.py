"""The starter icons: the parts of the recipe, and the pipeline that it left in assets/."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "tools" / "starter"
ASSETS = ROOT / "assets" / "starter-icons"


def few_icons(recipe, n: int = 12):
    """Synthetic icons: n concepts in two styles, one pair held out."""
    icons = recipe("icons")
    rng = np.random.default_rng(0)
    return icons.Icons(
        pixels=rng.integers(0, 256, (2 * n, 64, 64, 3), dtype=np.uint8),
        concept=np.repeat(np.arange(n), 2),
        style=np.tile(np.arange(2), n),
        held_out=np.arange(2 * n) == 3,
        concepts=[f"thing-{'abcdefghijklmnop'[i]}" for i in range(n)],
        styles=["noto", "noto-v1"],
    )


def test_captions_name_concept_and_style(recipe):
    caption = recipe("icons").caption
    assert caption("beer-mug", "noto-v1") == "beer mug, blob style"
    assert caption("beer-mug", None) == "beer mug"
    assert caption("beer-mug", None, 0, "zorka") == "beer mug, zorka style"
    assert set(recipe("icons").STYLES) == {
        "noto",
        "noto-v1",
        "twemoji",
        "emojione",
        "streamline-emojis",
    }


def test_an_icon_is_drawn_on_white(recipe):
    pytest.importorskip("resvg_py")
    body = '<rect x="4" y="4" width="8" height="8" fill="#f00"/>'
    icon_set = {
        "width": 16,
        "height": 16,
        "icons": {"box": {"body": body}},
        "aliases": {"crate": {"parent": "box"}},
    }
    draw = recipe("icons").draw
    picture = draw(icon_set, "crate")
    assert picture.shape == (64, 64, 3)
    assert picture[0, 0].tolist() == [255, 255, 255]
    assert picture[32, 32].tolist() == [255, 0, 0]
    assert draw(icon_set, "no such icon") is None


def test_regions_are_read_row_by_row_and_back(recipe):
    text = recipe("text")
    x = torch.randn(2, 12, 16, 16)
    assert torch.equal(text.from_regions(text.regions(x)), x)
    assert torch.equal(text.regions(x)[0, 1], x[0, :, 0:4, 4:8].flatten())


def test_rescaling_the_encoder_is_exact(recipe):
    text = recipe("text")
    torch.manual_seed(0)
    encoder, heads = text.make_encoder(50).eval(), text.Heads()
    text.rescale(encoder, heads, 50.0, 1.0)  # away from the layer norm's epsilon
    ids = torch.randint(2, 50, (2, text.LENGTH))
    ids[:, 9:] = 1
    states, pooled = text.encode(encoder, ids)
    region, components = heads.region(states), heads.pooled(pooled)
    text.rescale(encoder, heads, 3.0, 2.0)
    states3, pooled2 = text.encode(encoder, ids)
    torch.testing.assert_close(states3, 3 * states, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(pooled2, 2 * pooled, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(heads.region(states3), region, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(heads.pooled(pooled2), components, rtol=1e-3, atol=1e-3)


def test_the_tokenizer_splits_unknown_words_instead_of_failing(recipe, tmp_path):
    from transformers import CLIPTokenizer

    tokenizer = recipe("text").make_tokenizer(["red apple, noto style, black outline"] * 4)
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    unknown = again.unk_token_id
    for words in ("red apple, noto style", "Äußerst unbekannt 7", "RED APPLE"):
        ids = again(words).input_ids
        assert ids == tokenizer(words).input_ids
        assert unknown not in ids[1:-1]


def test_attention_learns_where_to_look(recipe):
    lookup, unet = recipe("lookup"), recipe("unet")
    torch.manual_seed(0)
    net = unet.UNet(unet.Shape())
    lookups = lookup.Lookups(net)
    states = 0.5 * torch.randn(4, 36, 192)
    states[:, -16:, :16] += 2 * torch.eye(16)  # what the encoder's loss asks for
    states[:, 0] = torch.randn(192)  # the start token: the same in every caption
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    losses, t = [], torch.tensor([999, 700, 400, 100])
    for _ in range(12):
        net(torch.randn(4, 12, 16, 16), t, states, torch.randn(4, 192))
        losses.append(lookups.loss())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert len(lookups.right) == 8
    assert losses[-1] < 0.9 * losses[0]
    empty = torch.zeros(2, 36, 192), torch.zeros(2, 192)
    assert torch.isfinite(net(torch.randn(2, 12, 16, 16), t[:2], *empty)).all()
    assert lookups.loss() == 0  # nothing to look up


def test_heads_that_look_right_bring_the_picture(recipe):
    lookup, unet, text = recipe("lookup"), recipe("unet"), recipe("text")
    torch.manual_seed(0)
    lookups = lookup.Lookups(unet.UNet(unet.Shape(channels=24)))
    reader = torch.randn(192, 192)
    start = torch.nn.functional.normalize(torch.randn(192), dim=0)
    states = torch.randn(2, 36, 192)
    states -= (states @ start)[..., None] * start
    states[:, 0] = start
    lookups.read_pictures(reader, states)
    wanted = text.from_regions(states[:, -16:] @ reader.T)
    row, column = 6, 11
    region, place = 4 * (row // 4) + column // 4, 4 * (row % 4) + column % 4
    brought = 0
    for attention, serves in lookups.fine[:2]:  # the two attentions of one block
        looks = torch.where(serves == place, 20 + region, 0)
        values = attention.to_v(states).view(2, 36, len(serves), -1)
        picked = values[:, looks, torch.arange(len(serves))].flatten(1)
        brought = brought + (picked @ attention.to_out[0].weight.T)[:, :12]
    assert torch.allclose(brought, wanted[:, :, row, column], atol=1e-4)


def test_a_mirrored_or_moved_icon_keeps_its_range(recipe):
    judge = recipe("judge")
    x = judge.augment(torch.ones(4, 3, 64, 64), torch.Generator().manual_seed(0))
    assert x.shape == (4, 3, 64, 64)
    assert abs(float(x.mean()) - 1) < 0.01  # white stays white, but for a little noise


def test_a_run_is_judged_by_its_captions(recipe, tmp_path, monkeypatch):
    from PIL import Image

    judge = recipe("judge")
    monkeypatch.setattr(judge, "concepts", lambda: [f"thing-{c}" for c in "abcdefghijkl"])
    monkeypatch.setattr(judge, "classifier", lambda work, minutes: None)
    monkeypatch.setattr(judge, "named", lambda net, pictures: pictures[:, 0, 0, 0] // 20)
    examples = []
    for i, shown in ((0, 0), (1, 1), (2, 5), (3, 5)):  # grey level: 20 for each concept
        example = {"prompt": f"thing {'abcd'[i]}"}
        for name, level in (("base", i), ("adapter", shown), ("brand", 11)):
            example[name] = str(tmp_path / f"{name}{i}.png")
            Image.new("RGB", (64, 64), (20 * level,) * 3).save(example[name])
        examples.append(example)
    (tmp_path / "comparison.json").write_text(json.dumps({"examples": examples}))
    args = argparse.Namespace(work=tmp_path, npm=None, minutes=0, run=tmp_path)
    assert judge.judge_run(args) == {"captions": 4, "base": 1.0, "adapter": 0.5, "brand": 0.0}


def test_the_exported_pipeline_draws_64_pixels_offline(monkeypatch):
    from diffusers import StableDiffusionXLPipeline

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pipe = StableDiffusionXLPipeline.from_pretrained(ASSETS, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    images = [
        pipe(
            "red apple, noto style",
            num_inference_steps=2,
            guidance_scale=2.0,
            output_type="np",
            generator=torch.Generator().manual_seed(0),
        ).images
        for _ in range(2)
    ]
    assert images[0].shape == (1, 64, 64, 3)
    assert np.array_equal(images[0], images[1])
    spec = json.loads((ASSETS / "concepts.json").read_text())
    assert len(spec["concepts"]) >= 100
    assert all(style in spec["style_words"] for _, style in spec["held_out_pairs"])


def test_aliases_of_one_icon_are_one_thing(recipe):
    found = recipe("match").named_alike(
        {
            "one": {"icons": {"pistol": {}, "apple": {}}, "aliases": {"gun": {"parent": "pistol"}}},
            "two": {"icons": {"gun": {}, "apple": {}}, "aliases": {"toy-gun": {"parent": "gun"}}},
            "three": {"icons": {"gun": {}}},
        }
    )
    assert found == {"pistol": "gun", "gun": "gun", "toy-gun": "gun", "apple": "apple"}


def test_the_matcher_learns_names_and_goes_on_where_it_stopped(recipe, tmp_path, capsys):
    match = recipe("match")
    icons = few_icons(recipe)
    pixels = np.full_like(icons.pixels, 255)
    # Each thing a box of its own, in two colours.
    for i, (thing, style) in enumerate(zip(icons.concept, icons.style, strict=True)):
        x, y = 4 + 12 * (thing % 4), 4 + 16 * (thing // 4)
        pixels[i, y : y + 40 - 3 * thing, x : x + 8 + 3 * thing] = (200, 30, 30 + 90 * style)
    names = np.array([f"thing {'abcdefghijkl'[c]}|item {'abcdefghijkl'[c]}" for c in range(12)])
    data = {"pixels": pixels, "thing": icons.concept, "names": names}
    data["judged"] = np.ones(12, dtype=bool)
    x = match.augment(match.to_tensor(pixels), torch.Generator().manual_seed(0))
    assert x.shape == (24, 3, match.SIDE, match.SIDE)
    assert x.min() >= 0
    assert x.max() <= 1
    features = match.described(data, tmp_path)
    assert len(features) == match.COPIES + 1
    assert np.isfinite(features[-1]).all()
    rows = np.arange(24)
    match.train(data, features[:1], rows, 0.5, tmp_path / "state.pt")
    net = match.train(data, features[:1], rows, 1.5, tmp_path / "state.pt")
    steps = [
        int(line.split()[0]) for line in capsys.readouterr().out.splitlines() if " loss " in line
    ]
    assert steps == sorted(set(steps))
    captions = [each[0] for each in match.captions_of(data)]
    found = match.retrieval(net, pixels, icons.concept, captions)
    assert found["recall@1"] > 0.5


@pytest.mark.parametrize(
    ("name", "concept", "right"),
    [
        ("Red apple", "red-apple", True),
        ("an apple", "green-apple", True),
        ("padlock", "locked", True),
        ("glasses", "glasses", True),
        ("eye glasses", "glasses", True),
        ("two cherries", "cherries", True),
        ("yellow taxi cab", "taxi", True),
        ("", "taxi", False),
        ("car", "bus", False),
        ("flower", "rose", False),
        ("bus", "automobile", False),
    ],
)
def test_a_readers_name_is_compared_with_those_fixed_beforehand(recipe, name, concept, right):
    assert recipe("read").is_right(name, concept) is right


def test_names_of_a_sheet_are_scored(recipe, tmp_path, capsys):
    read = recipe("read")
    pictures = np.zeros((3, 64, 64, 3), np.uint8)
    read.write_sheet(pictures, ["taxi", "bus", "star"], 0, tmp_path)
    key = json.loads((tmp_path / "key.json").read_text())
    assert sorted(key.values()) == ["bus", "star", "taxi"]
    lines = [
        f"{number} {'cab' if concept == 'taxi' else 'star'}" for number, concept in key.items()
    ]
    (tmp_path / "names.txt").write_text("\n".join(lines))
    read.score(tmp_path, tmp_path / "names.txt")
    told = capsys.readouterr().out
    assert told.startswith("2 of 3 named: 0.67 [0.21, 0.94]")
    assert "bus, called star" in told
