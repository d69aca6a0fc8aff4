"""Answers of models, kept as they come: a killed evaluation asks only for what is missing.

One line of JSON for each answer in `answers.jsonl`: row, model (adapters by weight), seed, and the
text, or the PNG file of an image beside it. An answer is found again by everything that it depends
on: the predictor's fingerprint, and the whole request with its row.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from mmtune.evaluate.parallel import SharedPredictor, Wrap
from mmtune.predict import BatchedPredictor, Prediction, Request
from mmtune.system.hashing import hash_json
from mmtune.system.version import VERSION

ANSWERS_FILE = "answers.jsonl"
IMAGES = "answers"  # the folder of images beside it
CHUNK = 64  # requests after which answers are written down

P = TypeVar("P", bound=BatchedPredictor)


@dataclass(frozen=True)
class _Kept:
    """One line. `model` is the fingerprint that the predictor had when it was open."""

    model: str
    value: str
    image: bool
    details: Mapping[str, Any]
    seconds: float = 0.0


class StoredPredictor(Generic[P]):
    """A predictor that answers from a file what it was asked before (`mmtune.predict.Predictor`).

    The wrapped predictor is opened only when something is missing, so that figures can be computed
    again without a model. Of several processes the main one asks, inside `asking`, and writes.

    Args:
        folder: gets `answers.jsonl`, and `answers/` for images.
        fingerprint: of all that an answer depends on besides the request, known without the model.
        opened: loads the predictor; called once, if at all.
        chunk: requests that are asked together: as many as fit the predictor's own batches, for
            batch-mates may change an answer's rounding.
        variants: by name, how the same models are asked otherwise.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        opened: Callable[[], P],
        *,
        chunk: int = CHUNK,
        variants: Mapping[str, Wrap[P]] | None = None,
    ) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.chunk = chunk
        self._shared = SharedPredictor(opened, variants)
        self._variant = ""
        self._answers: dict[str, _Kept] | None = None

    @property
    def predictor(self) -> BatchedPredictor:
        """The wrapped one, which this loads."""
        return self._shared.of(self._variant)

    def variant(self, name: str) -> StoredPredictor[P]:
        """The same models asked otherwise, as `variants` says; both read and write one file.


        Its name is part of its fingerprint.
        """
        other = copy.copy(self)
        other.fingerprint = hash_json([self.fingerprint, name])
        other._variant = name
        other._answers = self._known
        return other

    def asking(self) -> AbstractContextManager[bool]:
        """See `SharedPredictor.asking`: inside it, only the main process calls `predict`."""
        return self._shared.asking()

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """One prediction for each request, in order; only those without an answer are asked."""
        keys = [self._key(request) for request in requests]
        if not all(self._has(key) for key in keys):
            # A base that has changed since is another model: its old answers don't count.
            model = self.predictor.fingerprint
            stale = [key for key in keys if key in self._known and self._known[key].model != model]
            for key in stale:
                del self._known[key]
            self._ask(list(self._missing(keys, requests)))
        return [
            Prediction(
                request.row.id, self._value(key), self._known[key].details, self._known[key].seconds
            )
            for key, request in zip(keys, requests, strict=True)
        ]

    def _missing(
        self, keys: Sequence[str], requests: Sequence[Request]
    ) -> Iterator[dict[str, Request]]:
        """Of each chunk what has no answer, by key; a request that comes twice, once."""
        seen: set[str] = set()
        for start in range(0, len(requests), self.chunk):
            part = range(start, min(start + self.chunk, len(requests)))
            found = {keys[i]: requests[i] for i in part if not self._has(keys[i])}
            if new := {key: request for key, request in found.items() if key not in seen}:
                yield new
            seen |= found.keys()

    def _ask(self, parts: Sequence[dict[str, Request]]) -> None:
        """Ask for parts, as many at once as there are processes, and keep each."""
        together = self._shared.processes
        for start in range(0, len(parts), together):
            some = parts[start : start + together]
            found = self._shared.answer(self._variant, [list(part.values()) for part in some])
            for part, answers in zip(some, found, strict=True):
                self._keep(part, answers)

    @property
    def _known(self) -> dict[str, _Kept]:
        if self._answers is None:
            self._answers = dict(_read(self.folder / ANSWERS_FILE))
        return self._answers

    def _key(self, request: Request) -> str:
        row = request.row
        # By content where it is known: a run that is moved keeps its answers.
        unread = {row.media, "split", "weight", "group"}
        return hash_json(
            {
                "mmtune": VERSION,
                "predictor": self.fingerprint,
                "row": row.model_dump(mode="json", exclude=unread),
                "file": "" if row.content or not row.media else str(row.path),
                "adapters": sorted(request.adapters.items()),
                "seed": request.seed,
            }
        )

    def _has(self, key: str) -> bool:
        kept = self._known.get(key)
        return kept is not None and (not kept.image or (self.folder / kept.value).is_file())

    def _value(self, key: str) -> Any:
        kept = self._known[key]
        if not kept.image:
            return kept.value
        from PIL import Image

        with Image.open(self.folder / kept.value) as image:
            image.load()
            return image.copy()

    def _keep(self, asked: Mapping[str, Request], answers: Sequence[Prediction]) -> None:
        lines: list[str] = []
        model = self.predictor.fingerprint
        for (key, request), answer in zip(asked.items(), answers, strict=True):
            text = isinstance(answer.value, str)
            value = answer.value if text else self._save(key, answer.value)
            kept = _Kept(model, value, not text, dict(answer.details), round(answer.seconds, 4))
            self._known[key] = kept
            named = {"text": value} if text else {"file": value}
            line = {
                "key": key,
                "row": request.row.id,
                "adapters": dict(request.adapters),
                "seed": request.seed,
                **named,
                "details": kept.details,
                "seconds": kept.seconds,
                "model": model,
            }
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
        path = self.folder / ANSWERS_FILE
        self.folder.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            # What was cut off by a kill must not swallow the line that follows it.
            if file.tell() and not _ends_with_newline(path):
                file.write(b"\n")
            file.write("".join(lines).encode())

    def _save(self, key: str, image: Any) -> str:
        name = f"{IMAGES}/{key[:32]}.png"
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        image.save(partial, format="PNG", compress_level=1)
        partial.replace(path)
        return name


def forget(folder: Path) -> None:
    """Delete the answers in a folder: the next evaluation asks for all of them."""
    import shutil

    (folder / ANSWERS_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder / IMAGES, ignore_errors=True)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"


def _read(path: Path) -> Iterator[tuple[str, _Kept]]:
    """Whole lines of the file; one that was cut off is asked again."""
    if not path.is_file():
        return
    for line in path.read_bytes().split(b"\n"):
        try:
            values = json.loads(line)
            image = "file" in values
            value = str(values["file" if image else "text"])
            seconds = float(values.get("seconds", 0.0))
            model, details = str(values["model"]), values["details"]
            yield str(values["key"]), _Kept(model, value, image, details, seconds)
        except (ValueError, KeyError, TypeError):
            continue
