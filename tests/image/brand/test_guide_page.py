"""docs/brand-guide.md: its example is read and judged, and its tables are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import mmtune
from mmtune.image.brand.brand_guide import BrandGuide, read_guide
from tests.image.brand.test_rules_of_data import picture

PAGE = (Path(__file__).parents[3] / "docs" / "brand-guide.md").read_text(encoding="utf-8")
INK, SKY = "#3F3F3F", "#61B2E4"


def example(folder: Path) -> Path:
    [text] = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)
    (folder / "brand.yaml").write_text(text, encoding="utf-8")
    return folder / "brand.yaml"


def test_the_example_is_read_and_judged(tmp_path: Path) -> None:
    guide = read_guide(example(tmp_path))
    assert guide.palette == {"ink": INK, "sun": "#FCEA2B", "sky": SKY}
    assert guide.grounds == ("white", "transparent", "sky")
    assert guide.forbidden_words == ("cheap", "low cost")
    assert set(guide.model_fields_set) == set(BrandGuide.model_fields)
    for i, name in enumerate(("apple", "teapot", "cup", "car")):
        ground = ("white", None, SKY, "white")[i]
        picture(tmp_path / "brand" / f"{name}.png", i, ("#FCEA2B", SKY)[i % 2], ground)
    for path in guide.references:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((tmp_path / "brand" / "cup.png").read_bytes())
    found = mmtune.check(
        tmp_path / "brand", brand_guide=tmp_path / "brand.yaml", trigger=guide.trigger
    )
    outcomes = {rule.name: rule.judged["data"].outcome for rule in found.rules}
    assert outcomes.pop("forbidden things") == "not measurable"
    assert set(outcomes.values()) == {"kept"}, found
    [table] = re.findall(r"^\| rule \|.*?\n\n", PAGE, re.M | re.S)
    assert re.findall(r"^\| ([a-z ]+?) \|", table, re.M)[1:] == [r.name for r in found.rules]


def test_the_table_of_keys_is_the_model_s() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE, re.M))
    assert list(table) == list(BrandGuide.model_fields)
    for name in ("tolerance", "off_palette"):
        assert table[name] == f"{BrandGuide.model_fields[name].default:g}"
