"""Pages of somebody's run folder: they hold no file from outside of the run and its data."""

from __future__ import annotations

import base64
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from mmtune.adapters.named_base import ALLOW
from mmtune.cli import main
from mmtune.evaluation.comparison import Comparison
from mmtune.pages.content import embed
from mmtune.pages.sources import READ, sources_of
from mmtune.runs.recipes import load_recipe
from tests.foreign.opened import watch

SECRET = "SENTINEL-of-a-private-file"
PRIVATE = (210, 31, 77)  # colour of the picture outside
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n" + SECRET.encode()


def sound(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.sin(np.arange(1600) / 4).astype("float32") / 3, 16_000)
    return path


def picture(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What the attacker is after: files of the reader, none of them in the run folder."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "passwd").write_text(SECRET)
    (folder / "passwd.wav").write_text(SECRET)
    (folder / "settings.yaml").write_text(f"token: {SECRET}\n")
    sound(folder / "private.wav")
    picture(folder / "private.png", PRIVATE)
    (folder / "drawing.eps").write_bytes(EPS)
    return folder


def write_run(folder: Path, examples: list[dict[str, Any]], **files: Path) -> Path:
    folder.mkdir(parents=True)
    kind = "image" if "prompt" in examples[0] else "speech"
    comparison = Comparison(kind, [], "headline", examples, files)
    (folder / "comparison.json").write_text(json.dumps(comparison.to_json()))
    return folder


def pictures_in(page: str) -> list[Any]:
    found = re.findall(r"data:image/\w+;base64,([^\"&]+)", page)
    return [
        Image.open(io.BytesIO(base64.b64decode(each))).convert("RGB").getpixel((4, 4))
        for each in found
    ]


def row(audio: Path) -> dict[str, Any]:
    return {"id": "r", "audio": str(audio), "text": "x"}


# Each makes a run folder whose files name one file of `home`.
def by_path(run: Path, home: Path) -> None:
    examples = [
        {"reference": "x", "base": "a", "adapter": "b", "audio": str(home / "passwd.wav")},
        {"reference": "x", "base": "a", "adapter": "b", "row": row(home / "private.wav")},
        {"reference": "x", "base": "a", "adapter": "b", "note": str(home / "private.png")},
        {"reference": "x", "base": str(home / "private.png"), "adapter": "b"},
    ]
    write_run(run, examples, grid=home / "private.png")


def by_link(run: Path, home: Path) -> None:
    names = ("passwd.wav", "private.wav", "private.png")
    examples = [
        {"reference": "x", "base": "a", "adapter": "b", "audio": str(run / name)} for name in names
    ]
    examples.append({"reference": "x", "base": "a", "adapter": "b", "row": row(run / names[1])})
    write_run(run, examples, grid=run / "private.png")
    for name in names:
        (run / name).symlink_to(home / name)


def by_linked_folder(run: Path, home: Path) -> None:
    inner = run / "samples"
    examples = [{"prompt": "p", "base": str(inner / "private.png"), "adapter": "b"}]
    write_run(run, examples, grid=inner / "private.png")
    inner.symlink_to(home, target_is_directory=True)


def by_dots(run: Path, home: Path) -> None:
    dotted = run / ".." / ".." / "home" / "private.png"
    write_run(run, [{"prompt": "p", "base": str(dotted), "adapter": str(dotted)}], grid=dotted)


def by_postscript(run: Path, home: Path) -> None:
    named = str(run / "drawing.png")
    write_run(run, [{"prompt": "p", "base": named, "adapter": named}], grid=run / "drawing.png")
    (run / "drawing.png").write_bytes(EPS)


def by_data_link(run: Path, home: Path) -> None:
    data = run.parent / "data"
    data.mkdir(parents=True)
    (data / "a.wav").symlink_to(home / "private.wav")
    (data / "a.png").symlink_to(home / "private.png")
    example = {"reference": "x", "base": "a", "adapter": "b", "row": row(data / "a.wav")}
    write_run(run, [example | {"brand": str(data / "a.png")}])
    (run / "config.yaml").write_text(f"data:\n  path: {data}\n")


def by_root(run: Path, home: Path) -> None:
    example = {"reference": "x", "base": "a", "adapter": "b", "row": row(home / "private.wav")}
    write_run(run, [example | {"brand": str(home / "private.png")}])
    (run / "config.yaml").write_text("data:\n  path: /\n")


WAYS = (by_path, by_link, by_linked_folder, by_dots, by_postscript, by_data_link, by_root)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("command", ["report", "review"])
def test_a_page_shows_nothing_from_outside(
    command: str, way: Callable[[Path, Path], None], tmp_path: Path, home: Path
) -> None:
    run = tmp_path / "runs" / "theirs"
    way(run, home)
    main([command, str(run)])
    for page in tmp_path.rglob("*.html"):
        html = page.read_text()
        assert SECRET not in html
        assert base64.b64encode(SECRET.encode()).decode()[:20] not in html
        assert "data:audio" not in html
        assert PRIVATE not in pictures_in(html)


def test_none_of_the_files_is_opened_and_no_program_is_started(tmp_path: Path, home: Path) -> None:
    runs = []
    for way in WAYS:
        run = tmp_path / way.__name__ / "theirs"
        run.parent.mkdir()
        way(run, home)
        runs.append(str(run))
    out = tmp_path / "page.html"
    watched = watch(["report", *runs, "--out", str(out)], tmp_path / "record.json")
    assert watched.code == 0, watched.err
    assert out.is_file()
    assert watched.opened_in(home) == []
    assert watched.ran == []


@pytest.mark.parametrize("name", [name for name in READ if name != "adapter"])
@pytest.mark.parametrize("command", ["report", "review"])
def test_files_of_the_run_are_no_links_out_of_it(
    command: str, name: str, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "theirs", [{"reference": "x", "base": "a", "adapter": "b"}])
    (run / name).unlink(missing_ok=True)
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).symlink_to(home / "settings.yaml")
    assert main([command, str(run)]) == 2
    told = capsys.readouterr().err
    assert str(run / name) in told
    assert "link" in told
    assert SECRET not in told
    assert list(run.glob("**/*.html")) == []


