"""Frames of videos as pictures to train on: cuts, near-copies, options, and what is left out."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
import pytest
from PIL import Image

import mmtune
from mmtune.cli import main
from mmtune.config import DataOptions
from mmtune.data.check import check
from mmtune.errors import ConfigError, NothingToUse
from mmtune.image import MODALITY
from mmtune.image.corpus.import_frames import import_frames
from mmtune.image.corpus.scenes import CUT, SIDE, _Cuts
from mmtune.image.pictures.video import Frames
from mmtune.system.locks import Locked, locked
from tests.image.videos import Picture, save_video, scene

BLACK: list[Picture] = [np.zeros((64, 96, 3), np.uint8)] * 5


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos that share a scene, and files that are none."""
    folder = tmp_path_factory.mktemp("videos")
    frames = [*scene(1, 12), *scene(2, 12), *BLACK, *scene(1, 12)]
    save_video(folder / "summer ad.mp4", frames, pixels="yuv420p")
    (folder / "10_more").mkdir()
    save_video(folder / "10_more" / "train.mkv", [*scene(2, 8), *scene(3, 8), *scene(4, 8)])
    (folder / "notes.txt").write_text("x")
    (folder / "gone.mov").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    Image.new("RGB", (9, 9)).save(folder / "still.png")
    return folder


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def test_cuts_are_those_of_ffmpeg(videos: Path) -> None:
    """The same filter of FFmpeg, on the same small copies."""
    path = videos / "summer ad.mp4"
    cuts = _Cuts()
    found = [f.number for f in Frames(path) if cuts.is_cut(f.scaled(SIDE, SIDE))]
    graph: Any = av.filter.Graph()
    source = graph.add_buffer(width=SIDE, height=SIDE, format="rgb24", time_base=1)
    steps = [source, graph.add("scdet", f"threshold={CUT}"), graph.add("buffersink")]
    for one, other in itertools.pairwise(steps):
        one.link_to(other)
    graph.configure()
    wanted = []
    for frame in Frames(path):
        small = av.VideoFrame.from_ndarray(frame.scaled(SIDE, SIDE), format="rgb24")
        small.pts, small.time_base = frame.number, 1
        graph.push(small)
        if "lavfi.scd.time" in graph.pull().metadata:
            wanted.append(frame.number)
    assert found == wanted == [12, 24, 29]


def test_a_folder_of_videos_becomes_pictures(videos: Path, tmp_path: Path) -> None:
    result = import_frames(videos, tmp_path / "out", {"min_gap": 0.5})
    rows = rows_of(tmp_path / "out")
    # The ad's last scene is its first; the other video begins with the ad's second.
    taken = [(row["group"]["recording"], row["group"]["recording_start"][:1]) for row in rows]
    assert taken == [
        ("summer ad.mp4", "0"),
        ("summer ad.mp4", "1"),
        ("10_more/train.mkv", "0"),
        ("10_more/train.mkv", "1"),
    ]
    for row in rows:
        with Image.open(tmp_path / "out" / row["file_name"]) as picture:
            assert (picture.size, picture.format) == ((96, 64), "PNG")
    told = {(each.where, each.kind): each for each in result.left_out}
    assert told.keys() == {
        ("summer ad.mp4", "near-duplicate"),
        ("summer ad.mp4", "blank"),
        ("10_more/train.mkv", "near-duplicate"),
        ("gone.mov", "lfs-pointer"),
        ("still.png", "unused-image"),
        ("notes.txt", "unused-text"),
    }
    assert told["summer ad.mp4", "near-duplicate"].found.startswith("1 of 4 scenes")
    assert result.files == {"found": 5, "used": 2, "left_out": 3}
    assert (result.rows, len(result.new)) == (4, 4)


