"""Turn out-of-memory errors into settings to lower; estimate a step's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from mmtune.errors import OutOfMemory, first_line

if TYPE_CHECKING:
    import torch

Phase = Literal["training", "computing features", "sampling"]
OUT_OF_MEMORY_TEXTS = ("out of memory", "can't allocate memory", "cannot allocate memory")
MIB = 2**20


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device or the machine ran out of memory.

    PyTorch raises its own class on a GPU. On the CPU, and from some libraries below PyTorch, it is
    a bare `RuntimeError`.
    """
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY_TEXTS)


@contextmanager
def guarded(doing: str, settings: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Turn an out-of-memory error inside the context into one that names settings to change.

    Args:
        doing: what the context does, for the message.
        settings: gives `--name value (why)` for each setting that needs less memory, in the order
            to try them.

    Raises:
        OutOfMemory: memory ran out. Of nested contexts, the innermost one raises it.
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
    """Format the settings as one cure."""
    if not settings:
        return "close other programs, use a smaller base, or use a machine with more memory"
    return "change these settings one after another until the run fits: " + "; ".join(settings)


class Gauge(Protocol):
    """Measures the memory of a device."""

    def used(self) -> int:
        """Return the bytes that tensors occupy now."""
        ...

    def peak(self, work: Callable[[], object]) -> int:
        """Run `work` and return the most bytes that tensors occupied meanwhile."""
        ...

    def available(self) -> int:
        """Return the bytes that this process's tensors may occupy in total."""
        ...


class CudaGauge:
    """Measures a GPU's memory through PyTorch's allocator."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def used(self) -> int:
        """Return the bytes that are allocated now."""
        import torch

        return torch.cuda.memory_allocated(self.device)

    def peak(self, work: Callable[[], object]) -> int:
        """Reset the allocator's peak, run `work`, and return the new peak in bytes."""
        import torch

        torch.cuda.reset_peak_memory_stats(self.device)
        work()
        return torch.cuda.max_memory_allocated(self.device)

    def available(self) -> int:
        """Return the device's free bytes plus the bytes that this process has reserved."""
        import torch

        free, _ = torch.cuda.mem_get_info(self.device)
        return free + torch.cuda.memory_reserved(self.device)


def gauge_of(device: torch.device) -> Gauge | None:
    """Return the gauge of a device; None for a CPU, whose memory other programs share and swap."""
    return CudaGauge(device) if device.type == "cuda" else None


@dataclass(frozen=True)
class MemoryNeed:
    """The memory that a training step needs, estimated from a step with one row.

    Attributes:
        resting: bytes in use before the step: the weights of base and adapter.
        one_row: further bytes that the step with one row needed.
        optimizer: bytes of the gradients and of Adam's two moments.
        available: bytes that the device can give.
    """

    resting: int
    one_row: int
    optimizer: int
    available: int

    def of(self, rows: int) -> int:
        """Estimate the bytes that a forward pass with `rows` rows needs."""
        return self.resting + self.optimizer + rows * self.one_row

    def fits(self, rows: int) -> bool:
        """Whether a forward pass with `rows` rows fits into the available memory."""
        return self.of(rows) <= self.available

    def warning(self, rows: int, settings: Sequence[str]) -> str:
        """Format the warning for a step that will probably run out of memory."""
        return (
            f"memory     {rows} rows at once need about {self.of(rows) / MIB:,.0f} MiB "
            f"(base and adapter {self.resting / MIB:,.0f}, each row {self.one_row / MIB:,.0f}), "
            f"but only {self.available / MIB:,.0f} MiB are available; {in_order(settings)}"
        )


def measure_need(gauge: Gauge, trainable: int, one_row: Callable[[], object]) -> MemoryNeed:
    """Run a step with one row and measure the memory that it needs.

    Args:
        gauge: measures the device's memory.
        trainable: number of trainable parameters, in fp32: each needs 4 bytes for its gradient and
            8 for Adam's moments.
        one_row: runs the step.
    """
    resting = gauge.used()
    peak = gauge.peak(one_row)
    return MemoryNeed(resting, max(0, peak - resting), 12 * trainable, gauge.available())
