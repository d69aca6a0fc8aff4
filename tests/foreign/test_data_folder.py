"""A data folder from somebody else: no link in it makes a command read a file outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mmtune.cli import main
from mmtune.data.check import check
from mmtune.errors import DataError
from mmtune.speech.corpus.importers import import_speech
from tests.data.pieces import IMAGE, SPEECH, write_audio, write_image
from tests.foreign.opened import watch
from tests.fuzz import corpus

SECRET = "SENTINEL-of-a-private-file"
ROW = {"id": "r", "audio": "a.wav", "text": "x"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "secret").write_text(f"{SECRET}\n")
    (folder / "secret.jsonl").write_text(json.dumps(ROW | {"text": SECRET}) + "\n")
    write_audio(folder / "private.wav", seed=1, seconds=1.0)
    write_image(folder / "private.png", seed=1)
    return folder


def words(data: Path, home: Path) -> None:
    write_audio(data / "a.wav", seed=2, seconds=1.0)
    (data / "a.txt").symlink_to(home / "secret")


def caption(data: Path, home: Path) -> None:
    write_image(data / "apple.png", seed=2)
    (data / "apple.txt").symlink_to(home / "secret")


def other_caption(data: Path, home: Path) -> None:
    write_image(data / "apple.png", seed=2)
    (data / "apple.caption").symlink_to(home / "secret")


def metadata(data: Path, home: Path) -> None:
    write_image(data / "a.png", seed=2)
    (data / "metadata.jsonl").symlink_to(home / "secret.jsonl")


def metadata_below(data: Path, home: Path) -> None:
    write_image(data / "in" / "a.png", seed=2)
    (data / "in" / "metadata.csv").symlink_to(home / "secret")


def manifest(data: Path, home: Path) -> None:
    write_audio(data / "a.wav", seed=2, seconds=1.0)
    (data / "manifest.jsonl").symlink_to(home / "secret.jsonl")


def split_manifest(data: Path, home: Path) -> None:
    write_audio(data / "a.wav", seed=2, seconds=1.0)
    (data / "train.jsonl").symlink_to(home / "secret.jsonl")


def recording(data: Path, home: Path) -> None:
    (data / "a.wav").symlink_to(home / "private.wav")
    (data / "a.txt").write_text("x")


def named_recording(data: Path, home: Path) -> None:
    rows = [ROW | {"audio": str(home / "private.wav")}, ROW | {"id": "s", "audio": "../home/x.wav"}]
    (data / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def image(data: Path, home: Path) -> None:
    (data / "apple.png").symlink_to(home / "private.png")
    (data / "apple.txt").write_text("x")


def mask(data: Path, home: Path) -> None:
    write_image(data / "apple.png", seed=2)
    (data / "apple.mask.png").symlink_to(home / "private.png")


def subtitles(data: Path, home: Path) -> None:
    write_audio(data / "a.wav", seed=2, seconds=1.0)
    (data / "a.vtt").symlink_to(home / "secret")


def table(data: Path, home: Path) -> None:
    (data / "calls.csv").write_text(f"audio,text\n{home / 'private.wav'},x\n")


def linked_table(data: Path, home: Path) -> None:
    (data / "calls.csv").symlink_to(home / "secret")


def kaldi(data: Path, home: Path) -> None:
    (data / "wav.scp").write_text(f"r {home / 'private.wav'}\ns ../home/private.wav\n")
    (data / "text").write_text("r x\ns x\n")


def kaldi_below(data: Path, home: Path) -> None:
    (home / "wav.scp").write_text("r private.wav\n")
    (home / "text").write_text(f"r {SECRET}\n")
    (data / "train").symlink_to(home, target_is_directory=True)


Way = Callable[[Path, Path], None]
SEEN = (words, caption, other_caption, metadata, metadata_below, manifest, split_manifest,
        recording, named_recording, image, mask)  # fmt: skip
MANIFESTS = (manifest, split_manifest)
LINKED = {
    words: "transcripts",
    recording: "transcripts",
    subtitles: "subtitles",
    linked_table: "table",
    kaldi_below: "kaldi",
}
NAMED = {table: "table", kaldi: "kaldi"}


def make(way: Way, tmp_path: Path, home: Path) -> Path:
    data = tmp_path / "theirs"
    data.mkdir()
    way(data, home)
    return data


@pytest.mark.parametrize("way", SEEN)
def test_check_reads_nothing_outside(
    way: Way, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make(way, tmp_path, home)
    kind = "image" if any(data.rglob("*.png")) else "speech"
    code = main(["check", str(data), "--modality", kind, "--all"])
    shown = capsys.readouterr()
    assert code in (1, 2)
    assert SECRET not in shown.out + shown.err
    assert "outside" in shown.out or "leads out of the folder" in shown.err


@pytest.mark.parametrize("way", [way for way in SEEN if way not in MANIFESTS])
def test_no_row_holds_words_or_files_from_outside(way: Way, tmp_path: Path, home: Path) -> None:
    data = make(way, tmp_path, home)
    found = check(data, IMAGE if any(data.rglob("*.png")) else SPEECH, strict=False)
    for row in found.rows:
        assert SECRET not in row.reference
        for file in row.files.values():
            assert Path(file).resolve().is_relative_to(data)
    expected = 2 if way is named_recording else 1
    assert [f.kind for f in found.findings if f.severity == "error"] == ["outside"] * expected


@pytest.mark.parametrize("way", MANIFESTS)
def test_a_manifest_is_no_link_out_of_its_folder(way: Way, tmp_path: Path, home: Path) -> None:
    with pytest.raises(DataError, match="leads out of the folder"):
        check(make(way, tmp_path, home), SPEECH, strict=False)


@pytest.mark.parametrize("way", LINKED)
def test_import_follows_no_link_out_of_the_source(way: Way, tmp_path: Path, home: Path) -> None:
    data, to = make(way, tmp_path, home), tmp_path / "to"
    with pytest.raises(DataError, match=r"leads out of [\s\S]*--recordings DIR"):
        import_speech(data, to, LINKED[way])
    assert not to.exists()


@pytest.mark.parametrize("way", NAMED)
def test_import_copies_no_recording_from_outside(way: Way, tmp_path: Path, home: Path) -> None:
    data, to = make(way, tmp_path, home), tmp_path / "to"
    result = import_speech(data, to, NAMED[way])
    assert result.rows == 0
    assert result.left_out
    assert all("outside" in each.found for each in result.left_out)
    assert not list(to.rglob("*.flac"))


def test_recordings_may_lie_in_a_folder_that_the_user_names(tmp_path: Path, home: Path) -> None:
    data, to = make(kaldi, tmp_path, home), tmp_path / "to"
    assert main(["import", str(data), "--to", str(to), "--recordings", str(home)]) == 0
    assert len(list(to.rglob("*.flac"))) == 2


def test_caption_looks_at_no_image_outside(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "theirs"
    data.mkdir()
    (data / "red apple.png").symlink_to(home / "private.png")
    main(["caption", str(data)])
    assert "leads out of" in "".join(capsys.readouterr())
    assert list(data.glob("*.txt")) == []


def test_none_of_the_files_is_opened(tmp_path: Path, home: Path) -> None:
    # One folder per modality with all links that a scan meets at once, in one process.
    data = tmp_path / "theirs"
    data.mkdir()
    for way in (words, image, other_caption, metadata_below):
        (data / way.__name__).mkdir()
        way(data / way.__name__, home)
    watched = watch(["check", str(data), "--modality", "image", "--all"], tmp_path / "record.json")
    assert watched.code == 1, watched.err
    assert watched.opened_in(home) == []
    assert watched.ran == []


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", seed=2, seconds=1.0)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a").write_text("take metformin")
    (tmp_path / "a.txt").symlink_to(tmp_path / "texts" / "a")
    [row] = check(tmp_path, SPEECH, strict=False).rows
    assert row.reference == "take metformin"


def test_a_huge_sidecar_is_not_read_whole(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", seed=2, seconds=1.0)
    for name in ("a.txt", "a.vtt"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(3_000_000_000)  # sparse
    assert check(tmp_path, SPEECH, strict=False).rows == ()
    for layout in ("transcripts", "subtitles"):
        result = import_speech(tmp_path, tmp_path.parent / f"to-{layout}", layout)
        assert result.rows == 0
        assert "too many" in result.left_out[0].found


def test_a_parquet_file_is_imported_without_the_network(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "train-00000.parquet").write_bytes(corpus.typed_parquet())
    command = ["import", str(tmp_path / "train-00000.parquet"), "--to", str(tmp_path / "to")]
    watched = watch(command, tmp_path / "record.json", offline="0")
    assert watched.ran == []
    assert (tmp_path / "to" / "manifest.jsonl").read_text().count("\n") == 2
