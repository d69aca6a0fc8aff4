"""Evaluate on several processes: the main process asks, and all processes share the batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from mmtune.predict import BatchedPredictor, Prediction, Request
from mmtune.system.processes import this_process

P = TypeVar("P", bound=BatchedPredictor)
Wrap = Callable[[P], BatchedPredictor]
VariantBatches = tuple[str, list[list[Request]]]  # a variant's name, and batches for it


class SharedPredictor(Generic[P]):
    """A predictor that every process loads and that only the main process asks.

    The batches are those of a single process, and one process answers each batch as a whole. So
    the answers have the same bits for any number of processes.

    Args:
        opened: loads the predictor; each process calls it at most once.
        variants: other ways to ask the same models, by name.
    """

    def __init__(
        self, opened: Callable[[], P], variants: Mapping[str, Wrap[P]] | None = None
    ) -> None:
        self._open = opened
        self._variants = dict(variants or {})
        self._opened: P | None = None
        self._known: dict[str, BatchedPredictor] = {}

    def of(self, variant: str = "") -> BatchedPredictor:
        """Return the predictor or a variant of it; the first call loads the model."""
        if self._opened is None:
            self._opened = self._open()
        if not variant:
            return self._opened
        if variant not in self._known:
            self._known[variant] = self._variants[variant](self._opened)
        return self._known[variant]

    @property
    def processes(self) -> int:
        """The number of processes that share the work."""
        return int(this_process().num_processes)

    @contextmanager
    def asking(self) -> Iterator[bool]:
        """Let the main process ask: it gets True and may call `answer` inside the context.

        The other processes answer its requests until it leaves the context; then they get False. If
        the main process fails, it sends nothing, and the launcher ends all processes.
        """
        from accelerate.utils import broadcast_object_list

        if not this_process().is_main_process:
            self._serve()
            yield False
            return
        yield True
        broadcast_object_list([None])

    def answer(self, variant: str, asked: Sequence[Sequence[Request]]) -> list[list[Prediction]]:
        """Predict several lists of requests, in order.

        Each list is divided into batches by itself (`BatchedPredictor.batches`).
        """
        predictor = self.of(variant)
        if self.processes == 1:
            return [predictor.predict(requests) for requests in asked]
        plans = [predictor.batches(requests) for requests in asked]
        batches = [
            [requests[place] for place in batch]
            for requests, plan in zip(asked, plans, strict=True)
            for batch in plan
        ]
        found = iter(self._all((variant, batches)))
        answers: list[list[Prediction]] = []
        for requests, plan in zip(asked, plans, strict=True):
            by_place: dict[int, Prediction] = {}
            for batch in plan:
                by_place |= dict(zip(batch, next(found), strict=True))
            answers.append([by_place[place] for place in range(len(requests))])
        return answers

    def _serve(self) -> None:
        from accelerate.utils import broadcast_object_list

        while True:
            told: list[VariantBatches | None] = [None]
            broadcast_object_list(told)
            if told[0] is None:
                return
            self._share(told[0])

    def _all(self, asked: VariantBatches) -> list[list[Prediction]]:
        """Send the main process's batches to all processes, and collect the answers in order."""
        from accelerate.utils import broadcast_object_list

        broadcast_object_list([asked])
        return self._share(asked)

    def _share(self, asked: VariantBatches) -> list[list[Prediction]]:
        from accelerate.utils import gather_object

        variant, batches = asked
        state = this_process()
        mine = range(state.process_index, len(batches), state.num_processes)
        answers = [(place, self.of(variant).predict(batches[place])) for place in mine]
        found: dict[int, list[Prediction]] = dict(gather_object(answers))
        return [found[place] for place in range(len(batches))]


def agreed(value: bool) -> bool:
    """Return the main process's value on all processes."""
    from accelerate.utils import broadcast_object_list

    values = [value]
    broadcast_object_list(values)
    return values[0]
