"""The keys of a version log: one for its lines, and one for the rows of each subject.

Lines and rows are marked by HMACs (RFC 2104) with SHA-256. Without the key of a subject its HMACs
tell nothing, also not to somebody who guesses the row: so a subject is forgotten with its key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmtune.data.version_rows import VersionRow
from mmtune.errors import DataError
from mmtune.system.files import write_json
from mmtune.system.formats import FORMAT, without_format
from mmtune.system.stored import damaged, read_json_object

KEYS_FILE = "keys.json"
KEY_BYTES = 32
CURE = "restore it from a backup; without it, the lines of the version log can't be checked"


def canonical(values: Mapping[str, Any]) -> bytes:
    """The one way in which a line of a version log is written, without its end."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def hmac_of(key: bytes, data: bytes) -> str:
    """HMAC-SHA256, in hexadecimal."""
    return hmac.new(key, data, hashlib.sha256).hexdigest()


def new_key() -> bytes:
    """A random key."""
    return secrets.token_bytes(KEY_BYTES)


@dataclass
class VersionKeys:
    """The keys of one log.

    Attributes:
        log: key of the lines.
        subjects: key of each subject's rows; "" for rows that name none.
        head: HMAC of the log's last line; empty if it has none.
        following: HMAC of a line that was just being written.
    """

    log: bytes = field(default_factory=new_key)
    subjects: dict[str, bytes] = field(default_factory=dict)
    head: str = ""
    following: str = ""

    def of_bytes(self, data: bytes) -> str:
        """The HMAC of a line's content, or of a manifest."""
        return hmac_of(self.log, data)

    def of_row(self, row: VersionRow) -> str | None:
        """The HMAC of a row; None: there is no key for its subject."""
        key = self.subjects.get(row.subject)
        return None if key is None else hmac_of(key, canonical(row.to_dict()))

    def of_new_row(self, row: VersionRow) -> str:
        """The HMAC of a row whose subject gets a key, if it has none."""
        key = self.subjects.setdefault(row.subject, new_key())
        return hmac_of(key, canonical(row.to_dict()))

    def write(self, folder: Path) -> None:
        """Write the keys into the folder of the log; only the owner may read them."""
        values = {
            "format": FORMAT,
            "log": self.log.hex(),
            "head": self.head,
            "following": self.following,
            "subjects": {name: key.hex() for name, key in self.subjects.items()},
        }
        write_json(folder / KEYS_FILE, values, private=True, durable=True)


def read_keys(folder: Path) -> VersionKeys | None:
    """Read the keys in a log's folder; None: there are none.

    Raises:
        DataError: the file is damaged.
        ConfigError: a newer mmtune wrote it.
    """
    path = folder / KEYS_FILE
    try:
        values = without_format(read_json_object(path, CURE, DataError), path)
    except FileNotFoundError:
        return None
    with damaged(path, CURE, DataError):
        subjects = {str(name): bytes.fromhex(key) for name, key in values["subjects"].items()}
        log, head, following = values["log"], str(values["head"]), str(values["following"])
        return VersionKeys(bytes.fromhex(log), subjects, head, following)
