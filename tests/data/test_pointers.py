"""Pointers of Git LFS and git-annex are called by name, wherever they stand for a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.config import DataOptions
from mmtune.data.check import check
from mmtune.errors import MmtuneError
from mmtune.runs.modalities import guess_modality
from mmtune.speech.corpus.importers import import_speech
from mmtune.speech.corpus.term_list import read_terms
from mmtune.system.pointers import pointer_in
from tests.data.pieces import IMAGE, SPEECH, write_audio, write_image

LFS = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
ANNEX = b"/annex/objects/SHA256E-s12345--4d7a2146.png\n"


@pytest.mark.parametrize(
    ("head", "cure"),
    [
        (LFS, "git lfs pull"),
        (b"\xef\xbb\xbf" + LFS, "git lfs pull"),
        (LFS.replace(b"\n", b"\r\n"), "git lfs pull"),
        (ANNEX, "git annex get ."),
        (b"../../.git/annex/objects/x/y/SHA256E-s1--a/SHA256E-s1--a.png", "git annex get ."),
        (b"version 1 of our text", ""),
        (b"see /annex/objects/", ""),
    ],
)
def test_pointers_are_known_by_their_first_bytes(head: bytes, cure: str) -> None:
    found = pointer_in(head)
    assert (found.cure if found else "") == cure


@pytest.mark.parametrize("pointer", [LFS, ANNEX], ids=["lfs", "annex"])
@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac", "a.m4a", "a.txt", "notes.md"])
def test_of_recordings_and_their_words(tmp_path: Path, name: str, pointer: bytes) -> None:
    if name in ("a.txt", "notes.md"):
        write_audio(tmp_path / "a.wav", 1)
    (tmp_path / "a.txt").write_text("words")
    (tmp_path / name).write_bytes(pointer)
    data = check(tmp_path, SPEECH, DataOptions(validation=0, test=0), strict=False)
    [found] = [f for f in data.findings if f.kind == "lfs-pointer"]
    assert "is a pointer of" in found.message
    assert not [row for row in data.rows if "annex" in row.reference or "git-lfs" in row.reference]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "meta_cap.json"])
def test_of_metadata_stop_the_check(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "red apple.png", 1)
    (tmp_path / name).write_bytes(LFS)
    data = check(tmp_path, IMAGE, DataOptions(validation=0, test=0), strict=False)
    [found] = [f for f in data.findings if f.kind == "unreadable-metadata"]
    assert "is a pointer of Git LFS" in found.message
    assert found.cure == "git lfs pull"


def test_of_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_bytes(LFS)
    with pytest.raises(MmtuneError, match=r"manifest.jsonl is a pointer of Git LFS"):
        guess_modality(tmp_path)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.json", "t.parquet"])
def test_of_tables(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(LFS)
    layout = "huggingface" if name.endswith("parquet") else "table"
    with pytest.raises(MmtuneError, match="is a pointer of Git LFS"):
        import_speech(tmp_path / name, tmp_path / "out", layout)


def test_of_transcripts_subtitles_and_term_lists(tmp_path: Path) -> None:
    source = tmp_path / "in"
    write_audio(source / "a.wav", 1)
    (source / "a.txt").write_bytes(LFS)
    found = import_speech(source, tmp_path / "out", "transcripts").left_out
    assert "lfs-pointer" in [each.kind for each in found]
    (source / "a.txt").unlink()
    (source / "a.srt").write_bytes(LFS)
    told = import_speech(source, tmp_path / "other", "subtitles").left_out
    assert any("is a pointer of Git LFS" in each.found for each in told)
    (tmp_path / "terms.txt").write_bytes(LFS)
    with pytest.raises(MmtuneError, match="is a pointer of Git LFS"):
        read_terms(tmp_path / "terms.txt")


@pytest.mark.parametrize("written", ["../elsewhere", "./inner", "../elsewhere/b.png"])
def test_a_link_that_was_copied_as_a_text_is_named(tmp_path: Path, written: str) -> None:
    """Git writes the path of a link into a file where the file system knows no links."""
    write_image(tmp_path / "data" / "red apple.png", 1)
    write_image(tmp_path / "elsewhere" / "b.png", 2)
    (tmp_path / "data" / "inner").mkdir()
    (tmp_path / "data" / "more").write_text(written)
    (tmp_path / "data" / "note").write_text("../gone")
    data = check(tmp_path / "data", IMAGE, DataOptions(validation=0, test=0), strict=False)
    kinds = {f.row: f.kind for f in data.findings if f.kind in ("link", "unused-file")}
    assert kinds == {"more": "link", "note": "unused-file"}