def test_a_linked_adapter_folder_is_refused(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "theirs", [{"reference": "x", "base": "a", "adapter": "b"}])
    (run / "adapter").symlink_to(home, target_is_directory=True)
    assert main(["report", str(run)]) == 2
    assert "leads out of the run folder" in capsys.readouterr().err


def test_a_pipe_in_a_run_folder_stops_no_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "theirs", [{"reference": "x", "base": "a", "adapter": "b"}])
    os.mkfifo(run / "log.jsonl")
    assert main(["report", str(run)]) == 2
    assert "log.jsonl is no regular file" in capsys.readouterr().err


def test_the_run_and_its_data_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "place" / "data"
    calls = sound(data / "a.wav")
    brand = picture(data / "b.png", (1, 2, 3))
    run = tmp_path / "place" / "runs" / "ours"
    heard = {"reference": "x", "base": "a", "adapter": "b", "row": row(calls)}
    write_run(run, [heard | {"brand": str(brand)}], grid=run / "grid.png")
    picture(run / "grid.png", (9, 8, 7))
    (run / "config.yaml").write_text("out: runs\nname: ours\ndata:\n  path: data\n")
    monkeypatch.chdir(tmp_path)  # another folder than the one in which the run was started
    assert main(["report", str(run)]) == 0
    html = (run / "report.html").read_text()
    assert html.count("data:audio/flac") == 1
    assert sorted(pictures_in(html)) == [(1, 2, 3), (9, 8, 7)]


@pytest.mark.parametrize("path", ["/", "..", "~", "data/.hidden"])
def test_what_counts_as_data(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "up" / "home"
    (place / "data" / ".hidden").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir(place)
    run = place / "runs" / "x"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(f"data:\n  path: '{path}'\n")
    found = sources_of(run).data
    # The root and what lies above the home folder never count; the home folder itself may.
    assert found == {"/": (), "..": ()}.get(
        path, (place,) if path == "~" else (place / "data" / ".hidden",)
    )
    if path == "~":
        picture(place / ".config" / "a.png", (1, 1, 1))
        picture(place / "a.png", (1, 1, 1))
        assert sources_of(run).find(str(place / ".config" / "a.png")) is None
        assert sources_of(run).find(str(place / "a.png")) == place / "a.png"


def test_results_on_a_run_s_own_rows_show_its_data_alone(tmp_path: Path) -> None:
    data = picture(tmp_path / "pictures" / "a.png", (9, 9, 9))
    run, results = tmp_path / "runs" / "ours", tmp_path / "results"
    for folder in (run, results):
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("name: ours\n")
    (run / "config.yaml").write_text(f"name: ours\ndata:\n  path: {data.parent}\n")
    made = picture(run / "data" / "b.png", (9, 9, 9))

    def found(**values: object) -> list[Path | None]:
        (results / "evaluation.json").write_text(json.dumps(values))
        return [sources_of(results).find(str(each)) for each in (data, made)]

    assert found(adapter=str(run), data=None) == [data, made]
    assert found(adapter="../runs/ours", data=None) == [data, made]
    # With other data, with no run, or with damaged values it has no folder but its own.
    assert found(adapter=str(run), data="/others") == [None, None]
    assert found(adapter=str(data.parent), data=None) == [None, None]
    assert found(adapter=7, data=None) == [None, None]
    (results / "evaluation.json").write_text("[")
    assert sources_of(results).data == ()


def test_the_content_says_what_a_file_is(tmp_path: Path) -> None:
    def kind(path: Path) -> str:
        return embed(path).partition(";")[0]

    assert kind(sound(tmp_path / "a.wav").rename(tmp_path / "a.png")) == "data:audio/wav"
    assert kind(sound(tmp_path / "b.flac")) == "data:audio/flac"
    assert kind(sound(tmp_path / "c.ogg")) == "data:audio/ogg"
    assert kind(picture(tmp_path / "d.png", (1, 2, 3)).rename(tmp_path / "d.wav")) == (
        "data:image/png"
    )
    assert kind(picture(tmp_path / "e.avif", (1, 2, 3))) == "data:image/png"
    for name, content in {"f.wav": SECRET.encode(), "g.png": EPS, "h.svg": b"<svg/>"}.items():
        (tmp_path / name).write_bytes(content)
        assert embed(tmp_path / name) == "", name


def test_a_huge_picture_is_not_decoded(tmp_path: Path) -> None:
    from tests.faults.files import png_bomb

    png_bomb(tmp_path / "bomb.png")
    assert embed(tmp_path / "bomb.png") == ""


def test_no_model_that_only_a_run_folder_names_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("backbone", "clip_model"):
        config = load_recipe("brand_style", {"data": str(tmp_path), "out": str(tmp_path)})
        config = config.model_copy(update={"name": name})
        (config.folder / "adapter").mkdir(parents=True)
        config = config.model_copy(
            update={"task": config.task.model_copy(update={name: "some/judge"})}
        )
        (config.folder / "config.yaml").write_text(config.dump())
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        assert main(["evaluate", str(config.folder)]) == 2
        told = capsys.readouterr().err
        assert "names the model 'some/judge', which is not on this machine" in told
        assert ALLOW in told
