"""Versions of files, and how results show themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmtune.adapters.card import Card, read_card
from mmtune.adapters.routing import Route, read_route
from mmtune.data.dataset import Dataset
from mmtune.errors import ConfigError
from mmtune.evaluation.comparison import Comparison, read_comparison
from mmtune.evaluation.gate_result import GateResult
from mmtune.evaluation.verdict import Verdict, read_verdict, write_verdict
from mmtune.runs.folder import claim, record_data
from mmtune.runs.recipes import configure, load_run
from mmtune.system.display import Displayed, Rows, plain_values
from mmtune.system.formats import with_format


def config(folder: Path) -> Any:
    values = {"recipe": "toy", "modality": "image", "name": folder.name, "base": "b"}
    return configure({**values, "out": str(folder.parent)}, "test", {})


def write_config(folder: Path) -> Path:
    claim(config(folder))
    return folder / "config.yaml"


def write_card(folder: Path) -> Path:
    Card(
        name="n", recipe="r", modality="image", base="b", base_hash="h", dataset="d", rows={},
        settings={},
        sweep=[{"scale": 1.0, "value": float("nan"), "retained": None, "figures": {}}],
    ).write(folder)  # fmt: skip
    return folder / "card.json"


def write_comparison(folder: Path) -> Path:
    path = folder / "comparison.json"
    found = Comparison("image", [], "a headline")
    path.write_text(with_format(json.dumps(found.to_json(), indent=2)))
    return path


def verdict() -> Verdict:
    main = GateResult("g", "must", "passed", "Does it help?", "yes", "m", "s", "adapter", "point")
    return Verdict("ship", "suite <b>", ["it helps"], [], main, [])


def write_the_verdict(folder: Path) -> Path:
    write_verdict(folder, verdict())
    return folder / "verdict.json"


def write_route(folder: Path) -> Path:
    path = folder / "gate.json"
    route = Route(modality="image", base="b", base_hash="h", by="k", labels={"x": {}}, otherwise={})
    path.write_text(with_format(route.model_dump_json(indent=2)))
    return path


class Data:
    """As much of a `Dataset` as `record_data` reads."""

    source, fingerprint, quarantined, findings = Path("folder"), "f" * 64, (), ()
    rows = withheld = ()
    version, refused = None, {}

    def split(self, name: str) -> tuple[()]:
        return ()


def write_data(folder: Path) -> Path:
    data: Any = Data()
    record_data(folder, data)
    (folder / "log.jsonl").touch()  # the run has begun: from now on the file is read
    return folder / "data.json"


def read_data(folder: Path) -> None:
    data: Any = Data()
    record_data(folder, data)


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (write_config, load_run),
        (write_card, read_card),
        (write_comparison, read_comparison),
        (write_the_verdict, read_verdict),
        (write_route, read_route),
        (write_data, read_data),
    ],
    ids=["config.yaml", "card.json", "comparison.json", "verdict.json", "gate.json", "data.json"],
)
def test_a_file_has_a_version_and_is_read_without_one_and_refused_with_a_newer(
    tmp_path: Path, write: Callable[[Path], Path], read: Callable[[Path], object]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    path = write(folder)
    values = yaml.safe_load(path.read_text())  # JSON is YAML
    assert next(iter(values)) == "format"
    assert values["format"] == 1
    now = read(folder)
    for version in (None, 2, "1", True):
        changed = {k: v for k, v in values.items() if k != "format"}
        changed |= {} if version is None else {"format": version}
        text = yaml.safe_dump(changed) if path.suffix == ".yaml" else json.dumps(changed)
        path.write_text(text)
        if version is None:
            assert read(folder) == now
            continue
        with pytest.raises(ConfigError, match=f"(?s)has format {version!r}.*pip install") as caught:
            read(folder)
        assert str(path) in caught.value.found


def test_a_run_of_before_resumes_with_the_same_settings(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    before = config(folder).dump()  # without a format, as an earlier version wrote it
    assert "format:" not in before
    (folder / "config.yaml").write_text(before)
    (folder / "log.jsonl").touch()
    claim(config(folder))
    assert (folder / "config.yaml").read_text() == before
    assert load_run(folder) == config(folder)
    with pytest.raises(ConfigError, match="other settings"):
        claim(config(folder).model_copy(update={"base": "another"}))


@dataclass(frozen=True)
class Hostile(Displayed):
    path: Path
    value: float

    def shown(self) -> Iterable[str | Rows]:
        return ["<script>a  line</script>", [["<b>", "n"], ["x & y", "10"]]]


def test_results_show_themselves_as_text_and_as_escaped_html() -> None:
    found = Hostile(Path("a/b"), float("inf"))
    assert str(found).splitlines() == ["<script>a  line</script>", "<b>    n", "x & y  10"]
    html = found._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;a  line" in html
    assert "<th>&lt;b&gt;</th>" in html
    assert "<td>x &amp; y</td>" in html
    assert found.to_dict() == {"path": "a/b", "value": None}


def test_plain_values_are_json() -> None:
    values = {1: (Path("x"), Hostile(Path("y"), 1.0)), "nan": float("nan"), "set": {2}}
    plain = plain_values(values)
    assert json.loads(json.dumps(plain)) == plain
    assert plain == {"1": ["x", {"path": "y", "value": 1.0}], "nan": None, "set": [2]}


def test_a_verdict_and_a_comparison_show_their_figures() -> None:
    found = verdict()
    assert str(found).startswith("verdict  ship")
    assert "suite &lt;b&gt;" not in str(found)
    assert "suite &lt;b&gt;" in found._repr_html_()
    assert found.to_dict()["decision"] == "ship"
    comparison = Comparison("image", [], "a headline")
    assert str(comparison).splitlines()[0] == "a headline"
    assert issubclass(Dataset, Displayed)
