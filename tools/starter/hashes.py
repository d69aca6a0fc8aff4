"""Write assets/tensors.json: the hashes that mmtune compares before it uses a packaged model.

    python tools/starter/hashes.py

Run it after a model in assets/ was trained again; a test fails until then.
"""

from __future__ import annotations

import json
from pathlib import Path

from mmtune.system.installed import ASSET_HASHES
from mmtune.system.tensors import tensors_hash

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def hashes(assets: Path) -> dict[str, str]:
    """The hash of the tensors of each safetensors file, by its path in `assets`."""
    files = sorted(assets.rglob("*.safetensors"))
    return {path.relative_to(assets).as_posix(): tensors_hash(path) for path in files}


if __name__ == "__main__":
    text = json.dumps(hashes(ASSETS), indent=2) + "\n"
    (ASSETS / ASSET_HASHES).write_text(text, encoding="utf-8")
