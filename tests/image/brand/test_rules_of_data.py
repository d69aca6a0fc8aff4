"""`mmtune check --brand`: each rule kept, broken or not measurable, on drawn pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw

import mmtune
from mmtune.cli import main
from mmtune.image.brand.brand_guide import BrandGuide
from mmtune.image.brand.picture_rules import read_reduced
from mmtune.image.brand.rules_of_data import judge_data
from mmtune.image.image_row import ImageRow

RED, BLUE, GREEN = "#EA5A47", "#61B2E4", "#00AA44"
GUIDE = f"""\
brand: Acme
palette: {{ink: "#3F3F3F", red: "{RED}", blue: "{BLUE}"}}
grounds: [white]
forbidden_words: [cheap]
forbidden_things: [a gun]
trigger: acme icon
references: [refs/ball.png]
"""


def picture(path: Path, place: int, colour: str, ground: str | None = "white") -> None:
    image = Image.new("RGBA", (96, 96), ground or (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    box = (6 + 4 * place, 20, 40 + 4 * place, 76)
    (pen.ellipse if place % 2 else pen.rectangle)(box, fill=colour, outline="#3F3F3F", width=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def brand(tmp_path: Path) -> Path:
    rows = []
    for i in range(8):
        picture(tmp_path / f"{i}.png", i, (RED, BLUE)[i % 2])
        split = "test" if i == 7 else "train"
        rows.append({"image": f"{i}.png", "caption": f"thing {i}", "split": split, "id": f"r{i}"})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "manifest.jsonl").write_text(text)
    (tmp_path / "brand.yaml").write_text(GUIDE)
    picture(tmp_path / "refs" / "ball.png", 3, "#FCEA2B")
    return tmp_path


def outcomes(brand: Path, **settings: Any) -> dict[str, str]:
    found = mmtune.check(
        brand / "manifest.jsonl", brand_guide=str(brand / "brand.yaml"), **settings
    )
    return {rule.name: rule.judged["data"].outcome for rule in found.rules}


def change(brand: Path, **changed: str) -> None:
    """Write the manifest again, with another value of a key in one row: r3 = ("caption", "x")."""
    path = brand / "manifest.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["caption"] = changed.get(row["id"], row["caption"])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_brand_that_keeps_its_rules(brand: Path) -> None:
    assert outcomes(brand, trigger="acme icon") == {
        "palette": "kept",
        "ground": "kept",
        "forbidden words": "kept",
        "forbidden things": "not measurable",
        "trigger": "kept",
        "reference pictures": "kept",
    }


def test_each_broken_rule_names_its_rows(brand: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(brand / "2.png", 2, GREEN)
    picture(brand / "4.png", 4, RED, ground="#F4EBDA")
    picture(brand / "5.png", 5, BLUE, ground=None)
    change(brand, r1="a Cheap thing", r6="acme icon, thing 6")
    (brand / "refs" / "ball.png").unlink()
    words = ["check", str(brand / "manifest.jsonl"), "--brand", str(brand / "brand.yaml")]
    assert main([*words, "--json"]) == 1
    rules = {each["name"]: each for each in json.loads(capsys.readouterr().out)["rules"]}
    broken = {
        name: [each["item"] for each in rule["judged"]["data"]["breaches"]]
        for name, rule in rules.items()
    }
    # The cream ground is no colour of the palette either; a transparent one has no colour.
    assert broken == {
        "palette": ["r2", "r4"],
        "ground": ["r4", "r5"],
        "forbidden words": ["r1"],
        "forbidden things": [],
        "trigger": [f"r{i}" for i in (0, 1, 2, 3, 4, 5, 7)],
        "reference pictures": ["ball.png"],
    }
    assert GREEN in rules["palette"]["judged"]["data"]["breaches"][0]["found"]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "the ground is #F4EBDA" in said
    assert "rule forbidden words (no caption has one of: cheap): broken by 1 of 8" in said
    assert '--trigger "acme icon"' in said
    assert main([*words[:2]]) == 0  # the rows themselves are good
    assert len(mmtune.check(brand / "manifest.jsonl").rows) == 8


@pytest.mark.parametrize("name", ["same.png", "larger.png"])
def test_a_test_picture_is_no_reference(brand: Path, name: str) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((96, 96), Image.Resampling.NEAREST).save(brand / "7.png")
    with Image.open(brand / "7.png") as image:
        if name == "same.png":
            (brand / "refs" / name).write_bytes((brand / "7.png").read_bytes())
        else:
            image.convert("RGB").resize((192, 192)).save(brand / "refs" / name)
    text = GUIDE.replace("refs/ball.png", f"refs/{name}")
    (brand / "brand.yaml").write_text(text)
    assert outcomes(brand)["reference pictures"] == "broken"


def white_icon(path: Path, number: int) -> None:
    """A white shape on transparency, another for each number."""
    rng = np.random.default_rng(number)
    blocks = np.kron(rng.integers(0, 2, (6, 6)), np.ones((16, 16))).astype(np.uint8)
    image = Image.new("RGBA", (96, 96), "white")
    image.putalpha(Image.fromarray(255 * blocks))
    image.save(path)


def judged(folder: Path, reference: Path, splits: str) -> list[str]:
    """What the check finds of a reference beside pictures of these splits: `v` is validation."""
    names = {"t": "test", "v": "validation", "n": "train"}
    rows = [
        ImageRow(id=f"r{i}", image=str(folder / f"{i}.png"), caption="a", split=names[letter])
        for i, letter in enumerate(splits)
    ]
    [rule] = judge_data(BrandGuide(references=(reference,)), rows, "", "white")
    return [breach.found.rpartition(" is the ")[2] for breach in rule.judged["data"].breaches]


def test_white_icons_on_transparency_are_told_apart(tmp_path: Path) -> None:
    for i in range(4):
        white_icon(tmp_path / f"{i}.png", i)
    white_icon(tmp_path / "own.png", 9)
    with Image.open(tmp_path / "2.png") as image:
        image.resize((192, 192)).save(tmp_path / "larger.png")
    assert judged(tmp_path, tmp_path / "own.png", "tttt") == []
    assert judged(tmp_path, tmp_path / "larger.png", "tttt") == ["test picture 'r2', or nearly so"]


def test_blank_and_unreadable_test_pictures_leave_the_others_compared(tmp_path: Path) -> None:
    Image.new("RGB", (96, 96), "white").save(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes(b"no picture")
    for i in (2, 3):
        white_icon(tmp_path / f"{i}.png", i)
    Image.new("RGB", (64, 64), "white").save(tmp_path / "blank.png")
    with Image.open(tmp_path / "3.png") as image:
        image.save(tmp_path / "copy.webp", lossless=True)
    assert judged(tmp_path, tmp_path / "blank.png", "tttt") == []
    assert judged(tmp_path, tmp_path / "copy.webp", "tttt") == ["test picture 'r3', or nearly so"]


@pytest.mark.parametrize(
    ("splits", "found"),
    [
        ("vttt", ["validation picture 'r0', or nearly so"]),
        ("vtttt", []),  # four test pictures are enough
        ("nttt", []),
    ],
)
def test_references_are_compared_with_what_is_measured_on(
    tmp_path: Path, splits: str, found: list[str]
) -> None:
    for i in range(5):
        white_icon(tmp_path / f"{i}.png", i)
    assert judged(tmp_path, tmp_path / "0.png", splits) == found


def test_a_profile_is_applied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("RGBA", (8, 8), RED)
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.save(tmp_path / "a.png", icc_profile=profile)
    plain, calls = ImageCms.profileToProfile, []
    monkeypatch.setattr(
        ImageCms, "profileToProfile", lambda *a, **k: (calls.append(1), plain(*a, **k))[1]
    )
    reduced = read_reduced(tmp_path / "a.png", "white")
    assert (len(calls), int(reduced.clear.sum())) == (1, 1)


def test_a_transparent_ground_that_is_permitted(brand: Path) -> None:
    picture(brand / "5.png", 5, BLUE, ground=None)
    (brand / "brand.yaml").write_text(GUIDE.replace("[white]", "[white, transparent]"))
    found = outcomes(brand)
    assert (found["palette"], found["ground"]) == ("kept", "kept")


def test_the_guide_has_no_effect_for_recordings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.jsonl").write_text('{"audio": "a.wav", "text": "a", "id": "a"}\n')
    (tmp_path / "brand.yaml").write_text(GUIDE)
    given = ["check", str(tmp_path / "m.jsonl"), "--brand_guide", str(tmp_path / "brand.yaml")]
    assert main(given) == 2
    assert "--brand_guide has no effect for speech data" in capsys.readouterr().err
