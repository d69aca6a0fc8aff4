"""Files are written whole or not at all, and each error of storage names its file and a cure."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mmtune.errors import ConfigError, MmtuneError
from mmtune.system import files
from mmtune.system.storage_errors import CURES, explained, translated

LONG = 200_000  # bytes; more than a writer keeps in its buffer


def write_folder(path: Path) -> None:
    with files.folder_aside(path) as partial:
        files.write_text(partial / "a.txt", "a" * LONG)


def write_outside(path: Path) -> None:
    with files.aside(path) as partial:
        partial.write_bytes(b"a" * LONG)
        partial.rename(path)


def by_library(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    with files.file_aside(path) as partial:
        save_file({"a": torch.zeros(LONG)}, partial)


def by_torch(path: Path) -> None:
    import torch

    with files.stream_aside(path) as stream:
        torch.save({"a": torch.zeros(LONG)}, stream)


def by_torch_path(path: Path) -> None:
    import torch

    with files.file_aside(path) as partial:
        torch.save({"a": torch.zeros(LONG)}, partial)


WRITERS: dict[str, Callable[[Path], object]] = {
    "write_bytes": lambda path: files.write_bytes(path, b"a" * LONG),
    "write_text": lambda path: files.write_text(path, "a" * LONG),
    "write_json": lambda path: files.write_json(path, ["a" * LONG]),
    "append_text": lambda path: files.append_text(path, "a" * LONG),
    "copy_file": lambda path: files.copy_file(Path(sys.executable), path),
    "folder_aside": write_folder,
    "aside": write_outside,
    "safetensors": by_library,
    "torch, a stream": by_torch,
    "torch, a path": by_torch_path,
}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk that ends after `size` bytes of each file; the system's errno is EFBIG."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("size", [0, 1_000])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_failed_write_names_its_file_and_leaves_nothing(
    writer: str, size: int, tmp_path: Path
) -> None:
    path = tmp_path / "made"
    with largest_file(size), pytest.raises(MmtuneError) as caught, translated():
        WRITERS[writer](path)
    assert caught.value.found.startswith(str(path)), caught.value
    assert caught.value.cure
    left = list(tmp_path.iterdir())
    assert left == [] or (writer == "append_text" and path.stat().st_size == 0)


@pytest.mark.parametrize("writer", [w for w in WRITERS if w not in {"folder_aside", "aside"}])
def test_a_failed_write_keeps_the_old_content(writer: str, tmp_path: Path) -> None:
    path = tmp_path / "made"
    path.write_text("old\n")
    with largest_file(1_000), pytest.raises(OSError, match=str(path)):
        WRITERS[writer](path)
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_missing_folder_is_named(writer: str, tmp_path: Path) -> None:
    path = tmp_path / "gone" / "made"
    if writer in {"folder_aside", "aside"}:
        WRITERS[writer](path)  # these make it
        assert path.exists()
        return
    with pytest.raises(MmtuneError, match=f"{tmp_path}/gone: no such file or folder"), translated():
        WRITERS[writer](path)


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_that_cannot_be_renamed_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    folder = tmp_path / "state"
    write_folder(folder)
    (folder / "b.txt").write_text("b")
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if not exchange and (self / "new.txt").exists():
            raise OSError(errno.EIO, "damaged", str(self), None, str(target))
        return real(self, target)

    def fails(one: Path, other: Path) -> bool:
        raise OSError(errno.EIO, "damaged", str(one), None, str(other))

    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(files, "_exchange", fails if exchange else lambda *_: False)
    with pytest.raises(OSError, match=str(folder)), files.folder_aside(folder) as partial:
        (partial / "new.txt").write_text("new")
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "b.txt"]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_with_and_without_an_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "b.txt").write_text("b")
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    write_folder(folder)
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_replaces_the_old_one_only_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    write_folder(folder)
    (folder / "b.txt").write_text("b")
    with largest_file(1_000), pytest.raises(OSError, match=str(folder)):
        write_folder(folder)
    assert (folder / "b.txt").is_file()
    with files.folder_aside(folder, durable=True) as partial:
        (partial / "c.txt").write_text("c")
    assert [path.name for path in folder.iterdir()] == ["c.txt"]
    assert list(tmp_path.iterdir()) == [folder]


def test_an_existing_path_is_never_replaced_by_aside(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="exists already"), files.aside(tmp_path / "link"):
        pass


def test_appending_ends_a_cut_line_first(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"st')
    files.append_text(path, '{"step": 2}\n')
    assert path.read_text().splitlines() == ['{"step": 1}', '{"st', '{"step": 2}']


@pytest.mark.parametrize("bit", [0, stat.S_ISGID], ids=["plain folder", "setgid folder"])
def test_private_files_are_their_owners(bit: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(0o770 | bit)
    old = os.umask(0o027)
    try:
        files.write_text(folder / "a", "a", private=True)
        files.append_text(folder / "b", "b", private=True)
        files.write_text(folder / "c", "c")
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    group = 0o640 if folder.stat().st_mode & stat.S_ISGID else 0o600
    assert modes == {"a": group, "b": group, "c": 0o640}


def test_a_shared_run_is_as_readable_as_the_umask_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files.private_mode(tmp_path) == 0o600
    monkeypatch.setenv(files.SHARED, "1")
    assert files.private_mode(tmp_path) == 0o666, "the umask decides"


def test_a_device_is_written_directly(tmp_path: Path) -> None:
    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    with pytest.raises(MmtuneError, match="the disk is full"), translated():
        files.write_text(link, "a")
    assert link.is_symlink()
    files.write_text(Path("/dev/null"), "a")


def test_what_killed_processes_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / f"{files.PARTIAL}folder").mkdir()
    (tmp_path / "a" / f"{files.PARTIAL}file").write_text("half")
    (tmp_path / "a" / f"{files.PARTIAL}link").symlink_to(tmp_path / "kept")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("whole")
    files.remove_partials(tmp_path)
    assert len(list((tmp_path / "a").iterdir())) == 3  # they are young
    monkeypatch.setattr(files, "LEFT_BEHIND", -1.0)
    files.remove_partials(tmp_path)
    assert list((tmp_path / "a").iterdir()) == []
    assert (tmp_path / "kept" / "file").is_file()


@pytest.mark.parametrize("number", CURES)
def test_each_number_of_the_system_has_a_reason_and_a_cure(number: int) -> None:
    found = explained(OSError(number, os.strerror(number), "runs/a/log.jsonl"))
    assert found is not None
    assert found.found.startswith("runs/a/log.jsonl: ")
    assert found.cure
    assert "Errno" not in str(found)


@pytest.mark.parametrize(
    "error",
    [TypeError("a"), KeyError("a"), RuntimeError("a"), OSError(errno.EBADF, "bad descriptor")],
)
def test_a_fault_of_mmtune_is_not_translated(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translated():
        raise error
    assert caught.value is error


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("old")
    code = (
        "import os, sys; from pathlib import Path; from mmtune.system import files\n"
        "with files.file_aside(Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], timeout=60).returncode == 9
    assert path.read_text() == "old"
