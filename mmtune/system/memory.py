"""Memory that runs out, said with what to do; and what a step will take, before it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from mmtune.errors import OutOfMemory, first_line

if TYPE_CHECKING:
    import torch

Phase = Literal["training", "storing the frozen prefix", "sampling"]
OUT_OF_MEMORY_TEXTS = ("out of memory", "can't allocate memory", "cannot allocate memory")
MIB = 2**20


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the machine had no memory left.

    PyTorch raises its own class on a GPU, and a bare `RuntimeError` on the CPU and from some of the
    libraries below it.
    """
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY_TEXTS)


@contextmanager
def guarded(doing: str, settings: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Within it, memory that runs out is an error that names the settings to change.

    Args:
        doing: what is done in it.
        settings: `--name value (why)` of each setting that takes less, in the order to try them.

    Raises:
        OutOfMemory: memory ran out. The innermost of several guards speaks.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory ({doing}): {first_line(error)}", in_order(settings())
        ) from error


def in_order(settings: Sequence[str]) -> str:
    """The settings as one cure."""
    if not settings:
        return "end other programs, or take a smaller base or a machine with more memory"
    return "change one after another, until it fits: " + "; ".join(settings)


class Gauge(Protocol):
    """Reads how much of a device's memory is used."""

    def used(self) -> int:
        """Bytes that tensors hold now."""
        ...

    def peak(self, work: Callable[[], object]) -> int:
        """The most bytes that tensors held while `work` was done."""
        ...

    def available(self) -> int:
        """Bytes that tensors of this process may hold in all."""
        ...


class CudaGauge:
    """A GPU's allocator."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def used(self) -> int:
        """What is allocated."""
        import torch

        return torch.cuda.memory_allocated(self.device)

    def peak(self, work: Callable[[], object]) -> int:
        """The allocator's peak, reset before."""
        import torch

        torch.cuda.reset_peak_memory_stats(self.device)
        work()
        return torch.cuda.max_memory_allocated(self.device)

    def available(self) -> int:
        """What is free on the device, and what this process has reserved of it."""
        import torch

        free, _ = torch.cuda.mem_get_info(self.device)
        return free + torch.cuda.memory_reserved(self.device)


def gauge_of(device: torch.device) -> Gauge | None:
    """None on a CPU, whose memory other programs share and swap."""
    return CudaGauge(device) if device.type == "cuda" else None


@dataclass(frozen=True)
class Need:
    """What a training step will hold, from one row that was tried.

    Attributes:
        resting: bytes before the step: the weights of base and adapter.
        one_row: bytes that one row's step had beyond that.
        optimizer: bytes of gradients and Adam's two moments.
        available: bytes that there are.
    """

    resting: int
    one_row: int
    optimizer: int
    available: int

    def of(self, rows: int) -> int:
        """Bytes for `rows` in one forward."""
        return self.resting + self.optimizer + rows * self.one_row

    def fits(self, rows: int) -> bool:
        """Whether that is available."""
        return self.of(rows) <= self.available

    def warning(self, rows: int, settings: Sequence[str]) -> str:
        """Said before a step that will probably fail."""
        return (
            f"memory     {rows} rows at once will take about {self.of(rows) / MIB:,.0f} MiB "
            f"(base and adapter {self.resting / MIB:,.0f}, each row {self.one_row / MIB:,.0f}), "
            f"there are {self.available / MIB:,.0f}; {in_order(settings)}"
        )


def need_of(gauge: Gauge, trainable: int, one_row: Callable[[], object]) -> Need:
    """Make one row's step and see what it took.

    Args:
        trainable: parameters that train, in fp32: 4 bytes of gradient and 8 of moments for each.
    """
    resting = gauge.used()
    peak = gauge.peak(one_row)
    return Need(resting, max(0, peak - resting), 12 * trainable, gauge.available())
