"""The methods by which an adapter is trained: one table that settings, training and loaders read.

A method changes each adapted layer's weight by itself (all but prefix tuning), so it can be folded
into the weights. `mmtune/adapters/peft_configs.py` makes peft's configuration of a method, and
`mmtune/adapters/method_files.py` reads one from an adapter's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

MethodName = Literal["lora", "dora", "loha", "lokr", "ia3", "prefix"]
MethodNames = tuple[MethodName, ...]

RANKED = frozenset({"lora.rank", "lora.alpha", "lora.targets"})


@dataclass(frozen=True)
class Method:
    """A way to train an adapter.

    Attributes:
        name: the value of `adapter.method`.
        title: its name in the literature.
        peft_type: peft's name of it.
        settings: those of the sections `lora` and `adapter` that it has.
        from_zero: names of the parameters that are zero at first. Its change is linear in them, so
            a factor on them is the adapter's strength.
        from_one: names of the vectors that are one at first, and that layers are multiplied by. A
            factor on their distance from one is the adapter's strength.
        by_layer: whether it changes each layer's weight, so that the weight with its change can
            replace it.
        merges: whether `mmtune compose` can merge several adapters into one.
    """

    name: MethodName
    title: str
    peft_type: str
    settings: frozenset[str]
    from_zero: tuple[str, ...] = ()
    from_one: tuple[str, ...] = ()
    by_layer: bool = True
    merges: bool = False

    @property
    def has_strength(self) -> bool:
        """Whether an adapter can act with any strength between off and on."""
        return bool(self.from_zero or self.from_one)


_ALL = (
    Method(
        "lora",
        "LoRA",
        "LORA",
        RANKED | {"lora.dropout", "lora.rslora", "lora.dora"},
        from_zero=("lora_B", "lora_embedding_B"),
        merges=True,
    ),
    # At strength 0 its magnitudes still act, so there is no strength between off and on.
    Method("dora", "DoRA", "LORA", RANKED | {"lora.dropout", "lora.rslora", "lora.dora"}),
    Method("loha", "LoHa", "LOHA", RANKED, from_zero=("hada_w2_b",)),
    Method("lokr", "LoKr", "LOKR", RANKED | {"adapter.factor"}, from_zero=("lokr_w1",)),
    Method("ia3", "(IA)³", "IA3", frozenset({"lora.targets"}), from_one=("ia3_l",)),
    Method(
        "prefix", "prefix tuning", "PREFIX_TUNING", frozenset({"adapter.tokens"}), by_layer=False
    ),
)
METHODS: Mapping[str, Method] = {each.name: each for each in _ALL}
BY_LAYER: MethodNames = tuple(each.name for each in _ALL if each.by_layer)
# What a modality has that knows nothing of the others: its code attaches a LoRA.
LORA_ALONE: MethodNames = ("lora", "dora")
SETTINGS = frozenset().union(*(each.settings for each in _ALL))


def method_of_peft(peft_type: str, dora: bool = False) -> Method | None:
    """Find a method by peft's name of it; None if it isn't in the table.

    Args:
        peft_type: such as "LOHA".
        dora: whether peft's configuration has `use_dora`.
    """
    if peft_type == "LORA" and dora:
        return METHODS["dora"]
    return next((each for each in _ALL if each.peft_type == peft_type), None)
