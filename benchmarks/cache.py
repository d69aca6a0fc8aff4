"""Time `mmtune cache prune` and `ls` on a cache of many entries.

    python benchmarks/cache.py --entries 100000

One entry in a hundred is pinned, as a running command does, and prune removes the others. Entries
are small, because their size doesn't matter to either.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save

from mmtune.prefix.cache import SUFFIX, PrefixCache
from mmtune.system.hashing import hash_text


def fill(cache: PrefixCache, entries: int) -> list[str]:
    """Write entries as `put` does, without its checks; return their keys."""
    data = save({"x": torch.zeros(256)}, metadata={"note": "audio benchmark"})
    keys = [hash_text(str(i)) for i in range(entries)]
    for key in keys:
        folder = cache.root / key[:2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{key}{SUFFIX}").write_bytes(data)
    return keys


def main() -> None:
    """Fill a cache, and print how long each action takes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the cache is made (default: a new one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        cache = PrefixCache(Path(folder))
        keys = fill(cache, options.entries)

        def timed(name: str, done: object) -> None:
            wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
            print(f"{name:<6} {wall:6.2f} s, {cpu:6.2f} s of CPU: {done}")

        began = time.perf_counter(), time.process_time()
        timed("ls", cache.ls()[0].entries)
        with cache.pin(keys[::100]):
            began = time.perf_counter(), time.process_time()
            timed("prune", cache.prune(max_bytes=0))


if __name__ == "__main__":
    main()
