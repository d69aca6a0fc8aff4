import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from mmtune.errors import ConfigError, MmtuneError
from mmtune.prefix.cache import LIMIT, PrefixCache, pinning
from mmtune.prefix.features import Features
from mmtune.prefix.stage import Part, Tensors
from mmtune.system.hashing import hash_text
from mmtune.system.locks import hold


def key(i: int) -> str:
    return hash_text(str(i))


def sample(i: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(i)
    return {"x": torch.randn(50, 8, generator=generator)}


def file_of(cache: PrefixCache, name: str) -> Path:
    (path,) = cache.root.rglob(f"{name}.safetensors")
    return path


def test_every_dtype_and_layout_comes_back(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path)
    base = torch.randn(4, 6)
    tensors = {
        "fp32": base, "transposed": base.T, "view": base[1:3], "same": base,
        "bf16": base.bfloat16(), "fp16": base.half(), "long": torch.arange(5),
        "bool": base > 0, "scalar": torch.tensor(3.5), "none": torch.zeros(0, 7),
    }  # fmt: skip
    assert cache.get(key(0)) is None
    assert key(0) not in cache
    cache.put(key(0), tensors, note="audio abc")
    assert key(0) in cache
    stored = cache.get(key(0))
    assert stored is not None
    assert stored.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert stored[name].dtype == tensor.dtype
        assert torch.equal(stored[name], tensor)
    stored["fp32"].add_(1)  # a reader's copy is its own
    again = cache.get(key(0))
    assert again is not None
    assert torch.equal(again["fp32"], base)


def test_any_flipped_bit_or_cut_reads_as_missing(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path)
    cache.put(key(0), {"x": torch.randn(8), "y": torch.arange(3)}, note="n")
    path = file_of(cache, key(0))
    whole = path.read_bytes()
    reads = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        value = cache.get(key(0))
        # The note and the padding after the header are no part of the value.
        if value is not None:
            reads += 1
            assert torch.equal(value["y"], torch.arange(3))
            assert place < len(whole) - 8 * 4 - 3 * 8
    assert reads < 40
    for length in (0, 7, 8, 50, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert cache.get(key(0)) is None
    cache.put(key(0), sample(1))  # and is mended by the next put
    assert cache.get(key(0)) is not None


def test_an_entry_under_another_entry_s_name_is_found_out(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path)
    cache.put(key(0), sample(0))
    cache.put(key(1), sample(1))
    file_of(cache, key(0)).write_bytes(file_of(cache, key(1)).read_bytes())
    assert cache.get(key(0)) is None
    assert cache.verify() == [key(0)]


def test_verify_removes_what_is_damaged(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path)
    for i in range(3):
        cache.put(key(i), sample(i))
    path = file_of(cache, key(1))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert cache.verify() == [key(1)]
    assert [key(i) in cache for i in range(3)] == [True, False, True]
    assert cache.verify() == []


def test_verify_meets_another_command_that_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = PrefixCache(tmp_path)
    cache.put(key(0), sample())

    def gone(path: Path) -> None:
        path.unlink()

    monkeypatch.setattr("mmtune.prefix.cache._read", gone)
    assert cache.verify() == [key(0)]


def test_ls_sums_by_note(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path)
    assert cache.ls() == []
    for i in range(3):
        cache.put(key(i), sample(i), note="audio tiny")
    cache.put(key(9), {"x": torch.zeros(5000)}, note="latent icons")
    latent, audio = cache.ls()
    assert (latent.note, latent.entries) == ("latent icons", 1)
    assert (audio.note, audio.entries) == ("audio tiny", 3)
    assert latent.bytes > 20_000
    assert abs(audio.last_used - time.time()) < 60


def age(cache: PrefixCache, i: int, days: float) -> None:
    then = time.time() - days * 86_400
    os.utime(file_of(cache, key(i)), (then, then))


def test_prune_by_age_then_by_size_the_longest_unused_first(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path / "not yet there")
    assert cache.prune(0, 0) == (0, 0)
    for i in range(4):
        cache.put(key(i), sample(i))
        age(cache, i, days=10 - i)
    size = file_of(cache, key(0)).stat().st_size
    assert cache.prune() == (0, 0)
    assert cache.prune(older_than_days=9.5) == (1, size)
    assert cache.get(key(1)) is not None  # used now: no longer the oldest
    assert cache.prune(max_bytes=2 * size + 1) == (1, size)
    assert [key(i) in cache for i in range(4)] == [False, True, False, True]


def test_interrupted_writes_are_swept_when_they_are_old(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path)
    cache.put(key(0), sample())
    folder = file_of(cache, key(0)).parent
    for name, days in (("old", 2), ("new", 0)):
        path = folder / f".partial-{name}"
        path.write_bytes(b"x")
        os.utime(path, (time.time() - days * 86_400,) * 2)
    assert cache.prune() == (0, 0)
    assert [p.name for p in folder.glob(".partial-*")] == [".partial-new"]
    assert sum(s.entries for s in cache.ls()) == 1


def test_what_a_living_run_has_pinned_stays(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path)
    for i in range(4):
        cache.put(key(i), sample(i))
    with cache.pin([key(0), key(1)]), cache.pin([key(2)]):
        assert PrefixCache(tmp_path).prune(max_bytes=0)[0] == 1
        assert [key(i) in cache for i in range(4)] == [True, True, True, False]
    assert cache.prune(max_bytes=0)[0] == 3


@pytest.mark.parametrize("work", ["prune", "pin", "pinning"])
def test_pruning_and_pinning_wait_for_each_other(tmp_path: Path, work: str) -> None:
    """A pin that is made while another process prunes would come too late for its entry."""
    cache = PrefixCache(tmp_path)
    cache.put(key(0), sample())

    def prune() -> None:
        PrefixCache(tmp_path).prune(max_bytes=0)

    def pin() -> None:
        with PrefixCache(tmp_path).pin([key(0)]):
            pass

    def use() -> None:
        with pinning():
            PrefixCache(tmp_path).get(key(0))

    thread = threading.Thread(target={"prune": prune, "pin": pin, "pinning": use}[work])
    with hold(tmp_path / "lock", tmp_path):
        (tmp_path / "pins").mkdir(exist_ok=True)
        thread.start()
        thread.join(0.15)
        assert thread.is_alive()
        assert _keys(cache) == [key(0)]
        assert not list((tmp_path / "pins").iterdir())
    thread.join(30)
    assert not thread.is_alive()
    assert (key(0) in cache) is (work != "prune")


HOLD = """
import sys, pathlib
from mmtune.prefix.cache import PrefixCache
with PrefixCache(pathlib.Path(sys.argv[1])).pin([sys.argv[2]]):
    print("pinned", flush=True)
    sys.stdin.read()
"""


def test_the_pin_of_a_killed_process_counts_no_longer(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path)
    cache.put(key(0), sample())
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), key(0)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "pinned\n"
        assert cache.prune(max_bytes=0) == (0, 0)
        holder.kill()
    assert cache.prune(max_bytes=0)[0] == 1
    assert not list((tmp_path / "pins").iterdir())


WRITE = """
import sys, pathlib, torch
from mmtune.prefix.cache import PrefixCache
from mmtune.system.hashing import hash_text
cache = PrefixCache(pathlib.Path(sys.argv[1]))
for turn in range(5):
    for i in range(10):
        value = cache.get(hash_text(str(i)))
        assert value is None or bool((value["x"] == i).all()), (turn, i)
        cache.put(hash_text(str(i)), {"x": torch.full((2000,), float(i))}, note="n")
"""


def test_two_runs_at_once_and_a_prune_between(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE, str(tmp_path)]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    cache = PrefixCache(tmp_path)
    while any(run.poll() is None for run in runs):
        cache.prune(max_bytes=20_000)
        cache.ls()
        assert cache.verify() == []
        time.sleep(0.05)
    assert [(run.returncode, run.communicate()[1]) for run in runs] == [(0, ""), (0, "")]
    assert cache.verify() == []


def test_threads_share_one_cache(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path)
    failures: list[object] = []

    def work() -> None:
        for i in range(20):
            cache.put(key(i), sample(i))
            value = cache.get(key(i))
            if value is None or not torch.equal(value["x"], sample(i)["x"]):
                failures.append(i)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_full_disk_leaves_nothing_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = PrefixCache(tmp_path)
    cache.put(key(0), sample())

    def full(self: Path, data: bytes) -> int:
        self.open("wb").close()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MmtuneError, match="disk is full") as caught:
        cache.put(key(0), sample(1))
    assert "mmtune cache prune" in caught.value.cure
    assert not list(tmp_path.rglob(".partial-*"))
    value = cache.get(key(0))
    assert value is not None
    assert torch.equal(value["x"], sample()["x"])


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a/b", "a.b", "x" * 200])
def test_a_key_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not a cache key"):
        PrefixCache(tmp_path).get(name)


