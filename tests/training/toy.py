"""The smallest task there is: a third modality, so that the loop is tested without the real two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mmtune.data.rows import Row
from mmtune.prefix.cache import PrefixCache
from mmtune.prefix.features import Features
from mmtune.prefix.stage import Part, Tensors
from mmtune.system.hashing import hash_tensors, hash_text
from mmtune.training.randomness import Draw
from mmtune.training.task import Batch, Example, Loss, Monitor, ParamGroup

WIDTH = 12


class ToyRow(Row):
    media: ClassVar[str] = "text"
    text: str

    @property
    def reference(self) -> str:
        return self.text


class ToyStage:
    fingerprint = "toy-1"
    block = 1

    def __init__(self) -> None:
        self.encoded = 0

    def shape_key(self, part: Part) -> str:
        return ""

    def encode(self, parts: Sequence[Part]) -> list[Tensors]:
        self.encoded += len(parts)
        return [{"x": Draw(part.view, 0, part.source).normal("x", (WIDTH,))} for part in parts]


class ToyModule(nn.Module):
    """A frozen linear layer and a trainable low-rank one beside it."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.frozen = nn.Linear(WIDTH, 4)
        with torch.no_grad():
            self.frozen.weight.copy_(torch.randn(4, WIDTH, generator=generator))
            self.frozen.bias.zero_()
        self.frozen.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(3, WIDTH, generator=generator) / 4)
        self.up = nn.Parameter(torch.zeros(4, 3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Batch) -> Loss:
        out = self.frozen(batch["x"]) + self.dropout(batch["x"]) @ self.down.T @ self.up.T
        errors = (out - batch["y"]) ** 2
        return Loss((errors * batch["mask"]).sum(1) * batch["poison"], batch["mask"].sum(1))


class ToyTask:
    monitor = Monitor("error", higher_is_better=False)

    def __init__(
        self,
        cache: PrefixCache | None = None,
        *,
        views: int = 1,
        dropout: float = 0.0,
        buckets: int = 1,
        poison: frozenset[str] = frozenset(),
        worse_after: int | None = None,
    ) -> None:
        self.stage = ToyStage()
        self.features = Features({"toy": self.stage}, cache)
        self.module = ToyModule(dropout)
        self.base_hash = hash_tensors([("w", self.module.frozen.weight)])
        self.views, self.buckets, self.poison = views, buckets, poison
        self.worse_after, self.validations = worse_after, 0

    def variants(self, row: Row) -> Iterable[Part]:
        return [Part("toy", hash_text(row.id), view) for view in range(self.views)]

    def bucket(self, row: Row) -> str:
        return str(int(hash_text(row.id), 16) % self.buckets)

    def choose(self, row: Row, draw: Draw) -> Example:
        view = draw.integer("view", self.views)
        return Example(row, (Part("toy", hash_text(row.id), view),))

    def collate(
        self,
        examples: Sequence[Example],
        tensors: Sequence[Mapping[str, Tensors]],
        draws: Sequence[Draw],
    ) -> Batch:
        # Rows count for 1 to 4 units, so that a mean of means would be wrong.
        masks = [[1.0] * n + [0.0] * (4 - n) for n in (1 + d.integer("n", 4) for d in draws)]
        return {
            "x": torch.stack([t["toy"]["x"] for t in tensors]),
            "y": torch.stack([d.normal("y", (4,)) for d in draws]),
            "mask": torch.tensor(masks),
            "poison": torch.tensor(
                [float("nan") if e.row.id in self.poison else 1.0 for e in examples]
            ),
        }

    def param_groups(self) -> list[ParamGroup]:
        return [{"params": [p for p in self.module.parameters() if p.requires_grad]}]

    def validate(self, rows: Sequence[Row]) -> dict[str, float]:
        self.validations += 1
        torch.randn(7)  # uses global randomness, as a careless task would
        if self.worse_after is not None:
            return {"error": float(abs(self.validations - 1 - self.worse_after))}
        draws = [Draw(0, 999, row.id) for row in rows]
        examples = [self.choose(row, draw) for row, draw in zip(rows, draws, strict=True)]
        stored = [{"toy": t} for t in self.features.get([p for e in examples for p in e.parts])]
        loss = self.module(self.collate(examples, stored, draws))
        return {"error": float(loss.total.sum() / loss.units.sum())}

    def lighter(self, doing: str) -> Sequence[str]:
        return [f"--width 6 ({doing})"]

    def save(self, folder: Path) -> None:
        weights: dict[str, Tensor] = {n: p.detach() for n, p in self.weights()}
        save_file(weights, folder / "toy.safetensors")

    def weights(self) -> list[tuple[str, nn.Parameter]]:
        return [(n, p) for n, p in self.module.named_parameters() if p.requires_grad]


def rows(n: int, prefix: str = "row") -> list[ToyRow]:
    return [ToyRow(id=f"{prefix}-{i}", text=f"words {i}", split="train") for i in range(n)]
