"""The precomputed features of a dataset: read from the cache, or computed if they are missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from mmtune.prefix.cache import PrefixCache
from mmtune.prefix.stage import Part, Stage, Tensors, part_key


class Features:
    """Features of parts, read from the cache; missing ones are computed and stored.

    Training, validation, evaluation and transcription share one object, so that base and adapter
    read the same features.

    Args:
        stages: the task's stages by name.
        cache: the cache on disk; None computes all features again each time.
    """

    def __init__(self, stages: Mapping[str, Stage], cache: PrefixCache | None) -> None:
        self.stages = stages
        self.cache = cache

    def key(self, part: Part) -> str:
        """Return the cache key of `part`."""
        return part_key(self.stages[part.stage], part)

    def get(self, parts: Sequence[Part]) -> list[Tensors]:
        """Return the tensors of `parts`, in order."""
        found: dict[Part, Tensors] = {}
        missing: list[Part] = []
        for part in dict.fromkeys(parts):
            value = self.cache.get(self.key(part)) if self.cache is not None else None
            if value is None:
                missing.append(part)
            else:
                found[part] = value
        for block, values in self._encode(missing):
            found.update(zip(block, values, strict=True))
        return [found[part] for part in parts]

    def missing(self, parts: Iterable[Part]) -> list[Part]:
        """Return the distinct parts that are not in the cache."""
        distinct = dict.fromkeys(parts)
        if self.cache is None:
            return list(distinct)
        return [part for part in distinct if self.key(part) not in self.cache]

    def fill(self, parts: Iterable[Part], advance: Callable[[int], None] | None = None) -> int:
        """Compute and store the missing parts; return how many were computed."""
        missing = self.missing(parts)
        for block, _ in self._encode(missing):
            if advance is not None:
                advance(len(block))
        return len(missing)

    def _encode(self, parts: Sequence[Part]) -> Iterable[tuple[list[Part], list[Tensors]]]:
        # All parts of a block have one stage and one shape, so a value depends only on its part.
        groups: dict[tuple[str, str], list[Part]] = defaultdict(list)
        for part in parts:
            groups[part.stage, self.stages[part.stage].shape_key(part)].append(part)
        for (name, _), group in groups.items():
            stage = self.stages[name]
            for start in range(0, len(group), stage.block):
                block = group[start : start + stage.block]
                values = stage.encode(block)
                if self.cache is not None:
                    for part, value in zip(block, values, strict=True):
                        self.cache.put(self.key(part), value, note=f"{name} {stage.fingerprint}")
                yield block, values
