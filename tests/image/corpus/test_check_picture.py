"""What `check` finds of images: each finding planted, and good images left alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageEnhance

from mmtune.cli import main
from mmtune.config import DataOptions
from mmtune.data.check import check
from mmtune.data.dataset import Dataset
from mmtune.data.manifest import write_manifest
from mmtune.data.rows import Finding
from mmtune.errors import BaseModelError
from mmtune.image import ImageModality
from mmtune.image.corpus.limits import TextLimit, read_limits
from mmtune.image.image_options import ImageOptions
from mmtune.image.pictures.alike import KnownLooks, look_of
from mmtune.image.pictures.picture import Picture
from mmtune.runs import pipeline
from tests.data.pieces import IMAGE, write_image
from tests.image import tiny


def scene(seed: int, size: int = 256) -> Image.Image:
    """Soft shapes of one palette: as unlike each other as a brand's pictures are."""
    import numpy as np

    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (size, size), tuple(rng.integers(150, 256, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(9):
        x, y, r = rng.integers(0, size, 3)
        pen.ellipse((x, y, x + r // 2 + 8, y + r // 2 + 8), tuple(rng.integers(0, 256, 3).tolist()))
    return image


def of_kind(dataset: Dataset, kind: str) -> list[Finding]:
    return [finding for finding in dataset.findings if finding.kind == kind]


def brand(folder: Path, count: int = 12) -> list[dict[str, object]]:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        scene(i).save(folder / f"{i}.png")
        rows.append({"id": f"r{i}", "image": f"{i}.png", "caption": f"thing number {i}"})
    return rows


def test_good_images_have_no_findings(tmp_path: Path) -> None:
    rows = brand(tmp_path, 24)
    write_manifest(tmp_path / "manifest.jsonl", rows)
    assert check(tmp_path, IMAGE).findings == ()


COPIES = {
    "small.png": lambda image: image.resize((128, 128)),
    "poor.jpg": lambda image: image,
    "other.webp": lambda image: image.resize((300, 300)),
    "bright.png": lambda image: ImageEnhance.Brightness(image).enhance(1.05),
    "clear.png": lambda image: image.convert("RGBA"),
    "few.gif": lambda image: image.quantize(64),
    "cropped.png": lambda image: image.crop((2, 2, 254, 254)),
}


@pytest.mark.parametrize("name", COPIES)
def test_near_copies_are_found_and_kept_together(tmp_path: Path, name: str) -> None:
    rows = brand(tmp_path)
    options = {"poor.jpg": {"quality": 40}}.get(name, {})
    COPIES[name](scene(3)).save(tmp_path / name, **options)
    rows.append({"id": "copy", "image": name, "caption": "quite another caption"})
    write_manifest(tmp_path / "manifest.jsonl", rows)
    for shares in (DataOptions(validation=0.3, test=0.3), DataOptions(validation=0.1, test=0.5)):
        data = check(tmp_path, IMAGE, shares)
        (finding,) = of_kind(data, "near-duplicate")
        assert (finding.row, finding.other, finding.severity) == ("copy", "r3", "warning")
        split = {row.id: row.split for row in data.rows}
        assert split["copy"] == split["r3"]
        assert of_kind(data, "leakage") == []


def test_near_copies_in_two_splits_are_a_leak(tmp_path: Path) -> None:
    rows = brand(tmp_path)
    for i, row in enumerate(rows):
        row["split"] = ("train", "validation", "test")[i % 3]
    scene(3).resize((200, 200)).save(tmp_path / "copy.png")
    rows.append({"id": "copy", "image": "copy.png", "caption": "another", "split": "test"})
    write_manifest(tmp_path / "manifest.jsonl", rows)
    (leak,) = of_kind(check(tmp_path, IMAGE), "leakage")
    assert leak.row == "copy"
    assert "'r3' (train) and 'copy' (test)" in leak.message


def test_the_same_shape_in_another_colour_is_no_copy(tmp_path: Path) -> None:
    for colour in ("red", "green", "orange", "blue", "grey", "purple"):
        image = Image.new("RGB", (128, 128), "white")
        ImageDraw.Draw(image).ellipse((20, 24, 100, 110), fill=colour, outline="black", width=4)
        image.save(tmp_path / f"{colour} ball.png")
    assert of_kind(check(tmp_path, IMAGE), "near-duplicate") == []


def on_disc(icon: str) -> Image.Image:
    """An icon of a set: all have the same ground and disc."""
    image = Image.new("RGB", (256, 256), "#fac83c")
    pen = ImageDraw.Draw(image)
    if icon == "ice cream":
        pen.polygon((100, 128, 156, 128, 128, 200), "#b46e32")
        pen.ellipse((92, 66, 164, 138), "#f082a0")
    elif icon == "lamp":
        pen.polygon((107, 72, 149, 72, 174, 133, 82, 133), "#e65a46")
        pen.rectangle((123, 133, 133, 190), "#5a3c28")
    elif icon == "tree":
        pen.ellipse((84, 64, 172, 148), "#46964a")
        pen.rectangle((118, 143, 138, 194), "#6e4628")
    elif icon == "bulb":
        pen.ellipse((92, 66, 164, 143), "#fff096")
        pen.rectangle((113, 143, 143, 190), "#787882")
    elif icon == "pear":
        pen.ellipse((92, 118, 164, 190), "#aabe3c")
        pen.ellipse((107, 82, 149, 143), "#aabe3c")
    whole = Image.new("RGB", (400, 400), "white")
    ImageDraw.Draw(whole).ellipse((15, 15, 385, 385), "#fac83c")
    whole.paste(image.crop((70, 60, 186, 210)), (142, 125))
    return whole


ICONS = ("ice cream", "lamp", "tree", "bulb", "pear")


def test_icons_on_one_disc_are_no_copies(tmp_path: Path) -> None:
    looks = [look_of(Picture(on_disc(icon))) for icon in ICONS]
    known = KnownLooks()
    candidates = 0
    for look in looks:
        candidates += len(known.copies_of(look))
        known.add(look)
    assert candidates, "no pair is alike in the coarse comparison: the icons test nothing"
    for icon in ICONS:
        on_disc(icon).save(tmp_path / f"{icon}.png")
    assert of_kind(check(tmp_path, IMAGE), "near-duplicate") == []


@pytest.mark.parametrize("icon", ICONS)
def test_a_copy_of_an_icon_is_found_among_the_others(tmp_path: Path, icon: str) -> None:
    for each in ICONS:
        on_disc(each).save(tmp_path / f"{each}.png")
    on_disc(icon).resize((200, 200)).save(tmp_path / "z copied.webp", quality=95)
    (finding,) = of_kind(check(tmp_path, IMAGE), "near-duplicate")
    assert (finding.row, finding.other) == ("z copied", icon)


def test_a_file_twice_is_one_finding(tmp_path: Path) -> None:
    brand(tmp_path)
    for path in tmp_path.glob("*.png"):
        path.rename(tmp_path / f"thing {'abcdefghijkl'[int(path.stem)]}.png")
    shutil.copy(tmp_path / "thing c.png", tmp_path / "thing z.png")
    data = check(tmp_path, IMAGE, strict=False)
    assert {f.kind for f in data.findings if "thing z" in f.message} == {"duplicate-content"}


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("a red apple", None),
        ("a red apple in our flat watercolour style", "watercolour, style"),
        ("Oil on canvas: a ship", "oil on canvas"),
        ("a CARTOON dog", "cartoon"),
        ("a hairstyle", None),
        ("a lifestyle shop with stylish shoes", None),
        ("3d rendering of a car", "rendering"),
        ("a partly drawn curtain", "drawn"),
    ],
)
def test_words_that_name_a_look(tmp_path: Path, caption: str, words: str | None) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(caption)
    found = of_kind(check(tmp_path, IMAGE), "style-words")
    assert [f.severity for f in found] == (["warning"] if words else [])
    assert not words or f"({words})" in found[0].message
    assert not words or found[0].row == "a"


def test_captions_longer_than_the_base_reads(tmp_path: Path) -> None:
    # The tiny tokenizer spells, and reads 16 tokens: 14 letters between start and end.
    captions = {"fits": "abcdefg hijklmn", "long": "red apple and a green pear"}
    for seed, (name, caption) in enumerate(captions.items()):
        write_image(tmp_path / f"{name}.png", seed)
        (tmp_path / f"{name}.txt").write_text(caption)
    assert of_kind(check(tmp_path, IMAGE), "long-caption") == [], "no base, no limit"
    for kind in tiny.KINDS:
        data = check(tmp_path, IMAGE, base=str(tiny.saved(kind)))
        (finding,) = of_kind(data, "long-caption")
        assert (finding.row, finding.severity) == ("long", "warning")
        assert "has 23 tokens, but the text encoder reads only 16" in finding.message
        assert "'green pear' is cut off" in finding.message


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_what_is_cut_is_what_the_pipeline_cuts(kind: str) -> None:
    limit = read_limits(str(tiny.saved(kind))).text
    assert limit is not None
    assert limit.tokens == tiny.LENGTH
    pipe = tiny.loaded(kind).pipeline
    for caption in ("", "a", "Ein Apfel, rot & grün, 漢字 und mehr davon", "x" * 60, "a " * 40):
        tokens, cut = limit.cut_off(caption)
        for tokenizer in filter(None, (pipe.tokenizer, getattr(pipe, "tokenizer_2", None))):
            whole = tokenizer(caption.strip()).input_ids
            assert tokens == len(whole)
            assert bool(cut) == (len(whole) > tiny.LENGTH)
        assert caption.strip().endswith(cut)


def test_the_starter_s_limits_need_no_hub() -> None:
    limits = read_limits("starter:icons")
    assert limits.resolution == 64
    assert limits.text is not None
    assert limits.text.tokens == 36
    tokens, cut = limits.text.cut_off("a red apple " * 30 + "and a pear")
    assert tokens > 36
    assert cut.endswith("and a pear")


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_the_resolution_is_the_loaded_base_s(kind: str) -> None:
    assert read_limits(str(tiny.saved(kind))).resolution == tiny.loaded(kind).resolution


def test_a_base_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="holds no model_index"):
        read_limits(str(tmp_path))
    folder = tmp_path / "broken"
    shutil.copytree(tiny.saved("sd"), folder)
    shutil.rmtree(folder / "tokenizer")
    (folder / "tokenizer").mkdir()
    with pytest.raises(BaseModelError, match="tokenizer can't be read"):
        read_limits(str(folder))


def test_images_that_are_enlarged(tmp_path: Path) -> None:
    for side, (width, height) in {"a": (400, 300), "b": (900, 300), "c": (199, 600)}.items():
        scene(ord(side), 1000).resize((width, height)).save(tmp_path / f"{side}.png")
        (tmp_path / f"{side}.txt").write_text(f"thing {side}")
    assert of_kind(check(tmp_path, IMAGE), "upscaled") == []
    settings = ImageOptions(resolution=300)
    (finding,) = of_kind(check(tmp_path, IMAGE, settings=settings), "upscaled")
    assert (finding.row, finding.severity) == ("c", "warning")
    assert "199x600 pixels; training at resolution 300 enlarges it 1.5 times" in finding.message
    larger = check(tmp_path, IMAGE, settings=ImageOptions(resolution=512))
    assert {f.row for f in of_kind(larger, "upscaled")} == {"a", "b", "c"}
    base = check(tmp_path, IMAGE, base="starter:icons")
    assert of_kind(base, "upscaled") == [], "at 64 pixels all are large enough"


def test_a_tokenizer_that_has_no_offsets_cuts_the_same_words() -> None:
    limit = read_limits("starter:icons").text
    assert limit is not None

    class Slow:
        is_fast = False

        def __call__(self, text: str) -> Any:
            return limit.tokenizer(text)

        def decode(self, ids: list[int], **options: Any) -> str:
            return str(limit.tokenizer.decode(ids, **options))

    caption = "a red apple " * 12 + "and a pear"
    assert TextLimit(Slow(), limit.tokens).cut_off(caption) == limit.cut_off(caption)


def test_training_knows_its_base_and_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny.brand(tmp_path / "brand")
    write_image(data / "pear.png")
    (data / "pear.txt").write_text("a green pear and a long caption")
    config = tiny.config(tiny.saved("sd"), data, tmp_path, resolution="64")

    def stop(*_: object) -> None:
        raise RuntimeError("far enough")

    monkeypatch.setattr(ImageModality, "task", stop)
    with pytest.raises(RuntimeError, match="far enough"):
        pipeline.train(config)
    text = json.dumps(json.loads((config.folder / "data.json").read_text()))
    assert "long-caption" in text
    assert "upscaled" in text, "its images have 40 pixels"


def test_check_command_with_a_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a red apple " * 40)
    assert main(["check", str(tmp_path), "--base", "starter:icons", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {f["kind"] for f in facts["findings"]} >= {"long-caption", "upscaled"}
    assert main(["check", str(tmp_path), "--resolution", "40", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {f["kind"] for f in facts["findings"]} & {"long-caption", "upscaled"} == set()
    assert main(["check", str(tmp_path), "--base", "starter:nothing"]) == 2
    assert "did you mean starter:icons?" in capsys.readouterr().err


def test_a_picture_that_is_reduced_keeps_its_name_and_caption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmtune.image.pictures import pixels

    path = tmp_path / "red-apple.png"
    scene(1, 300).save(path)
    monkeypatch.setattr(pixels, "MAX_PIXELS", 64 * 64)
    (finding,) = (f for f in check(tmp_path, IMAGE, strict=False).findings if f.row == "red-apple")
    assert finding.kind == "size-bomb"
    command = (
        "ffmpeg -i red-apple.png -vf scale=2048:-1 smaller.png && mv smaller.png red-apple.png"
    )
    assert command in finding.cure
    Image.open(path).resize((60, 60)).save(path)  # what the command does
    data = check(tmp_path, IMAGE, strict=False)
    assert [row.reference for row in data.rows] == ["red apple"]
    assert not any(f.severity == "error" for f in data.findings)
