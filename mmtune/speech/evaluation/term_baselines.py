"""Baselines for terms: prompting and retrieval, with the base or the adapter.

Each baseline transcribes the test rows like base and adapter do, so the report can compare them.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mmtune.evaluation.answers import StoredPredictor
from mmtune.predict import Prediction, Request
from mmtune.speech.corpus.term_list import find_terms, read_terms
from mmtune.speech.speech_options import Beside, SpeechOptions
from mmtune.speech.speech_row import SpeechRow, speech_row
from mmtune.speech.transcription.predictor import LOADED_ADAPTER, SpeechPredictor
from mmtune.speech.transcription.retrieve import LIMIT, TermIndex, prompt_with
from mmtune.speech.transcription.splice import SPLICE_VERSION, splice, spliced_words
from mmtune.speech.whisper.fallback import Heard, agrees
from mmtune.system.hashing import hash_json

Way = Literal["prompt", "retrieval"]


@dataclass(frozen=True)
class System:
    """A model and a way to prompt it with terms.

    Attributes:
        name: its name in the report.
        way: how terms are prompted.
        adapters: weight by adapter; empty for the base.
    """

    name: str
    way: Way
    adapters: Mapping[str, float]


SYSTEMS: dict[Beside, System] = {
    "prompt": System("base + prompt", "prompt", {}),
    "retrieval": System("base + retrieval", "retrieval", {}),
    "adapter + prompt": System("adapter + prompt", "prompt", {LOADED_ADAPTER: 1.0}),
    "adapter + retrieval": System("adapter + retrieval", "retrieval", {LOADED_ADAPTER: 1.0}),
}


@dataclass(frozen=True)
class TermList:
    """Terms to prompt, the most important first, and how some of them sound."""

    terms: tuple[str, ...]
    spoken: Mapping[str, str]


class Prompted:
    """A predictor that gets as many terms of a list as fit in a prompt before each row.

    Args:
        predictor: the models.
        listed: the terms.
    """

    def __init__(self, predictor: SpeechPredictor, listed: TermList) -> None:
        self.predictor, self.listed = predictor, listed

    @property
    def fingerprint(self) -> str:
        """Hash of everything except the request that a transcript depends on."""
        return hash_json([self.predictor.fingerprint, "prompt", self.listed.terms])

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """The batches of the inner predictor, for rows with prompts."""
        return self.predictor.batches(self._given(requests))

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """Transcribe each request's row, in order."""
        return self.predictor.predict(self._given(requests))

    def _given(self, requests: Sequence[Request]) -> list[Request]:
        candidates = [(term, 0.0) for term in self.listed.terms]
        base = self.predictor.base
        return [
            _with(request, prompt_with(base, candidates, speech_row(request.row).prompt))
            for request in requests
        ]


class Retrieving:
    """A predictor with a second pass, prompted with terms that resemble the first transcript.

    As in `transcribe`, the second pass only puts terms into the first transcript (see `splice`).

    Args:
        predictor: the models of both passes.
        listed: the terms.
    """

    def __init__(self, predictor: SpeechPredictor, listed: TermList) -> None:
        self.predictor, self.listed = predictor, listed
        self.index = TermIndex(listed.terms, listed.spoken)

    @property
    def fingerprint(self) -> str:
        """Hash of everything except the request that a transcript depends on."""
        known = [self.listed.terms, sorted(self.listed.spoken.items()), LIMIT, SPLICE_VERSION]
        return hash_json([self.predictor.fingerprint, "retrieval", known])

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """The batches of the first pass; the second pass stays within them."""
        return self.predictor.batches(requests)

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """Transcribe each request's row, in order."""
        found: dict[int, Prediction] = {}
        for batch in self.batches(requests):
            some = [requests[place] for place in batch]
            found |= dict(zip(batch, self._hear(some), strict=True))
        return [found[place] for place in range(len(requests))]

    def _hear(self, requests: Sequence[Request]) -> list[Prediction]:
        return [self.join(*each) for each in self.passes(requests)]

    def passes(
        self, requests: Sequence[Request]
    ) -> list[tuple[Prediction, Prediction | None, list[str]]]:
        """Transcribe each request's row once, and again with terms that resemble its transcript.

        Returns:
            For each request the first pass, the second (None: no term resembles the first), and
            the terms of its prompt.
        """
        found = self.predictor.predict(requests)
        again: dict[int, Request] = {}
        retrieved: list[list[str]] = [[] for _ in requests]
        for i, (request, own) in enumerate(zip(requests, found, strict=True)):
            candidates = self.index.candidates(str(own.value))
            retrieved[i] = [term for term, _ in candidates]
            before = speech_row(request.row).prompt
            prompt = prompt_with(self.predictor.base, candidates, before)
            if prompt is not None:
                again[i] = _with(request, prompt)
        second = dict(zip(again, self.predictor.predict(list(again.values())), strict=True))
        return [(own, second.get(i), retrieved[i]) for i, own in enumerate(found)]

    def join(
        self, first: Prediction, second: Prediction | None, retrieved: Sequence[str]
    ) -> Prediction:
        """Put the terms of a second pass into the first, see `splice`; words count as one answer.

        Args:
            first: the first pass.
            second: the second pass; None leaves the first as it is.
            retrieved: the terms of the second pass's prompt.
        """
        if second is None:
            return first
        seconds = first.seconds + second.seconds
        if not agrees(heard_of(first), heard_of(second)):
            return replace(first, seconds=seconds)
        language, words = first.details["language"], first.details["words"]
        text, placed = splice(
            str(first.value), str(second.value), self.index, retrieved, language, words
        )
        if not placed:
            return replace(first, seconds=seconds)
        chance = math.exp(float(second.details["log_probability"]))
        words = spliced_words(words, text, placed, round(chance, 4))
        details = {**first.details, "words": words}
        return replace(first, value=text, details=details, seconds=seconds)


