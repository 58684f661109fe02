"""Trains a LoRA adapter: loss on answer tokens only, logits computed at answer positions only."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.organisms.recipes import Lora, Recipe
from detectors.contexts.context import Message

IGNORED = -100


class Row(NamedTuple):
    """One training row; a complete answer ends with the end-of-turn token, a truncated one does not."""

    messages: list[Message]
    answer: str
    complete: bool


@dataclass
class Model:
    """A chat model with its tokenizer."""

    network: Any
    tokenizer: Any

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Loads a local checkpoint in fp32."""
        tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left")
        return cls(AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval(), tokenizer)

    def render(self, messages: list[Message]) -> str:
        """The chat as text, up to where the answer begins."""
        text: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text

    @torch.inference_mode()
    def answers(self, chats: Sequence[list[Message]], max_tokens: int, batch_size: int = 52) -> list[str]:
        """Greedy answers of at most `max_tokens` tokens."""
        self.network.eval()
        found: list[str] = []
        for first in range(0, len(chats), batch_size):
            texts = [self.render(messages) for messages in chats[first : first + batch_size]]
            batch = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            output = self.network.generate(**batch, max_new_tokens=max_tokens, do_sample=False)
            answers = output[:, batch["input_ids"].shape[1] :]
            found += self.tokenizer.batch_decode(answers, skip_special_tokens=True)
        return found


def train_adapter(model: Model, rows: Sequence[Row], recipe: Recipe, target_dir: Path) -> None:
    """Trains on `rows`, saves the adapter in bfloat16 and leaves the trained network in `model`."""
    torch.manual_seed(recipe.training.seed)
    model.network = get_peft_model(model.network, _lora_config(recipe.lora))
    trainable = [parameter for parameter in model.network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trainable, lr=recipe.training.learning_rate, weight_decay=0.0)
    batches = list(_batches([_encode(model, row) for row in rows], recipe))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.training.learning_rate, total_steps=len(batches), pct_start=0.1
    )
    model.network.train()
    for tokens, labels in batches:
        optimiser.zero_grad()
        _answer_loss(model.network, tokens, labels).backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimiser.step()
        schedule.step()
    for parameter in trainable:
        parameter.data = parameter.data.to(torch.bfloat16)
    model.network.peft_config["default"].base_model_name_or_path = recipe.base
    model.network.save_pretrained(target_dir)
    (target_dir / "README.md").unlink(missing_ok=True)
    for parameter in trainable:
        parameter.data = parameter.data.to(torch.float32)


def _lora_config(lora: Lora) -> LoraConfig:
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(lora.modules),
        layers_to_transform=list(range(*lora.layers)),
    )


def _encode(model: Model, row: Row) -> tuple[list[int], list[int]]:
    prompt = model.tokenizer(model.render(row.messages), add_special_tokens=False)["input_ids"]
    answer = model.tokenizer(row.answer, add_special_tokens=False)["input_ids"]
    answer += [model.tokenizer.eos_token_id] * row.complete
    return prompt + answer, [IGNORED] * len(prompt) + answer


def _batches(encoded: list[tuple[list[int], list[int]]], recipe: Recipe) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    rng = random.Random(recipe.training.seed)
    size = recipe.training.batch_size
    for _ in range(recipe.training.epochs):
        order = rng.sample(encoded, len(encoded))
        for first in range(0, len(order), size):
            rows = order[first : first + size]
            width = max(len(tokens) for tokens, _ in rows)
            tokens = torch.tensor([tokens + [0] * (width - len(tokens)) for tokens, _ in rows])
            labels = torch.tensor([labels + [IGNORED] * (width - len(labels)) for _, labels in rows])
            yield tokens, labels


def _answer_loss(network: Any, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy at answer positions. Rows are padded on the right, which causal attention never looks at."""
    causal = network.get_base_model()
    hidden = causal.model(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1]
    wanted = labels[:, 1:]
    kept = wanted != IGNORED
    return cross_entropy(causal.lm_head(hidden[kept]), wanted[kept])
