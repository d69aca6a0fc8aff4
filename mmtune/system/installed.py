"""Whether the weights that came with a package are what was packed: ours, and another package's."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
from functools import cache
from pathlib import Path

from mmtune.errors import MmtuneError
from mmtune.system.resources import resource
from mmtune.system.tensors import tensors_hash

ASSET_HASHES = "tensors.json"  # in assets/: `tensors_hash` by path; tools/starter/hashes.py
REINSTALL = "reinstall it: pip install --force-reinstall --no-deps"


@cache
def intact_asset(name: str, kind: type[MmtuneError] = MmtuneError) -> Path:
    """Return the folder of a model in assets/, after its weights are compared with their hashes.

    Args:
        name: the folder.
        kind: the error to raise.

    Raises:
        MmtuneError: of `kind`: a file is missing or damaged.
        ConfigError: the folder is not part of this installation.
    """
    folder = resource("assets", name)
    known = json.loads(resource("assets", ASSET_HASHES).read_text(encoding="utf-8"))
    for path, wanted in known.items():
        if path.startswith(f"{name}/"):
            file = folder.parent / path
            found = tensors_hash(file, kind, f"{REINSTALL} mmtune")
            if found != wanted:
                raise kind(
                    f"{file} is damaged: its tensors have SHA-256 {found[:12]}, not {wanted[:12]}",
                    f"{REINSTALL} mmtune",
                )
    return folder


@cache
def require_intact(package: str, suffix: str, kind: type[MmtuneError] = MmtuneError) -> None:
    """Compare a package's files with the hashes that pip recorded when it installed them.

    Args:
        package: its name on PyPI; a package that was installed without hashes passes.
        suffix: of the files to compare, such as ".onnx".
        kind: the error to raise.

    Raises:
        MmtuneError: of `kind`: a file is missing or damaged.
    """
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return  # put on the path by hand
    for file in files:
        if file.suffix != suffix or file.hash is None or file.hash.mode != "sha256":
            continue
        path = Path(str(file.locate()))
        try:
            digest = hashlib.sha256(path.read_bytes()).digest()
        except OSError as error:
            raise kind(
                f"{path} can't be read: {error.strerror or error}", f"{REINSTALL} {package}"
            ) from None
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            raise kind(
                f"{path} is damaged: it isn't the file that {package} installed",
                f"{REINSTALL} {package}",
            )
