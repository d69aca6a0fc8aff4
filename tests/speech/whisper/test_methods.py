"""Every method on a tiny Whisper: trains, resumes, loads strictly, and folds or says no."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from mmtune.adapters.card import Card
from mmtune.adapters.integrity import seal_adapter
from mmtune.adapters.members import Mixing
from mmtune.config import AdapterOptions, LoraOptions, TrainOptions
from mmtune.errors import AdapterError, DataError
from mmtune.methods import METHODS
from mmtune.runs.adapters import compose
from mmtune.speech.export.fold import merge
from mmtune.speech.speech_options import SpeechOptions
from mmtune.speech.speech_row import SpeechRow
from mmtune.speech.speech_task import SpeechTask
from mmtune.speech.whisper.base import WhisperBase, load_base
from mmtune.speech.whisper.decode import DecodeOptions, decode
from mmtune.speech.whisper.decoder_lora import Switch, load_adapters
from mmtune.speech.whisper.prefix import Prefix
from mmtune.training.loop import fit
from mmtune.training.strength import can_scale, is_fresh, scaled

STORED = Path(__file__).parents[2] / "conformance" / "stored" / "speech"
BASE = str(STORED / "base")
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
# LoRA and DoRA have tests of their own; here they are slow ones.


def case(method: str, *more: str) -> Any:
    """The parameters of a test; LoRA and DoRA have tests of their own, so they are slow here."""
    marks = pytest.mark.slow if method in ("lora", "dora") else ()
    return pytest.param(method, *more, marks=marks)


EACH = [case(method) for method in METHODS]
STEPS = TrainOptions(batch_size=2, max_steps=2, checkpoint_every=1, lr=5e-2, precision="fp32")


def rows(count: int = 4) -> list[SpeechRow]:
    lines = (STORED / "data" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    found = [json.loads(line) for line in lines]
    return [
        SpeechRow.model_validate(r | {"audio": str(STORED / "data" / r["audio"])}) for r in found
    ]


def make_task(method: str, **adapter: Any) -> SpeechTask:
    chosen = AdapterOptions.model_validate({"method": method, "tokens": 3} | adapter)
    options = SpeechOptions(encoder_layers=1)
    return SpeechTask(load_base(BASE), LoraOptions(rank=2), options, None, 3, adapter=chosen)


def answer(base: WhisperBase) -> torch.Tensor:
    """Logits of fixed frames and ids, with whatever acts in the base."""
    probe = Switch.__new__(Switch)
    probe.base = base
    with torch.no_grad():
        return probe._answer()


@cache
def trained(method: str, root: Path) -> Path:
    """A run of two steps and its adapter with a card."""
    run = root / method
    task = make_task(method)
    fit(task, rows(), [], STEPS, run)
    task.save(run / "adapter")
    card = Card(
        name=method,
        recipe="terminology",
        modality="speech",
        base=BASE,
        base_hash=task.base_hash,
        dataset="1" * 64,
        rows={"train": 4},
        settings={"adapter": {"method": method}},
    )
    files = seal_adapter(run / "adapter")
    card.model_copy(update={"files": files}).write(run / "adapter")
    return run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("methods")


@pytest.mark.parametrize("method", EACH)
def test_it_trains_resumes_bit_by_bit_and_loads_as_it_was(method: str, root: Path) -> None:
    run = trained(method, root)
    again = run.with_name(f"{method}-resumed")
    shutil.copytree(run, again)
    shutil.rmtree(again / "checkpoints" / "step-0000002")
    task = make_task(method)
    before = answer(task.base)
    fit(task, rows(), [], STEPS, again)
    task.save(again / "saved")
    first, second = (load_file(p / WEIGHTS) for p in (run / "adapter", again / "saved"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    # What is loaded from disk is what training left, and the base is still below it.
    base = load_base(BASE)
    switch = load_adapters(base, {"own": run / "adapter"})
    assert switch.method == METHODS[method]
    with switch.on({"own": 1.0}):
        assert torch.equal(answer(base), answer(task.base))
        assert not torch.equal(answer(base), before)
    with switch.on({}):
        assert torch.equal(answer(base), before)
    with switch.on({"own": 0.0}) if method != "dora" else switch.on({}):
        torch.testing.assert_close(answer(base), before)


@pytest.mark.parametrize(
    "method", [name if name in ("lokr", "ia3") else pytest.param(name, marks=pytest.mark.slow)
               for name in METHODS],
)  # fmt: skip
def test_a_fresh_adapter_is_the_base_and_strength_scales_what_it_saves(
    method: str, root: Path
) -> None:
    task = make_task(method)
    assert torch.equal(answer(task.base), answer(load_base(BASE))) or method == "dora"
    assert can_scale(task.module) == METHODS[method].has_strength
    if not METHODS[method].has_strength:
        with pytest.raises(ValueError, match="scaled"), scaled(task.module, 0.5):
            pass
        return
    assert is_fresh(task.module)
    fit(task, rows(), [], STEPS, root / f"{method}-scaled")
    assert not is_fresh(task.module)
    full = answer(task.base)
    with scaled(task.module, 0.25):
        quarter = answer(task.base)
        task.save(root / f"{method}-quarter")
    assert torch.equal(answer(task.base), full)
    base = load_base(BASE)
    with load_adapters(base, {"a": root / f"{method}-quarter"}).on({"a": 1.0}):
        assert torch.equal(answer(base), quarter)
    whole = load_base(BASE)
    with load_adapters(whole, {"a": trained(method, root) / "adapter"}).on({"a": 0.25}):
        torch.testing.assert_close(answer(whole), quarter)


@pytest.mark.parametrize("method", EACH)
def test_peft_loads_the_folder_and_gives_the_same_answer(method: str, root: Path) -> None:
    folder = trained(method, root) / "adapter"
    base, plain = load_base(BASE), load_base(BASE)
    whisper = plain.model
    ids, hidden = torch.tensor([[5, 1, 2], [7, 3, 4]]), torch.randn(2, 8, whisper.config.d_model)
    if METHODS[method].by_layer:
        PeftModel.from_pretrained(whisper, str(folder))
        decoder: Any = whisper.model.decoder
    else:
        decoder = PeftModel.from_pretrained(whisper.model.decoder, str(folder))
    with load_adapters(base, {"own": folder}).on({"own": 1.0}), torch.no_grad():
        ours = base.model.model.decoder(
            input_ids=ids, encoder_hidden_states=hidden, use_cache=False
        ).last_hidden_state
        theirs = decoder(input_ids=ids, encoder_hidden_states=hidden).last_hidden_state
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("method", EACH)
def test_it_folds_into_the_weights_or_says_that_it_cannot(method: str, root: Path) -> None:
    folder = trained(method, root) / "adapter"
    if not METHODS[method].by_layer:
        with pytest.raises(AdapterError, match=r"trained by prefix tuning: .* can't be merged"):
            merge(BASE, folder)
        return
    base, scale = load_base(BASE), 1.0 if method == "dora" else 0.5
    with load_adapters(base, {"own": folder}).on({"own": scale}):
        torch.testing.assert_close(answer(merge(BASE, folder, scale)), answer(base))


@pytest.mark.parametrize("method", EACH)
def test_compose_merges_lora_and_says_what_to_do_with_the_others(
    method: str, root: Path, tmp_path: Path
) -> None:
    folder = trained(method, root) / "adapter"
    twin = shutil.copytree(folder, tmp_path / "twin")
    if method == "lora":
        assert compose({folder: 0.5, twin: 0.5}, Mixing(), tmp_path / "out").distance < 1e-5
        return
    with pytest.raises(AdapterError, match=r"DoRA|trained by .*; mmtune compose merges") as caught:
        compose({folder: 0.5, twin: 0.5}, Mixing(), tmp_path / "out")
    assert "side by side" in caught.value.cure or "compose --route FILE" in caught.value.cure
    assert not (tmp_path / "out").exists()


DAMAGES = {
    "a key is missing": lambda state: state.pop(next(iter(state))),
    "a key is unknown": lambda state: state.update(more=torch.zeros(2)),
    "a shape differs": lambda state: state.update(
        {key: torch.cat([value, value]) for key, value in list(state.items())[:1]}
    ),
}


@pytest.mark.parametrize(
    ("method", "damage"),
    [
        case(method, damage)
        for method in METHODS
        for damage in DAMAGES
        # Each key of (IA)³ is a layer of its own: the card's hash alone tells that one is missing.
        if (method, damage) != ("ia3", "a key is missing")
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    method: str, damage: str, root: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(trained(method, root) / "adapter", tmp_path / "adapter")
    (folder / "card.json").unlink()
    state = load_file(folder / WEIGHTS)
    DAMAGES[damage](state)
    if not state:
        state["other"] = torch.zeros(2)
    save_file(state, folder / WEIGHTS)
    with pytest.raises(AdapterError):
        load_adapters(load_base(BASE), {"own": folder})


# DoRA's magnitudes round, and a prefix always takes some attention: fresh ones change the output.
@pytest.mark.parametrize("method", [case(m) for m in METHODS if m not in ("dora", "prefix")])
def test_an_adapter_without_effect_is_refused(method: str, root: Path, tmp_path: Path) -> None:
    task = make_task(method)
    task.save(tmp_path / "fresh")
    with pytest.raises(AdapterError, match="has no effect"):
        load_adapters(load_base(BASE), {"own": tmp_path / "fresh"})


def test_a_changed_file_has_another_hash(root: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained("prefix", root) / "adapter", tmp_path / "adapter")
    state = load_file(folder / WEIGHTS)
    save_file({key: value + 1 for key, value in state.items()}, folder / WEIGHTS)
    with pytest.raises(AdapterError, match="is damaged"):
        load_adapters(load_base(BASE), {"own": folder})


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"num_virtual_tokens": 4}, r"num_virtual_tokens is 4 .* the file holds 3 positions"),
        ({"prefix_projection": True}, "prefix_projection True"),
    ],
)
def test_a_config_that_contradicts_the_prefix_is_refused(
    values: dict[str, Any], found: str, root: Path, tmp_path: Path
) -> None:
    folder = changed_config(trained("prefix", root), tmp_path, values)
    with pytest.raises(AdapterError, match=found):
        load_adapters(load_base(BASE), {"own": folder})


@pytest.mark.parametrize(
    ("method", "values", "found"),
    [
        ("loha", {"r": 3}, "size mismatch|doesn't fit"),
        ("loha", {"r": 10**6}, "the rank r is 1000000"),
        ("loha", {"alpha": "much"}, "alpha = much is not a usable number"),
        ("loha", {"rank_pattern": {"q_proj": 1}}, "rank_pattern, which mmtune doesn't load"),
        ("lokr", {"decompose_factor": 2.5}, "decompose_factor = 2.5 is not a whole number"),
        ("ia3", {"feedforward_modules": "(a+)+b"}, "runs no regular expression"),
        ("ia3", {"feedforward_modules": []}, "size mismatch|doesn't fit"),
    ],
)
def test_a_config_that_contradicts_the_file_is_refused(
    method: str, values: dict[str, Any], found: str, root: Path, tmp_path: Path
) -> None:
    folder = changed_config(trained(method, root), tmp_path, values)
    with pytest.raises(AdapterError, match=found):
        load_adapters(load_base(BASE), {"own": folder})


def changed_config(run: Path, to: Path, values: dict[str, Any]) -> Path:
    folder = shutil.copytree(run / "adapter", to / "adapter")
    (folder / "card.json").unlink()
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / CONFIG).write_text(json.dumps(config | values), encoding="utf-8")
    return folder


def test_two_methods_are_not_used_side_by_side(root: Path) -> None:
    folders = {name: trained(name, root) / "adapter" for name in ("loha", "ia3")}
    with pytest.raises(AdapterError, match=r"trained by \(IA\)³, but .* trained by LoHa"):
        load_adapters(load_base(BASE), folders)


def test_prefixes_take_turns_and_have_no_other_strength(root: Path, tmp_path: Path) -> None:
    folder = trained("prefix", root) / "adapter"
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "card.json").unlink()
    state = load_file(other / WEIGHTS)
    save_file({key: value * 3 for key, value in state.items()}, other / WEIGHTS)
    base = load_base(BASE)
    switch = load_adapters(base, {"a": folder, "b": other})
    with switch.on({"a": 1.0}):
        first = answer(base)
    with switch.on({"b": 1.0, "a": 0.0}):
        assert not torch.equal(answer(base), first)
    with switch.on({"a": 1.0}):
        assert torch.equal(answer(base), first)
    for weights in ({"a": 0.5}, {"a": 1.0, "b": 1.0}):
        refused = pytest.raises(AdapterError, match="prefixes can't be used together")
        with refused, switch.on(weights):
            pass
    with pytest.raises(AdapterError, match="no adapter 'c' is loaded"), switch.on({"c": 1.0}):
        pass


def test_a_prefix_decodes_with_a_cache_as_without(root: Path) -> None:
    """Prefixes of unequal lengths are padded; the cache grows id by id."""
    base = load_base(BASE)
    start = base.ids["startoftranscript"]
    torch.manual_seed(0)
    hidden = torch.randn(2, 50, base.model.config.d_model)
    asked = [[start], [base.ids["startofprev"], 5, 6, start]]
    options = DecodeOptions(max_new_tokens=6)
    with load_adapters(base, {"own": trained("prefix", root) / "adapter"}).on({"own": 1.0}):
        found = decode(base.model, hidden, asked, options)
        alone = [
            decode(base.model, hidden[i : i + 1], asked[i : i + 1], options)[0] for i in (0, 1)
        ]
        for i, (ids, given) in enumerate(zip(found, asked, strict=True)):
            with torch.no_grad():
                states = base.model.model.decoder(
                    input_ids=torch.tensor([[*given, *ids]]),
                    encoder_hidden_states=hidden[i : i + 1],
                    use_cache=False,
                ).last_hidden_state
            logits = base.model.proj_out(states[0, len(given) - 1 :])
            generation = base.model.generation_config
            logits[:, generation.suppress_tokens or []] = -torch.inf
            logits[0, generation.begin_suppress_tokens or []] = -torch.inf
            wanted = [*ids, generation.eos_token_id][:6]
            assert logits.argmax(-1).tolist()[: len(wanted)] == wanted
    assert found == alone


def test_a_text_without_room_beside_the_prefix_is_named() -> None:
    task = make_task("prefix", tokens=256)
    row = rows(1)[0].model_copy(update={"text": "omega " * 40, "id": "long"})
    with pytest.raises(DataError, match=r"row 'long': .* a prefix of 256 leaves 192 positions"):
        task.labels(row)


def test_a_fresh_prefix_is_compared_once_for_each_state(monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = torch.nn.Embedding(2, 3)
    asked: list[int] = []
    model = SimpleNamespace(
        prompt_encoder={"default": SimpleNamespace(embedding=embedding)},
        active_adapter="default",
        active_peft_config=SimpleNamespace(num_virtual_tokens=2),
    )
    prefix, equal = Prefix(torch.nn.Linear(1, 1), model, fresh=True), torch.equal

    def counting(one: torch.Tensor, other: torch.Tensor) -> bool:
        asked.append(1)
        return equal(one, other)

    monkeypatch.setattr(torch, "equal", counting)
    first = embedding.weight.detach().clone()

    def validate() -> set[int]:
        with torch.no_grad():
            return {prefix.length for _ in range(5)}

    assert (validate(), len(asked)) == ({0}, 1)
    assert prefix.length == 2, "with gradients it acts at once"
    embedding.weight.data.add_(1)  # as optimizers outside of torch do: the version stays
    assert (validate(), len(asked)) == ({2}, 2)
    with torch.no_grad():
        embedding.weight.copy_(first)  # those of step 0 are put back
    assert (validate(), len(asked)) == ({0}, 3)