def test_importing_the_cache_imports_no_torch() -> None:
    code = "import sys, mmtune.prefix.cache; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_command_touches_is_pinned_until_it_ends(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path)
    for i in range(5):
        cache.put(key(i), sample(i))
    with pinning():
        cache.get(key(0))
        assert key(1) in PrefixCache(tmp_path)  # another object of the same process
        cache.put(key(5), sample(5))
        assert PrefixCache(tmp_path).prune(max_bytes=0)[0] == 3
        assert sorted(_keys(cache)) == sorted(map(key, (0, 1, 5)))
    assert cache.prune(max_bytes=0)[0] == 3
    assert not list((tmp_path / "pins").iterdir())


def _keys(cache: PrefixCache) -> list[str]:
    return [path.stem for path in cache.root.rglob("*.safetensors")]


class Double:
    """A stage that computes one number."""

    fingerprint = "double"
    block = 1

    def shape_key(self, part: Part) -> str:
        return ""

    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        return [{"x": torch.tensor(2.0 * part.view)} for part in parts]


def test_features_stay_while_a_command_works_with_them(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path)
    features = Features({"double": Double()}, cache)
    parts = [Part("double", str(i), i) for i in range(4)]
    features.fill(parts)
    cache.put(key(9), sample())
    with pinning():
        assert features.missing(parts) == []
        assert cache.prune(max_bytes=0)[0] == 1
        assert features.missing(parts) == []


