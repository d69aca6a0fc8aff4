"""Frames of videos as pictures, against FFmpeg's own rotation, and against the colours encoded."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from mmtune.image.pictures.pixels import ImageFault
from mmtune.image.pictures.video import Frames
from tests.image.videos import RED, WHITE, marked, save_video

TWO = [marked()] * 2
HD = [marked(1280, 720)]
# Linear light of Rec. 2020 (Rec. ITU-R BT.2407, section 2) and of Display P3, in that of sRGB.
REC_2020 = ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187))
P3 = ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979))


def red_in(primaries: tuple[tuple[float, ...], ...]) -> tuple[int, ...]:
    """sRGB of the red whose numbers are of other primaries, with the curve of sRGB (IEC 61966)."""
    values = np.array(RED) / 255
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    light = np.clip(np.array(primaries) @ light, 0, 1)
    values = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return tuple(int(value) for value in np.rint(values * 255))


KINDS: dict[str, tuple[Callable[[Path], Path], tuple[int, ...]]] = {
    "mp4": (lambda p: save_video(p / "a.mp4", TWO), RED),
    "mov": (lambda p: save_video(p / "a.mov", TWO), RED),
    "mkv": (lambda p: save_video(p / "a.mkv", TWO), RED),
    "webm": (lambda p: save_video(p / "a.webm", TWO, "libvpx-vp9", "yuv420p"), RED),
    "avi": (lambda p: save_video(p / "a.avi", TWO, "mpeg4", "yuv420p", rate=25), RED),
    "ts": (lambda p: save_video(p / "a.ts", TWO), RED),
    "full range": (lambda p: save_video(p / "a.mp4", TWO, pixels="yuvj420p"), RED),
    "10 bits": (lambda p: save_video(p / "a.mp4", TWO, "libx264", "yuv420p10le"), RED),
    "RGB": (lambda p: save_video(p / "a.mkv", TWO, "ffv1", "bgr0"), RED),
    "HD that states no matrix": (lambda p: save_video(p / "a.mp4", HD, matrix=1), RED),
    "HD that states Rec. 709": (
        lambda p: save_video(p / "a.mp4", HD, matrix=1, stated={"colorspace": 1}),
        RED,
    ),
    "SD that states Rec. 709": (
        lambda p: save_video(p / "a.mp4", TWO, matrix=1, stated={"colorspace": 1}),
        RED,
    ),
    "primaries of Rec. 2020": (
        lambda p: save_video(p / "a.mp4", TWO, matrix=9, stated={
            "colorspace": 9, "color_primaries": 9, "color_trc": 1}),
        red_in(REC_2020),
    ),
    "primaries of P3": (
        lambda p: save_video(p / "a.mp4", TWO, matrix=1, stated={
            "colorspace": 1, "color_primaries": 12, "color_trc": 1}),
        red_in(P3),
    ),
}  # fmt: skip


def first(path: Path) -> Image.Image:
    return next(iter(Frames(path))).picture()


@pytest.mark.parametrize("name", KINDS)
def test_colours_are_those_that_were_encoded(tmp_path: Path, name: str) -> None:
    make, wanted = KINDS[name]
    picture = first(make(tmp_path))
    assert picture.mode == "RGB"
    corners = [picture.getpixel((4, 4)), picture.getpixel((picture.width - 5, picture.height - 5))]
    for found, colour in zip(corners, (WHITE, wanted), strict=True):
        assert np.abs(np.subtract(found, colour)).max() <= 3


def test_frames_of_a_gif(tmp_path: Path) -> None:
    images = [Image.fromarray(marked()), Image.fromarray(marked()[::-1])]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=500)
    frames = list(Frames(tmp_path / "a.gif"))
    assert [frame.time for frame in frames] == [0.0, 0.5]
    assert np.abs(np.subtract(frames[1].picture().getpixel((4, 44)), WHITE)).max() <= 8


@pytest.mark.parametrize("turned", [0, 90, 180, -90])
def test_frames_are_turned_as_players_turn_them(tmp_path: Path, turned: int) -> None:
    path = save_video(tmp_path / "a.mp4", TWO, turned=turned)
    with av.open(str(path)) as container:
        decoded: Any = next(container.decode(video=0))
        wanted = decoded.to_image().rotate(decoded.rotation, expand=True)
    found = first(path)
    assert found.size == wanted.size
    assert np.abs(np.asarray(found).astype(int) - np.asarray(wanted)).max() <= 2


@pytest.mark.parametrize(
    ("aspect", "size"),
    [(Fraction(4, 3), (85, 48)), (Fraction(1, 2), (64, 96)), (Fraction(64, 45), (91, 48))],
)
def test_pixels_become_square(tmp_path: Path, aspect: Fraction, size: tuple[int, int]) -> None:
    assert first(save_video(tmp_path / "a.mkv", TWO, aspect=aspect)).size == size


def test_interlaced_frames_have_no_combs(tmp_path: Path) -> None:
    def fields(number: int) -> np.ndarray:
        picture = np.full((96, 128, 3), 30, np.uint8)
        for field in (0, 1):
            place = 8 * (2 * number + field)
            picture[field::2, place : place + 16] = 220
        return picture

    def combs(path: Path) -> float:
        values = np.asarray(list(Frames(path))[2].picture().convert("L")).astype(int)
        return float(np.abs(2 * values[1:-1] - values[:-2] - values[2:]).mean())

    frames = [fields(number) for number in range(5)]
    flag = {"x264-params": "tff=1"}
    woven = save_video(tmp_path / "a.mkv", frames, pixels="yuv420p", options=flag)
    plain = save_video(tmp_path / "b.mkv", frames, pixels="yuv420p")
    assert len(list(Frames(woven))) == 5
    assert combs(plain) > 20 > 1 > combs(woven)


def test_times_of_a_variable_frame_rate(tmp_path: Path) -> None:
    path = save_video(tmp_path / "a.mkv", [marked()] * 4, times=[0, 1, 30, 31])
    assert [frame.time for frame in Frames(path)] == pytest.approx([0, 0.1, 3.0, 3.1], abs=2e-3)


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mov", "qtrle", "argb"),
        ("b.mov", "prores_ks", "yuva444p10le"),
        ("a.webm", "libvpx-vp9", "yuva420p"),
        ("b.webm", "libvpx", "yuva420p"),
    ],
)
def test_transparent_videos_stay_transparent(
    tmp_path: Path, name: str, codec: str, pixels: str
) -> None:
    alpha = np.zeros((48, 64), np.uint8)
    alpha[16:, 16:] = 255
    picture = np.dstack([marked(), alpha])
    plain = {"auto-alt-ref": "0"} if codec == "libvpx" else {}
    found = first(save_video(tmp_path / name, [picture] * 2, codec, pixels, options=plain))
    assert np.abs(np.subtract(found.getpixel((60, 40)), (*RED, 255))).max() <= 6
    assert found.getpixel((4, 4))[3] <= 2


def test_damaged_frames_are_left_out(tmp_path: Path) -> None:
    """Bytes of the second of five frames are overwritten; FFmpeg goes on behind them, too."""
    path = save_video(tmp_path / "a.avi", [marked()] * 5, "mjpeg", "yuvj420p", rate=25)
    data = bytearray(path.read_bytes())
    begin = data.index(b"movi")
    starts = [i for i in range(begin, len(data)) if data[i : i + 4] == b"00dc"]
    data[starts[1] + 8 : starts[2]] = bytes(starts[2] - starts[1] - 8)
    path.write_bytes(data)
    frames = Frames(path)
    assert [round(frame.time * 25) for frame in frames] == [0, 2, 3, 4]
    assert (frames.damaged, frames.fault) == (1, "")


def hdr(transfer: int) -> Callable[[Path], Path]:
    stated = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9}
    return lambda p: save_video(p / "a.mp4", TWO, "libx264", "yuv420p10le", stated=stated)


def text(name: str, content: bytes) -> Callable[[Path], Path]:
    def written(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return written


def cut_off(folder: Path) -> Path:
    whole = save_video(folder / "whole.mp4", TWO).read_bytes()
    return text("a.mp4", whole[: len(whole) // 3])(folder)


def sound(folder: Path) -> Path:
    with av.open(str(folder / "a.mp4"), "w") as container:
        stream: Any = container.add_stream("aac", rate=16_000, layout="mono")
        frame: Any = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16_000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return folder / "a.mp4"


REFUSED = {
    "PQ": (hdr(16), "hdr"),
    "HLG": (hdr(18), "hdr"),
    "turned by 45 degrees": (lambda p: save_video(p / "a.mp4", TWO, turned=45), "turned"),
    "a pointer of Git LFS": (
        text("a.mp4", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"),
        "lfs-pointer",
    ),
    "a playlist": (text("a.mp4", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"), "undecodable"),
    "a script of files": (
        text("a.mkv", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        "undecodable",
    ),
    "cut off": (cut_off, "undecodable"),
    "empty": (text("a.mov", b""), "undecodable"),
    "sound alone": (sound, "no-video"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_gives_no_frames_is_named(tmp_path: Path, name: str) -> None:
    make, kind = REFUSED[name]
    path = make(tmp_path)
    with pytest.raises(ImageFault) as caught:
        list(Frames(path))
    assert (caught.value.kind, str(path) in caught.value.found) == (kind, True)
