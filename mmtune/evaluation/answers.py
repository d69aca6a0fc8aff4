"""Store the models' answers, so that an evaluation that was stopped asks only for missing ones.

`answers.jsonl` holds one line of JSON for each answer: row, adapters with weights, seed, and the
text or the name of an image's PNG file. The key of an answer is a hash of everything that it
depends on: the predictor's fingerprint, and the whole request with its row.
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from mmtune.evaluation.parallel import SharedPredictor, Wrap
from mmtune.predict import BatchedPredictor, Prediction, Request
from mmtune.system.files import append_text, write_bytes, write_text
from mmtune.system.hashing import hash_json
from mmtune.system.inside import inside
from mmtune.system.stored import DAMAGE, MAX_TEXT, intact_json_lines, lines_up_to, opened
from mmtune.system.version import VERSION

ANSWERS_FILE = "answers.jsonl"
IMAGES = "answers"  # the folder of images beside `answers.jsonl`
REQUESTS_AT_ONCE = 64  # default number of requests after which answers are stored

P = TypeVar("P", bound=BatchedPredictor)


@dataclass(frozen=True)
class _StoredAnswer:
    """One line of the file. `model` is the fingerprint of the loaded predictor."""

    model: str
    value: str
    image: bool
    details: Mapping[str, Any]
    seconds: float = 0.0


class StoredPredictor(Generic[P]):
    """A predictor that stores its answers and reads them back (`mmtune.predict.Predictor`).

    The wrapped predictor is loaded only if an answer is missing, so that metrics can be computed
    again without a model. With several processes only the main process asks, inside `asking`, and
    writes the file.

    Args:
        folder: the folder that gets `answers.jsonl`, and `answers/` for images.
        fingerprint: hash of everything that an answer depends on, apart from the request; it is
            known without loading the model.
        opened: loads the predictor; called at most once.
        chunk: number of requests that are asked together. It should be a multiple of the
            predictor's batch size, because other rows of a batch may change an answer's rounding.
        variants: other ways to ask the same models, by name.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        opened: Callable[[], P],
        *,
        chunk: int = REQUESTS_AT_ONCE,
        variants: Mapping[str, Wrap[P]] | None = None,
    ) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.chunk = chunk
        self._shared = SharedPredictor(opened, variants)
        self._variant = ""
        self._answers: dict[str, _StoredAnswer] | None = None
        self._decoded: set[str] = set()  # names of the pictures that were found undamaged

    @property
    def predictor(self) -> BatchedPredictor:
        """The wrapped predictor; the first use loads it."""
        return self._shared.of(self._variant)

    def variant(self, name: str) -> StoredPredictor[P]:
        """Return a predictor that asks the same models in another way (see `variants`).

        Both share one file of answers. The variant's name is part of its fingerprint.
        """
        other = copy.copy(self)
        other.fingerprint = hash_json([self.fingerprint, name])
        other._variant = name
        other._answers = self._known
        return other

    def asking(self) -> AbstractContextManager[bool]:
        """Inside it, only the main process may call `predict` (`SharedPredictor.asking`)."""
        return self._shared.asking()

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """Give one prediction for each request, in order; stored answers are not asked again."""
        keys = [self._key(request) for request in requests]
        if not all(self._has(key) for key in keys):
            # If the base's files have changed since, its stored answers no longer count.
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
        """Yield the requests of each chunk that have no answer, by key and without repetitions."""
        seen: set[str] = set()
        for start in range(0, len(requests), self.chunk):
            part = range(start, min(start + self.chunk, len(requests)))
            found = {keys[i]: requests[i] for i in part if not self._has(keys[i])}
            if new := {key: request for key, request in found.items() if key not in seen}:
                yield new
            seen |= found.keys()

    def _ask(self, parts: Sequence[dict[str, Request]]) -> None:
        """Ask for parts, one per process at a time, and store their answers."""
        together = self._shared.processes
        for start in range(0, len(parts), together):
            some = parts[start : start + together]
            found = self._shared.answer(self._variant, [list(part.values()) for part in some])
            for part, answers in zip(some, found, strict=True):
                self._store(part, answers)

    @property
    def _known(self) -> dict[str, _StoredAnswer]:
        if self._answers is None:
            self._answers = dict(_read_answers(self.folder / ANSWERS_FILE))
        return self._answers

    def _key(self, request: Request) -> str:
        row = request.row
        # Files are identified by their content if it is known, so a moved run keeps its answers.
        unread = {row.media, "split", "weight", "group"} | row.unhashed
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
        return kept is not None and (not kept.image or self._shows(kept.value))

    def _shows(self, name: str) -> bool:
        """Whether a stored picture can be decoded; a damaged one counts as missing."""
        if name not in self._decoded:
            try:
                self._picture(name)
            except Exception:  # each decoder raises its own kinds
                return False
            self._decoded.add(name)
        return True

    def _value(self, key: str) -> Any:
        kept = self._known[key]
        if not kept.image:
            return kept.value
        return self._picture(kept.value)

    def _picture(self, name: str) -> Any:
        from mmtune.system.pictures import opened_picture

        path = inside(self.folder, self.folder / name)
        if path is None:
            raise FileNotFoundError(f"{self.folder} holds no file {name}")

        with opened_picture(path) as image:
            image.load()
            return image.copy()

    def _store(self, asked: Mapping[str, Request], answers: Sequence[Prediction]) -> None:
        lines: list[str] = []
        model = self.predictor.fingerprint
        for (key, request), answer in zip(asked.items(), answers, strict=True):
            text = isinstance(answer.value, str)
            value = answer.value if text else self._save_image(key, answer.value)
            details, seconds = dict(answer.details), round(answer.seconds, 4)
            kept = _StoredAnswer(model, value, not text, details, seconds)
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
        append_text(path, "".join(lines), private=True)

    def _save_image(self, key: str, image: Any) -> str:
        name = f"{IMAGES}/{key[:32]}.png"
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()  # Pillow may write a part of a file without an error
        image.save(buffer, format="PNG", compress_level=1)
        write_bytes(path, buffer.getvalue(), private=True)
        return name