def test_a_cache_that_cannot_be_written_is_read_without_pins(tmp_path: Path) -> None:
    cache = PrefixCache(tmp_path)
    cache.put(key(0), sample())
    (tmp_path / "pins").write_text("no folder")
    with pinning():
        assert cache.get(key(0)) is not None


def test_the_limit_removes_the_longest_unused_and_spares_the_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PrefixCache(tmp_path).put(key(0), sample())
    size = file_of(PrefixCache(tmp_path), key(0)).stat().st_size
    monkeypatch.setenv(LIMIT, str(4.5 * size / 2**30))
    cache = PrefixCache(tmp_path)
    for i in range(1, 4):
        cache.put(key(i), sample(i))
    for i in range(4):
        age(cache, i, days=10 - i)
    with cache.pin([key(0)]):
        for i in range(4, 7):
            cache.put(key(i), sample(i))
        assert sorted(_keys(cache)) == sorted(map(key, (0, 4, 5, 6)))
    with pinning():
        for i in range(7, 14):
            cache.put(key(i), sample(i))
        assert len(_keys(cache)) == 7  # a running command keeps more than the limit
    assert len(_keys(cache)) == 4


def test_the_limit_is_kept_with_a_margin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full cache is pruned to 95 %, so that it isn't pruned again with every entry."""
    PrefixCache(tmp_path).put(key(0), sample())
    size = file_of(PrefixCache(tmp_path), key(0)).stat().st_size
    monkeypatch.setenv(LIMIT, str(10 * size / 2**30))
    cache = PrefixCache(tmp_path)
    assert cache.limit == 10 * size
    pruned: list[int | None] = []
    prune = PrefixCache.prune

    def watch(self: PrefixCache, *given: float, max_bytes: int | None = None) -> tuple[int, int]:
        pruned.append(max_bytes)
        return prune(self, *given, max_bytes=max_bytes)

    monkeypatch.setattr(PrefixCache, "prune", watch)
    for i in range(1, 13):
        cache.put(key(i), sample(i))
        assert len(_keys(cache)) <= 10
    assert set(pruned) == {round(9.5 * size)}
    assert len(_keys(cache)) == 9
    # An entry is more than a twentieth of this limit, so each put looks; of a larger limit, few do.
    assert len(pruned) == 12
    pruned.clear()
    monkeypatch.setenv(LIMIT, str(100 * size / 2**30))
    roomy = PrefixCache(tmp_path)
    for i in range(13, 26):
        roomy.put(key(i), sample(i))
    assert len(pruned) == 3  # the first one, and after each 5 % that were written


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "20 GB"])
def test_a_limit_that_is_no_size_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv(LIMIT, given)
    with pytest.raises(ConfigError, match=f"{LIMIT} is '{given}'"):
        PrefixCache(tmp_path)