def _with(request: Request, prompt: str | None) -> Request:
    row = request.row.model_copy(update={"prompt": prompt})
    return Request(row, request.adapters, request.seed)


def heard_of(prediction: Prediction) -> Heard:
    """What `agrees` needs to know of a transcript."""
    told = prediction.details
    return Heard(
        (),
        str(prediction.value),
        float(told["log_probability"]),
        float(told["no_speech"]),
        0.0,
        float(told["no_words"]),
    )


def beside(
    options: SpeechOptions, terms: Collection[str]
) -> dict[str, Callable[[SpeechPredictor], Prompted | Retrieving]]:
    """Make the variants of the models that prompt terms, by the names that `heard_beside` uses.

    Args:
        options: `beside` names the baselines.
        terms: all scored terms; those of the list come first, in its order.
    """
    if not options.beside or not terms:
        return {}
    listed = _listed(options, terms)
    return {
        _name("prompt", listed): lambda inner: Prompted(inner, listed),
        _name("retrieval", listed): lambda inner: Retrieving(inner, listed),
    }


def heard_beside(
    predictor: StoredPredictor[SpeechPredictor],
    options: SpeechOptions,
    terms: Collection[str],
    rows: Sequence[SpeechRow],
) -> list[dict[str, Prediction]]:
    """Transcribe each row with each baseline of `task.beside`; transcripts by the baseline's name.

    Args:
        predictor: with the run's adapter, and the variants of `beside`.
        options: `beside` names the baselines.
        terms: all scored terms.
        rows: the rows to transcribe.
    """
    found: list[dict[str, Prediction]] = [{} for _ in rows]
    if not options.beside or not terms:
        return found
    listed = _listed(options, terms)
    for system in (SYSTEMS[name] for name in dict.fromkeys(options.beside)):
        asked = predictor.variant(_name(system.way, listed))
        answers = asked.predict([Request(row, system.adapters) for row in rows])
        for each, answer in zip(found, answers, strict=True):
            each[system.name] = answer
    return found


def alternatives(base: str, options: SpeechOptions) -> dict[str, str]:
    """The command that uses each way of `task.beside` without an adapter, by the way's name."""
    listed = shlex.quote(str(options.terms)) if options.terms else "TERMS.txt"
    use = {"prompt": '--prompt "TERM, TERM, …"', "retrieval": f"--terms {listed}"}
    return {
        system.name: f"mmtune transcribe --base {shlex.quote(base)} {use[system.way]} RECORDINGS"
        for system in (SYSTEMS[name] for name in options.beside)
        if not system.adapters
    }


def _name(way: Way, listed: TermList) -> str:
    return hash_json([way, listed.terms, sorted(listed.spoken.items())])


def _listed(options: SpeechOptions, terms: Collection[str]) -> TermList:
    own = () if options.terms is None else read_terms(find_terms(options.terms), options.language)
    order = dict.fromkeys([*(term.text for term in own), *sorted(terms)])
    spoken = {term.text: term.spoken for term in own if term.spoken != term.text}
    return TermList(tuple(order), spoken)