def test_pictures_wait_for_captions_and_stay_in_the_split_of_their_video(
    videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    import_frames(videos, out, {"min_gap": 0.5})
    data = check(out, MODALITY, strict=False)
    assert {f.kind for f in data.findings if f.severity == "error"} == {"missing-text"}
    for number, row in enumerate(rows_of(out)):
        (out / row["file_name"]).with_suffix(".txt").write_text(f"scene {number}")
    data = check(out, MODALITY, DataOptions(validation=0.3, test=0.3), strict=False)
    assert len(data.rows) == 4
    assert not [f for f in data.findings if f.kind.startswith(("unused", "near"))]
    splits: dict[str, set[str | None]] = {}
    for row in data.rows:
        splits.setdefault(row.group["recording"], set()).add(row.split)
    assert all(len(found) == 1 for found in splits.values())


def test_options_limit_the_pictures(videos: Path, tmp_path: Path) -> None:
    source = videos / "10_more" / "train.mkv"
    few = import_frames(source, tmp_path / "few", {"max_frames": 2, "min_gap": 0})
    assert (few.rows, [each.kind for each in few.left_out]) == (2, ["max-frames"])
    far = import_frames(source, tmp_path / "far", {"min_gap": 60, "caption": "a scene"})
    assert (far.rows, [each.kind for each in far.left_out]) == (1, ["min-gap"])
    assert [row["text"] for row in rows_of(tmp_path / "far")] == ["a scene"]


def test_a_long_scene_gives_a_picture_for_each_ten_seconds(tmp_path: Path) -> None:
    base = np.asarray(Image.fromarray(scene(7, 1)[0]).resize((400, 64)))
    moving = [np.ascontiguousarray(base[:, 9 * i : 9 * i + 96]) for i in range(30)]
    save_video(tmp_path / "a.mp4", moving, rate=1)
    result = import_frames(tmp_path / "a.mp4", tmp_path / "out", {})
    assert [int(float(r["group"]["recording_start"]) // 10) for r in rows_of(result.folder)] == [
        0,
        1,
        2,
    ]


def test_repeating_changes_nothing_and_removes_what_is_gone(videos: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("summer ad.mp4", "10_more/train.mkv"):
        (source / Path(name).name).write_bytes((videos / name).read_bytes())
    dry = import_frames(source, out, {}, dry=True)
    assert not out.exists()
    first = import_frames(source, out, {})
    assert (dry.rows, dry.new) == (first.rows, first.new)
    before = {path: path.read_bytes() for path in out.rglob("*.png")}
    again = import_frames(source, out, {})
    assert (again.new, again.removed) == ((), ())
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == before
    own = out / "video-train" / "mine.png"
    own.write_bytes(b"x")
    (source / "train.mkv").unlink()
    less = import_frames(source, out, {})
    assert less.removed
    assert all(name.startswith("video-train/") for name in less.removed)
    assert [path.name for path in (out / "video-train").iterdir()] == ["mine.png"]
    (source / "summer ad.mp4").unlink()
    with pytest.raises(NothingToUse, match="holds no videos"):
        import_frames(source, out, {})


def test_a_source_without_pictures_keeps_the_earlier_import(tmp_path: Path) -> None:
    path, out = tmp_path / "a.mp4", tmp_path / "out"
    save_video(path, scene(1, 4))
    import_frames(path, out, {})
    save_video(path, BLACK)
    with pytest.raises(NothingToUse, match=r"gives no picture.*is kept"):
        import_frames(path, out, {})
    assert list(out.rglob("*.png"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"language": "de"}, "--language has no effect on frames"),
        ({"max_frames": 0}, "--max-frames"),
        ({"min_gap": float("nan")}, "--min-gap"),
        ({"caption": ""}, "--caption"),
    ],
)
def test_impossible_settings_are_refused(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        import_frames(tmp_path, tmp_path / "out", settings)


def test_folders_of_others_are_left_alone(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no import of frames"):
        import_frames(videos, tmp_path, {})
    with pytest.raises(ConfigError, match="is inside"):
        import_frames(videos, videos / "out", {})
    out = tmp_path / "out"
    import_frames(videos / "summer ad.mp4", out, {})
    picture = next(out.rglob("*.png"))
    elsewhere = tmp_path / "elsewhere"
    picture.parent.rename(elsewhere)
    picture.parent.symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="is a link"):
        import_frames(videos / "summer ad.mp4", out, {})


def test_a_link_out_of_the_folder_is_not_opened(videos: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.mp4").symlink_to(videos / "summer ad.mp4")
    result = import_frames(source, tmp_path / "out", {})
    assert (result.rows, [each.kind for each in result.left_out]) == (0, ["outside"])


def test_the_command_and_the_function(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = str(videos / "summer ad.mp4"), str(tmp_path / "out")
    assert main(["import", source, "--frames", "--min-gap", "0.5", "--to", out]) == 0
    said = capsys.readouterr().out
    assert "2 rows (format: frames)" in said
    assert f"next: mmtune caption {out} --model MODEL" in said
    assert main(["import", source, "--to", out, "--max-frames", "2"]) == 2
    assert "add --frames" in capsys.readouterr().err
    result = mmtune.import_data(source, tmp_path / "other", "image", layout="frames", max_frames=1)
    assert result.rows == 1


def test_a_video_beside_pictures_is_named_with_its_import(videos: Path) -> None:
    found = check(videos, MODALITY, strict=False).findings
    [about] = [f for f in found if f.row == "summer ad.mp4"]
    assert about.kind == "unused-image"
    assert f"mmtune import '{videos / 'summer ad.mp4'}' --frames" in about.cure


def test_surplus_pictures_keep_nothing_out_of_later_videos(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    save_video(source / "a.mp4", [*scene(1, 8), *scene(2, 8), *scene(3, 8)])
    save_video(source / "b.mp4", [*scene(3, 8), *scene(1, 8)])
    result = import_frames(source, out, {"max_frames": 1, "min_gap": 0})
    # Of the first video only scene 1 stays, so scene 3 is new in the second one.
    taken = [(r["group"]["recording"], r["group"]["recording_start"]) for r in rows_of(out)]
    assert [name for name, _ in taken] == ["a.mp4", "b.mp4"]
    assert {each.kind: each.items for each in result.left_out if each.where == "b.mp4"} == {
        "near-duplicate": 1
    }


def test_a_locked_folder_is_left_as_it_is(tmp_path: Path) -> None:
    video, out = tmp_path / "a.mp4", tmp_path / "out"
    save_video(video, scene(1, 4))
    import_frames(video, out, {})
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with locked(out), pytest.raises(Locked):
        import_frames(video, out, {"caption": "other"})
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_gif_of_one_frame_is_no_video(tmp_path: Path) -> None:
    pictures = [Image.fromarray(scene(i, 1)[0]) for i in (1, 2)]
    source = tmp_path / "brand"
    source.mkdir()
    pictures[0].save(source / "still.gif")
    pictures[0].save(source / "moving.gif", save_all=True, append_images=pictures[1:])
    result = import_frames(source, tmp_path / "out", {"min_gap": 0})
    (left,) = [each for each in result.left_out if each.where == "still.gif"]
    assert (left.kind, left.found) == ("unused-image", "this GIF has one frame: it is a picture")
    assert result.rows > 0
    assert all("moving" in row["file_name"] for row in rows_of(tmp_path / "out"))
