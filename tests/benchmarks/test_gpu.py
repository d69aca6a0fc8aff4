"""benchmarks/gpu.py without a GPU: the published sizes, and the same code on small bases."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
# Parameters of denoisers, and what the authors' model cards and repositories say of them. "Exact":
# sums over the headers of the published safetensors, as stated publicly.
EXACT = {
    "sd": 859_520_964,
    "sdxl": 2_567_463_684,
    "z-image": 6_154_908_736,
    "flux-dev": 11_901_408_320,
    "qwen-image": 20_430_401_088,
}
BILLIONS = {
    "sd35-medium": "2.5",
    "flux2-klein-4b": "4",
    "z-image": "6",
    "chroma": "8.9",
    "flux-dev": "12",
    "qwen-image": "20",
    "flux2-dev": "32",
}
# Of autoencoders with the buffers that are stored, by the headers of the published safetensors.
AUTOENCODERS = {
    "sdxl": 83_653_863,
    "sd35-medium": 83_819_683,
    "flux-dev": 83_819_683,
    "flux2-dev": 84_046_371,
    "qwen-image": 126_892_531,
}


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch):
    """The scripts of benchmarks import each other by their short names."""
    names = [path.stem for path in BENCHMARKS.glob("*.py")]
    saved = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(saved)


@pytest.fixture
def gpu() -> ModuleType:
    return importlib.import_module("gpu")


@pytest.fixture
def published() -> ModuleType:
    return importlib.import_module("published")


def size(model: torch.nn.Module, buffers: bool) -> int:
    found = [*model.parameters(), *(model.buffers() if buffers else ())]
    return sum(tensor.numel() for tensor in found)


def run(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, *given: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *given])
    with pytest.raises(SystemExit) as stopped:
        gpu.main()
    return stopped.value.code


def test_denoisers_have_their_published_sizes(published: ModuleType) -> None:
    from mmtune.image.diffusion.families import FAMILIES

    sizes = []
    for name, base in published.BASES.items():
        with torch.device("meta"):
            model = published.denoiser(name)
        assert size(model, buffers=False) == base.parameters, name
        sizes.append(base.parameters)
        if name in EXACT:
            assert base.parameters == EXACT[name], name
        if name in BILLIONS:
            digits = len(BILLIONS[name].partition(".")[2])
            # SD 3.5's table of positions is a stored buffer that its authors count.
            assert f"{size(model, buffers=True) / 1e9:.{digits}f}" == BILLIONS[name], name
    assert set(EXACT) | set(BILLIONS) == set(published.BASES)
    assert sizes == sorted(sizes)  # the smallest come first
    assert {f.pipeline_class for f in FAMILIES} == {b.pipeline for b in published.BASES.values()}


def test_autoencoders_have_their_published_sizes(published: ModuleType) -> None:
    for name, parameters in AUTOENCODERS.items():
        with torch.device("meta"):
            model = published.autoencoder(name)
        counted = {k: t for k, t in model.state_dict().items() if "num_batches" not in k}
        assert sum(t.numel() for t in counted.values()) == parameters, name


def test_published_sizes_are_refused_without_a_gpu(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(gpu, monkeypatch) == 2
    assert "no NVIDIA GPU was found" in capsys.readouterr().err


SMALL = ["--shrink", "16", "--side", "64", "--precision", "fp32", "--steps", "1", "--rows", "8"]


def cells(out: Path) -> list[list[str]]:
    lines = [line for line in out.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_rows_are_written_as_they_are_made(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A small FLUX.2 [klein] is trained; what can't be measured says why."""
    out, ways = tmp_path / "gpu.md", ["int8-checkpointing", "nf4", "diffusers"]
    given = [*SMALL, "--families", "flux2-klein-4b", "--ways", *ways, "--out", str(out)]
    assert run(gpu, monkeypatch, *given) == 0
    trained, nf4, diffusers = cells(out)
    assert (trained[0], trained[4]) == ("FLUX.2 [klein] base 4B", "7.49")
    seconds, loss = map(float, trained[8:])
    assert min(seconds, loss) > 0
    assert "need an NVIDIA GPU" in nf4[3]
    assert "written for UNets" in diffusers[3]


def test_no_row_is_started_after_the_time(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "gpu.md"
    given = [*SMALL, "--families", "z-image", "--minutes", "0", "--out", str(out)]
    assert run(gpu, monkeypatch, *given) == 0
    assert [row[2] for row in cells(out)] == gpu.DEFAULT_WAYS
    assert all("of 0 minutes are left" in row[3] for row in cells(out))


def test_what_does_not_fit_is_named(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench = gpu.Bench(SimpleNamespace(minutes=8, precision="bf16"), tmp_path)
    size = EXACT["qwen-image"]

    def no_room(name: str, way: str) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(bench, "_measure", no_room)
    assert bench._tried("qwen-image", "nf4", size).startswith("does not fit: CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (24 * 2**30, 24 * 2**30))
    assert "take 38.1 GiB or more, and the GPU has 24.0 GiB" in bench._refused(
        "qwen-image", "whole", size
    )
    assert bench._refused("qwen-image", "int8", size) == ""
    bench.paces["int8"] = 60 / EXACT["flux-dev"]  # seconds a parameter
    assert bench._refused("qwen-image", "int8", size) == ""
    bench.args.minutes = 1
    reason = bench._refused("qwen-image", "int8", size)
    assert "about 103 s are needed" in reason
    assert reason.endswith("of 1 minutes are left")


@pytest.mark.slow
def test_every_family_is_measured_on_a_processor(
    gpu: ModuleType, published: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out, ways = tmp_path / "gpu.md", ["whole", "diffusers"]
    given = [*SMALL, "--minutes", "60", "--ways", *ways, "--out", str(out)]
    assert run(gpu, monkeypatch, *given) == 0
    rows = cells(out)
    assert [row[0] for row in rows[::2]] == [base.title for base in published.BASES.values()]
    for row in rows:
        unet = row[0] in ("Stable Diffusion 1.5", "SDXL 1.0")
        measured = row[2] != "diffusers" or unet
        assert (len(row[3:]) == 7 and row[8] != "") == measured, row
