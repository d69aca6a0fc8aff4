"""A causal language model: as the training loop sees it, and as a predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from mmtune.adapters.lora import attach_lora
from mmtune.adapters.switch import AdapterSwitch
from mmtune.config import RunConfig
from mmtune.errors import BaseModelError
from mmtune.predict import Prediction, Request
from mmtune.system.hashing import hash_json, hash_tensors
from mmtune.system.processes import pick_device
from mmtune.training.task import Batch, Example, Loss, Task
from mmtune_text import TextOptions, TextRow

MAX_NEW_TOKENS = 16  # of an answer
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class TextBase:
    """A model of transformers with its tokenizer, frozen."""

    def __init__(self, name: str) -> None:
        self.name, self.device = name, pick_device()
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(name)
            self.model: Any = AutoModelForCausalLM.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise BaseModelError(
                f"base {name!r} can't be loaded: {error}", "give a folder or a hub id"
            ) from None
        self.model.to(self.device).eval().requires_grad_(False)
        self.fingerprint = hash_tensors(self.model.state_dict().items())

    def ids(self, text: str) -> list[int]:
        """Token ids without special ones."""
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def batch(self, rows: Sequence[TextRow], prompt_weight: float = 0.0) -> Batch:
        """Prompt, answer and end of each row, and what each token weighs in the loss."""
        pairs = [(self.ids(r.prompt), [*self.ids(r.answer), self.end]) for r in rows]
        length = max(len(prompt) + len(answer) for prompt, answer in pairs)
        ids = torch.full((len(rows), length), self.end)
        weights = torch.zeros(len(rows), length)
        for i, (prompt, answer) in enumerate(pairs):
            ids[i, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
            weights[i, : len(prompt)] = prompt_weight
            weights[i, len(prompt) : len(prompt) + len(answer)] = 1
        return {"ids": ids.to(self.device), "weights": weights.to(self.device)}

    @property
    def end(self) -> int:
        """The id that ends an answer."""
        return int(self.tokenizer.eos_token_id)


class AnswerLoss(nn.Module):
    """The loss of answers, given their prompts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Loss:
        """Padding stands behind the answers, where a causal model doesn't look."""
        logits = self.model(input_ids=batch["ids"]).logits[:, :-1]
        wanted, weights = batch["ids"][:, 1:], batch["weights"][:, 1:]
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
        return Loss(total=(losses * weights).sum(1), units=weights.sum(1))


class TextTask(Task):
    """No frozen prefix, one bucket, validation by the loss: the defaults of `Task`."""

    def __init__(self, config: RunConfig) -> None:
        assert isinstance(config.task, TextOptions)
        self.base, self.options = TextBase(config.base), config.task
        self.base_hash = self.base.fingerprint
        self.model = attach_lora(
            self.base.model, config.lora, TARGETS, config.train.seed, self.base.name
        )
        self.module = AnswerLoss(self.model)

    def collate(
        self, examples: Sequence[Example], tensors: Sequence[Any], draws: Sequence[Any]
    ) -> Batch:
        """Tokens of the rows."""
        return self.base.batch([each.row for each in examples], self.options.prompt_weight)

    def save(self, folder: Path) -> None:
        """A plain PEFT folder."""
        self.model.save_pretrained(str(folder), save_embedding_layers=False)


class TextPredictor:
    """Greedy answers of a base with adapters, each with the loss of the expected answer."""

    def __init__(self, base: str, adapters: Mapping[str, Path]) -> None:
        self.base = TextBase(base)
        self.loss = AnswerLoss(self.base.model)
        self.adapters = AdapterSwitch(self.base.model, base, self.base.fingerprint, self._probe)
        for name, folder in adapters.items():
            self.adapters.load(name, folder)
        self.fingerprint = hash_json([self.base.fingerprint, sorted(adapters)])

    def _probe(self) -> Tensor:
        logits: Tensor = self.base.model(input_ids=torch.tensor([[1, 2, 3]])).logits
        return logits

    @torch.no_grad()
    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """One answer for each request, in order."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Prediction:
        row, base = request.row, self.base
        assert isinstance(row, TextRow)
        prompt = torch.tensor([base.ids(row.prompt)], device=base.device)
        with self.adapters.on(request.adapters):
            found = base.model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=MAX_NEW_TOKENS,
                do_sample=False,
                pad_token_id=base.end,
            )
            loss = self.loss(base.batch([row]))
        text = base.tokenizer.decode(found[0, prompt.shape[1] :], skip_special_tokens=True)
        details = {"loss": float(loss.total[0]), "units": float(loss.units[0])}
        return Prediction(row.id, text, details)
