"""Safetensors files: equal content gives equal bytes, in any process; damage is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mmtune.errors import AdapterError, MmtuneError
from mmtune.system.hashing import hash_tensors
from mmtune.system.tensors import (
    load_tensors,
    make_reproducible,
    not_finite,
    read_metadata,
    require_finite,
    save_tensors,
    tensors_hash,
)

FACTS = {f"key {i}": f"wörd {i}" for i in range(12)}
TENSORS = {
    "b.weight": torch.arange(6.0).reshape(2, 3),
    "a.weight": torch.arange(4, dtype=torch.bfloat16),
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(7),
}


def test_what_is_saved_is_loaded_and_the_library_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, FACTS)
    for found in (load_tensors(path), load_file(path)):
        assert found.keys() == TENSORS.keys()
        for name, tensor in TENSORS.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)
    assert read_metadata(path) == FACTS
    with safe_open(path, "pt") as file:
        assert file.metadata() == FACTS
    assert tensors_hash(path) == hash_tensors(TENSORS.items())
    assert [each.name for each in tmp_path.iterdir()] == ["x.safetensors"]


def test_equal_content_gives_equal_bytes_whatever_the_library_does(tmp_path: Path) -> None:
    # safetensors orders the metadata anew for each file, as it does in each process.
    plain, ours, theirs = set(), set(), set()
    for i in range(12):
        names = [*TENSORS][i % 4 :] + [*TENSORS][: i % 4]
        tensors = {name: TENSORS[name] for name in names}
        save_file(tensors, tmp_path / "x", metadata=FACTS)
        plain.add((tmp_path / "x").read_bytes())
        make_reproducible(tmp_path / "x")
        theirs.add((tmp_path / "x").read_bytes())
        (tmp_path / "y").unlink(missing_ok=True)
        save_tensors(tmp_path / "y", tensors, dict(reversed(FACTS.items())))
        ours.add((tmp_path / "y").read_bytes())
    assert len(plain) > 1
    assert len(ours | theirs) == 1


def test_views_and_shared_memory_are_written(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    save_tensors(tmp_path / "x", {"turned": whole.T, "row": whole[1], "all": whole})
    assert torch.equal(load_tensors(tmp_path / "x")["turned"], whole.T)
    assert read_metadata(tmp_path / "x") == {}


@pytest.mark.parametrize(
    ("tensors", "facts", "again"),
    [
        (TENSORS, FACTS, False),
        (TENSORS | {"scalar": torch.tensor(8)}, FACTS, True),
        (TENSORS, FACTS | {"key 1": "other"}, True),
    ],
)
def test_a_file_that_holds_the_same_is_not_written_again(
    tmp_path: Path, tensors: dict[str, torch.Tensor], facts: dict[str, str], again: bool
) -> None:
    path = tmp_path / "x"
    save_file(TENSORS, path, metadata=FACTS)  # in another order: the content counts
    before = path.stat().st_ino
    save_tensors(path, tensors, facts)
    assert (path.stat().st_ino != before) is again
    assert tensors_hash(path) == hash_tensors(tensors.items())


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x10
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def garble(path: Path) -> None:
    path.write_bytes(b"\xff" * 40)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, garble, empty, Path.unlink])
@pytest.mark.parametrize("read", [load_tensors, read_metadata, tensors_hash])
def test_damage_is_an_error_that_names_the_file(
    tmp_path: Path, damage: Callable[[Path], None], read: Callable[..., object]
) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, FACTS)
    damage(path)
    with pytest.raises(AdapterError) as error:
        read(path, AdapterError, "copy it again")
    assert str(path) in error.value.found
    assert error.value.cure == "copy it again"


def test_a_flipped_bit_changes_the_hash_and_a_damaged_file_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "x"
    save_tensors(path, TENSORS, FACTS)
    whole = path.read_bytes()
    for damage in (flip, truncate):
        damage(path)
        save_tensors(path, TENSORS, FACTS)
        assert path.read_bytes() == whole


def test_make_reproducible_moves_no_tensor(tmp_path: Path) -> None:
    path = tmp_path / "x"
    save_file(TENSORS, path, metadata=FACTS)
    make_reproducible(path)
    save_tensors(tmp_path / "y", TENSORS, FACTS)
    assert path.read_bytes() == (tmp_path / "y").read_bytes()
    save_file(TENSORS, path)
    make_reproducible(path)
    assert read_metadata(path) == {}
    assert torch.equal(load_tensors(path)["b.weight"], TENSORS["b.weight"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_found(dtype: torch.dtype, value: float) -> None:
    wrong = torch.zeros(4, 4)
    wrong[3, 2] = value
    tensors = {"good": torch.ones(2, dtype=dtype), "bad": wrong.to(dtype)}
    assert not_finite(tensors) == "bad"
    assert not_finite({"whole": torch.ones(2, dtype=torch.int8), "none": torch.zeros(0)}) is None
    eight = torch.tensor([1.0, torch.nan]).to(torch.float8_e4m3fn)
    assert not_finite({"eight": eight}) == "eight"
    with pytest.raises(MmtuneError, match=r"x\.safetensors: the weights bad hold NaN"):
        require_finite(tensors, "x.safetensors")
