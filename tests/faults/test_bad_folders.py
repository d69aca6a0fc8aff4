"""A folder full of bad files gives findings, never a traceback."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmtune.data.check import check
from mmtune.data.dataset import describe
from mmtune.errors import DataError
from tests.data.pieces import IMAGE, SPEECH, noise, write_audio, write_image
from tests.faults.files import flac_bomb, png_bomb, riff


def spoil_recordings(folder: Path) -> dict[str, str]:
    good = write_audio(folder / "good.flac", seed=1, seconds=1.0)
    write_audio(folder / "twin.flac", seed=1, seconds=1.0)
    (folder / "cut.flac").write_bytes(good.read_bytes()[:9000])
    pcm = (noise(2, 1.0) * 32767).astype("<i2").tobytes()
    (folder / "short.wav").write_bytes(riff(pcm[:20_000], claimed=len(pcm)))
    (folder / "empty.wav").write_bytes(b"")
    (folder / "none.wav").write_bytes(riff(b""))
    (folder / "junk.mp3").write_bytes(np.random.default_rng(0).bytes(20_000))
    (folder / "phone.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    samples = noise(3, 1.0)
    samples[500] = np.nan
    soundfile.write(folder / "nan.wav", samples, 16_000, subtype="FLOAT")
    soundfile.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    flac_bomb(folder / "bomb.flac")
    write_audio(folder / "call.flac", seed=4, seconds=31.0)
    for path in list(folder.iterdir()):
        path.with_suffix(".txt").write_text(f"words of {path.stem}")
    write_audio(folder / "untold.wav", seed=5)
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    (folder / "gone.txt").write_text("x")
    return {
        "twin": "duplicate-content", "cut": "truncated", "short": "truncated", "empty": "empty",
        "none": "zero-length", "junk": "undecodable", "phone": "undecodable", "nan": "not-finite",
        "silent": "silent", "bomb": "size-bomb", "call": "too-long", "untold": "missing-text",
        "gone": "missing",
    }  # fmt: skip


def spoil_pictures(folder: Path) -> dict[str, str]:
    good = write_image(folder / "good thing.png", seed=1)
    (folder / "cut.png").write_bytes(good.read_bytes()[:2000])
    photo = write_image(folder / "beach.jpg", seed=2).read_bytes()
    (folder / "half beach.jpg").write_bytes(photo[: len(photo) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "page.png").write_bytes(b"<html>404</html>")
    (folder / "drawing.svg").write_text("<svg/>")
    png_bomb(folder / "bomb.png")
    write_image(folder / "IMG_0001.png", seed=3)
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    return {
        "cut": "truncated", "half beach": "truncated", "empty": "empty", "page": "undecodable",
        "drawing": "undecodable", "bomb": "size-bomb",
        "IMG_0001": "missing-text", "gone": "missing",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("modality", "spoil", "good"),
    [
        (SPEECH, spoil_recordings, ["good"]),
        (IMAGE, spoil_pictures, ["beach", "good thing"]),
    ],
)
def test_each_fault_is_found_by_its_name(tmp_path, modality, spoil, good) -> None:  # type: ignore[no-untyped-def]
    expected = spoil(tmp_path)
    data = check(tmp_path, modality, strict=False)
    errors = {f.row: f.kind for f in data.findings if f.severity == "error"}
    assert errors == expected
    assert [row.id for row in data.rows] == good
    assert set(data.quarantined) == set(expected)
    assert all(f.message and f.cure for f in data.findings)
    counted = Counter(expected.values())
    lines = describe(data, examples=20)
    for kind, n in counted.items():
        assert f"error {kind}: {n}" in lines
    with pytest.raises(DataError, match="can't be used"):
        check(tmp_path, modality)


def test_a_manifest_full_of_everything(tmp_path: Path) -> None:
    expected = spoil_recordings(tmp_path)
    with (tmp_path / "manifest.jsonl").open("wb") as file:
        for name in [*expected, "good"]:
            audio = next(p for p in tmp_path.glob(f"{name}.*") if p.suffix != ".txt").name
            row = {"id": name, "audio": audio, "text": f"words of {name}"}
            file.write(json.dumps(row).encode() + b"\n")
        file.write(b"{]\n\xff\xfe\n" + b'{"id": "far", "audio": "../far.wav", "text": "x"}\n')
    data = check(tmp_path, SPEECH, strict=False)
    errors = {f.row: f.kind for f in data.findings if f.severity == "error"}
    del expected["untold"]  # its words are in the manifest
    expected["good"] = expected.pop("twin")  # the twin comes first here
    bad_lines = {"line 15": "not-json", "line 16": "not-json"}
    assert errors == {**expected, **bad_lines, "far": "outside"}