def forget(folder: Path) -> None:
    """Delete the stored answers in a folder, so that the next evaluation asks the models again."""
    import shutil

    (folder / ANSWERS_FILE).unlink(missing_ok=True)
    shutil.rmtree(folder / IMAGES, ignore_errors=True)


def damaged_answers(folder: Path) -> tuple[list[int], list[str]]:
    """Find stored answers that can't be read.

    Args:
        folder: holds `answers.jsonl`.

    Returns:
        Numbers of the lines that hold no answer, and names of images that are missing or damaged.
    """
    path, lines, images = folder / ANSWERS_FILE, [], []
    for number, line in enumerate(_lines(path), 1):
        found = _answer(_parsed(line))
        if found is None:
            lines.append(number)
        elif found[1].image and not _readable(inside(folder, folder / found[1].value)):
            images.append(found[1].value)
    return lines, images


def drop_damaged_answers(folder: Path) -> int:
    """Remove the answers that `damaged_answers` finds, so that the models are asked again.

    Returns:
        The number of removed answers.
    """
    path = folder / ANSWERS_FILE
    numbers, images = damaged_answers(folder)
    kept = []
    for number, line in enumerate(_lines(path), 1):
        found = _answer(_parsed(line))
        if number not in numbers and found is not None and found[1].value not in images:
            kept.append(line.decode("utf-8") + "\n")
    for name in images:
        if (folder / name).resolve().is_relative_to((folder / IMAGES).resolve()):
            (folder / name).unlink(missing_ok=True)
    write_text(path, "".join(kept), private=True)
    return len(numbers) + len(images)


def _readable(path: Path | None) -> bool:
    from PIL import Image

    if path is None:  # missing, or outside the folder
        return False
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.verify()  # the checksum of each chunk; the image can't be read afterwards
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
    except (OSError, ValueError, SyntaxError):
        return False
    return True


def _read_answers(path: Path) -> Iterator[tuple[str, _StoredAnswer]]:
    """Read the undamaged lines of the file; a damaged answer is a missing one."""
    if path.is_file():
        for values in intact_json_lines(path):
            found = _answer(values)
            if found is not None:
                yield found


def _lines(path: Path) -> list[bytes]:
    if not path.is_file():
        return []
    with opened(path) as file:
        return [line.rstrip(b"\n") for line in lines_up_to(file, MAX_TEXT) if line.strip()]


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except DAMAGE:
        return {}
    return values if isinstance(values, dict) else {}


def _answer(values: Mapping[str, Any]) -> tuple[str, _StoredAnswer] | None:
    """The key and the answer that a line holds; None if it holds none."""
    try:
        image = "file" in values
        value = str(values["file" if image else "text"])
        seconds = float(values.get("seconds", 0.0))
        model, details = str(values["model"]), values["details"]
        return str(values["key"]), _StoredAnswer(model, value, image, details, seconds)
    except (ValueError, KeyError, TypeError):
        return None
