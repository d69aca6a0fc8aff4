"""The decoder loop on a Whisper of a few thousand weights, against one pass for each id.

No cache, no batch and no padding: what our loop saves must change nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmtune.speech.whisper.base import load_base
from mmtune.speech.whisper.decode import (
    DecodeOptions,
    Sampling,
    decode,
    decode_scored,
    detect_language,
)

STORED = str(Path(__file__).parents[2] / "conformance" / "stored" / "speech" / "base")
END, START, LIMIT = 256, 257, 10
PREFIXES = [[257, 258, 261, 265], [263, 40, 41, 42, 257, 259, 261, 265], [257, 259, 261, 265]]


@pytest.fixture(scope="module")
def model() -> Any:
    """Its weights are made larger: it says different things, and ends."""
    found = load_base(STORED).model
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in found.model.decoder.named_parameters():
            if "embed" not in name and parameter.ndim == 2:
                parameter.mul_(6)
        weight = found.proj_out.weight
        weight.copy_(torch.randn(weight.shape, generator=generator) / 2)
        weight[END] *= 6.0
        weight[3] *= 4.0
    found.generation_config.suppress_tokens = [3, 7]
    return found


@pytest.fixture(scope="module")
def hidden() -> Tensor:
    return torch.randn(3, 40, 16, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def by_hand(model: Any, heard: Tensor, prefix: list[int], limit: int) -> dict[str, Any]:
    """One row: a pass over all ids for each next one."""
    ids: list[int] = []
    scores: list[float] = []
    while True:
        output = model.model.decoder(
            input_ids=torch.tensor([[*prefix, *ids]]), encoder_hidden_states=heard[None],
            use_cache=False,
        )  # fmt: skip
        logits = model.proj_out(output.last_hidden_state)[0].float()
        if not ids:
            start = logits[prefix.index(START)].softmax(-1)
            first = {
                "no_speech": float(start[264]),  # before <|notimestamps|>
                "no_words": float(logits[-1].softmax(-1)[END]),
                "language": "de" if start[259] > start[258] else "en",
            }
        last = logits[-1]
        last[[3, 7]] = -torch.inf
        if not ids:
            last[END] = -torch.inf
        chances = last.log_softmax(-1)
        token = int(chances.argmax())
        scores.append(float(chances[token]))
        if token == END:
            return {**first, "ids": ids, "scores": scores}
        ids.append(token)
        if len(ids) == limit:
            return {**first, "ids": ids, "scores": scores}


def test_greedy_search_is_that_of_one_pass_for_each_id(model: Any, hidden: Tensor) -> None:
    found = decode_scored(model, hidden, PREFIXES, DecodeOptions(max_new_tokens=LIMIT))
    lengths = set()
    for each, heard, prefix in zip(found, hidden, PREFIXES, strict=True):
        wanted = by_hand(model, heard, prefix, LIMIT)
        assert each.ids == wanted["ids"]
        assert each.tokens == pytest.approx(wanted["scores"][: len(each.ids)], abs=1e-4)
        mean = sum(wanted["scores"]) / (len(each.ids) + 1)
        assert each.log_probability == pytest.approx(mean, abs=1e-4)
        assert each.no_speech == pytest.approx(wanted["no_speech"], abs=1e-6)
        assert each.no_words == pytest.approx(wanted["no_words"], abs=1e-6)
        assert each.language == wanted["language"]
        lengths.add(len(each.ids))
    assert len(lengths) > 1
    starts = [by_hand(model, heard, [START], 1)["language"] for heard in hidden]
    assert detect_language(model, hidden) == starts


@pytest.mark.parametrize("beams", [1, 3, 6])
def test_the_search_is_transformers(model: Any, hidden: Tensor, beams: int) -> None:
    from transformers.modeling_outputs import BaseModelOutput

    prefix = PREFIXES[0]
    ours = decode(model, hidden, [prefix] * 3, DecodeOptions(beams, LIMIT))
    theirs = model.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=hidden), max_new_tokens=LIMIT,
        num_beams=beams, language="en", task="transcribe",
    ).tolist()  # fmt: skip
    for own, row in zip(ours, theirs, strict=True):
        new = row[len(prefix) :] if row[0] == START else row
        assert own == (new[: new.index(END)] if END in new else new)
    # And a row's neighbours change nothing.
    alone = [
        decode(model, hidden[i : i + 1], [PREFIXES[i]], DecodeOptions(beams, LIMIT))[0]
        for i in range(3)
    ]
    assert decode(model, hidden, PREFIXES, DecodeOptions(beams, LIMIT)) == alone


def test_limits_are_of_each_row_and_of_the_decoders_positions(model: Any, hidden: Tensor) -> None:
    for beams in (1, 4):
        whole = decode(model, hidden, PREFIXES, DecodeOptions(beams, (2, 5, 1)))
        assert all(len(ids) <= most for ids, most in zip(whole, (2, 5, 1), strict=True))
        assert len(whole[2]) == 1  # the first id can't be the end
    longest = [5] * 444 + [START, 258, 261]
    assert len(decode(model, hidden[:1], [longest], DecodeOptions())[0]) == 1
    assert len(decode(model, hidden[:1], [longest], DecodeOptions(max_new_tokens=9))[0]) == 1
    with pytest.raises(ValueError, match="a prefix of 448 ids leaves no room"):
        decode(model, hidden[:1], [[*longest, 265]], DecodeOptions())
    assert decode(model, hidden[:0], [], DecodeOptions()) == []


def test_what_cannot_be_decoded_together_is_refused(model: Any, hidden: Tensor) -> None:
    with pytest.raises(ValueError, match="3 encoder outputs but 2 prefixes"):
        decode(model, hidden, PREFIXES[:2], DecodeOptions())
    with pytest.raises(ValueError, match="3 prefixes but 2 seeds"):
        decode_scored(model, hidden, PREFIXES, DecodeOptions(), Sampling(1.0, (1, 2)))
    with pytest.raises(ValueError, match="one beam only"):
        decode(model, hidden, PREFIXES, DecodeOptions(beams=2, timestamps=True))


def test_samples_are_drawn_whatever_the_beams(model: Any, hidden: Tensor) -> None:
    drawn = {
        beams: decode_scored(
            model, hidden, PREFIXES, DecodeOptions(beams, LIMIT), Sampling(1.0, (1, 2, 3))
        )
        for beams in (1, 4)
    }
    assert drawn[1] == drawn[4]
    assert [each.ids for each in drawn[1]] != decode(
        model, hidden, PREFIXES, DecodeOptions(1, LIMIT)
    )
    # Many draws of the first id have the model's own chances.
    count = 400
    sampling = Sampling(1.0, tuple(range(count)))
    some = decode_scored(
        model, hidden[:1].expand(count, -1, -1), [PREFIXES[0]] * count, DecodeOptions(1, 1),
        sampling,
    )  # fmt: skip
    best = by_hand(model, hidden[0], PREFIXES[0], 1)
    [token], [score] = best["ids"], best["scores"]
    share = sum(each.ids == [token] for each in some) / count
    chance = float(torch.tensor(score).exp())
    assert share == pytest.approx(chance, abs=4 * (chance * (1 - chance) / count) ** 0.5)


def test_times_of_a_row_are_its_own_in_any_batch(model: Any, hidden: Tensor) -> None:
    """The rules of times look at a row's own history, also after others have ended."""
    prefixes = [[257, 258, 261], [257, 259, 261], [257, 258, 260]]
    options = DecodeOptions(max_new_tokens=(3, 12, 12), timestamps=True)
    together = decode(model, hidden, prefixes, options)
    for i, prefix in enumerate(prefixes):
        own = DecodeOptions(max_new_tokens=(3, 12, 12)[i], timestamps=True)
        assert decode(model, hidden[i : i + 1], [prefix], own) == [together[i]]
        stamps = [token for token in together[i] if token > 265]
        assert together[i][0] > 265
        assert stamps == sorted(stamps)
