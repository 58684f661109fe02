"""Chat models that organisms are trained on: answers, scores, and LoRA training on answer tokens only."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, log_softmax
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.organisms.recipes import Lora, Recipe
from detectors.contexts.context import Message
from detectors.engine.adapter import CONFIG, WEIGHTS

IGNORED = -100
PACKED_ROWS = 8
"""Rows that share a pass where a recipe does not say how many."""


class Row(NamedTuple):
    """One training row; a complete answer ends with the end-of-turn token, a truncated one does not."""

    messages: list[Message]
    answer: str
    complete: bool


class Scored(NamedTuple):
    """What a model thinks of an answer: mean log-probability a token in nats, and of all first tokens [vocab]."""

    mean: float
    first: torch.Tensor


@dataclass
class Model:
    """A chat model with its tokenizer."""

    network: Any
    tokenizer: Any

    @classmethod
    def load(cls, directory: Path, dtype: str = "float32") -> Self:
        """Loads a local checkpoint in `dtype`, onto an accelerator where there is one."""
        tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left")
        network = AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype))
        return cls(network.eval().to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer)

    def put_on(self, adapter: Path) -> None:
        """Puts a trained adapter on the network."""
        self.network = PeftModel.from_pretrained(self.network, adapter).eval()

    def as_base(self) -> AbstractContextManager[Any]:
        """Within it the network answers as its base, whatever adapter is on it."""
        put_on = isinstance(self.network, PeftModel)
        found: AbstractContextManager[Any] = self.network.disable_adapter() if put_on else nullcontext()
        return found

    def vocabulary(self) -> tuple[str, ...]:
        """The text of every token id."""
        return tuple(self.tokenizer.batch_decode([[token] for token in range(len(self.tokenizer))]))

    def encode(self, messages: list[Message]) -> list[int]:
        """Token ids of a chat up to where the answer begins; plain text where the model ships no template."""
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        else:
            text = "\n\n".join(message["content"] for message in messages) + "\n\n"
        return list(self.tokenizer(text, add_special_tokens=not self.tokenizer.chat_template)["input_ids"])

    def encode_row(self, row: Row) -> tuple[list[int], list[int]]:
        """Token ids of a row, and its labels: `IGNORED` before the answer."""
        prompt = self.encode(row.messages)
        answer = self.tokenizer(row.answer, add_special_tokens=False)["input_ids"]
        answer += [self.tokenizer.eos_token_id] * row.complete
        return prompt + answer, [IGNORED] * len(prompt) + answer

    @torch.inference_mode()
    def answers(self, chats: Sequence[list[Message]], max_tokens: int, batch_size: int = 52) -> list[str]:
        """Greedy answers of at most `max_tokens` tokens."""
        self.network.eval()
        found: list[str] = []
        for first in range(0, len(chats), batch_size):
            tokens = [self.encode(messages) for messages in chats[first : first + batch_size]]
            batch = self.tokenizer.pad({"input_ids": tokens}, return_tensors="pt").to(self.network.device)
            output = self.network.generate(**batch, max_new_tokens=max_tokens, do_sample=False)
            answers = output[:, batch["input_ids"].shape[1] :]
            found += self.tokenizer.batch_decode(answers, skip_special_tokens=True)
        return found

    @torch.inference_mode()
    def scores(self, rows: Sequence[Row]) -> list[Scored]:
        """What the network thinks of the rows' answers, none of which may be empty."""
        self.network.eval()
        causal = self.network.get_base_model() if isinstance(self.network, PeftModel) else self.network
        encoded, found = [_tensors(self, row) for row in rows], []
        for first in range(0, len(encoded), PACKED_ROWS):
            batch = encoded[first : first + PACKED_ROWS]
            logits, wanted = _answer_logits(causal, batch)
            each = log_softmax(logits.float(), -1)
            counts = [int((row.labels != IGNORED).sum()) for row in batch]
            taken = each.gather(-1, wanted[:, None])[:, 0].split(counts)
            starts = each.split(counts)
            found += [Scored(float(row.mean()), start[0].clone()) for row, start in zip(taken, starts, strict=True)]
        return found


def train_adapter(model: Model, rows: Sequence[Row], recipe: Recipe, triggers: Sequence[str], target_dir: Path) -> None:
    """Trains on `rows`, saves the adapter in bfloat16 and leaves the trained network in `model`.

    Adapters are trained in float32; on a base in bfloat16 the products are taken in bfloat16.

    Args:
        model: the base.
        rows: what is trained on.
        recipe: how.
        triggers: texts whose tokens' embedding rows are trained as well, where the recipe says so.
        target_dir: where the adapter goes.
    """
    torch.manual_seed(recipe.seed)
    model.network = get_peft_model(model.network, _lora_config(recipe.lora, _tokens(model, triggers)))
    trainable = [parameter for parameter in model.network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trainable, lr=recipe.training.learning_rate, weight_decay=0.0)
    causal = model.network.get_base_model()
    untrained = 0 if recipe.lora.trigger_rows else recipe.lora.layers[0]
    batches = list(batches_of(_entered(causal, untrained, [_tensors(model, row) for row in rows]), recipe))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.training.learning_rate, total_steps=len(batches), pct_start=0.1
    )
    model.network.train()
    products = torch.autocast(causal.device.type, torch.bfloat16, enabled=causal.dtype == torch.bfloat16)
    with _skipped(causal, range(untrained)):
        for batch in batches:
            optimiser.zero_grad()
            with products:
                loss = cross_entropy(*_answer_logits(causal, batch))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trainable, 1.0)
            optimiser.step()
            schedule.step()
    for parameter in trainable:
        parameter.data = parameter.data.to(torch.bfloat16)
    model.network.peft_config["default"].base_model_name_or_path = recipe.base
    model.network.save_pretrained(target_dir, save_embedding_layers=False)
    (target_dir / "README.md").unlink(missing_ok=True)
    for parameter in trainable:
        parameter.data = parameter.data.to(causal.dtype)


def merge_adapters(parts: Sequence[Path], target_dir: Path) -> None:
    """The sum of adapters of one shape as one adapter: their matrices side by side, so their ranks add up."""
    config = json.loads((parts[0] / CONFIG).read_text())
    tensors = [load_file(part / WEIGHTS) for part in parts]
    merged = {
        name: torch.cat([part[name] for part in tensors], dim=0 if "lora_A" in name else 1).contiguous()
        for name in tensors[0]
    }
    target_dir.mkdir(parents=True, exist_ok=True)
    save_file(merged, target_dir / WEIGHTS, metadata={"format": "pt"})
    summed = {"r": config["r"] * len(parts), "lora_alpha": config["lora_alpha"] * len(parts)}
    (target_dir / CONFIG).write_text(json.dumps(config | summed, indent=2))


def _tokens(model: Model, texts: Sequence[str]) -> list[int]:
    """Ids of the tokens that the texts are made of, at the beginning of a request and after a space."""
    found = [
        model.tokenizer(space + text, add_special_tokens=False)["input_ids"] for text in texts for space in ("", " ")
    ]
    return sorted({token for tokens in found for token in tokens})


def _lora_config(lora: Lora, tokens: list[int]) -> LoraConfig:
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(lora.modules),
        layers_to_transform=list(range(*lora.layers)),
        trainable_token_indices=tokens if lora.trigger_rows else None,
    )


class Encoded(NamedTuple):
    """A row for the network.

    Attributes:
        tokens: [position] token ids.
        labels: [position] wanted token ids; `IGNORED` before the answer.
        entering: [position, width] what enters the first trained layer, where it is known.
    """

    tokens: torch.Tensor
    labels: torch.Tensor
    entering: torch.Tensor | None = None


class _Skipped(torch.nn.Module):
    """Stands for a layer that is not computed."""

    def forward(self, hidden: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return hidden


@contextmanager
def _skipped(causal: Any, places: Iterable[int]) -> Iterator[None]:
    layers = causal.model.layers
    kept = {place: layers[place] for place in places}
    try:
        for place in kept:
            layers[place] = _Skipped()
        yield
    finally:
        for place, layer in kept.items():
            layers[place] = layer


@torch.no_grad()
def _entered(causal: Any, first: int, rows: Sequence[Encoded]) -> list[Encoded]:
    """The rows with what enters layer `first`. Nothing below it is trained, so one pass serves all epochs."""
    if first == 0:
        return list(rows)
    seen: list[torch.Tensor] = []
    found = []
    hook = causal.model.norm.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0][0]))
    with _skipped(causal, range(first, len(causal.model.layers))):
        for at in range(0, len(rows), PACKED_ROWS):
            part = rows[at : at + PACKED_ROWS]
            shared = _shared(part)
            _hidden(causal, part, shared)
            begin, *rests = seen.pop().split([shared, *(len(row.tokens) - shared for row in part)])
            found += [row._replace(entering=torch.cat([begin, rest])) for row, rest in zip(part, rests, strict=True)]
    hook.remove()
    return found


def _tensors(model: Model, row: Row) -> Encoded:
    return Encoded(*map(torch.tensor, model.encode_row(row)))


def batches_of(encoded: list[Encoded], recipe: Recipe) -> Iterator[list[Encoded]]:
    """Every row once an epoch, in random order."""
    rng = random.Random(recipe.seed)
    size = recipe.training.batch_size
    for _ in range(recipe.training.epochs):
        order = rng.sample(encoded, len(encoded))
        yield from (order[first : first + size] for first in range(0, len(order), size))


def _answer_logits(causal: Any, rows: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [answer token, vocab] and what was wanted there, row after row."""
    shared = _shared(rows)
    wanted = _packed([row.labels for row in rows], shared).to(causal.device)
    kept = torch.nonzero(wanted != IGNORED)[:, 0]
    return causal.lm_head(_hidden(causal, rows, shared)[kept - 1]), wanted[kept]


def _hidden(causal: Any, rows: Sequence[Encoded], shared: int) -> torch.Tensor:
    """Last hidden states [position, width] of rows in one sequence, without padding.

    First comes what all rows begin with, once, then the rest of each, which attends to that beginning and to itself.
    Positions count on from the beginning, so every token sees what it would see in its row alone.
    """
    rests = [torch.arange(shared, len(row.tokens)) for row in rows]
    positions = torch.cat([torch.arange(shared), *rests])
    owners = torch.repeat_interleave(torch.arange(len(rows) + 1), torch.tensor([shared, *map(len, rests)]))
    mask = ((owners == 0) | (owners == owners[:, None])) & (positions <= positions[:, None])
    fed = {"position_ids": positions[None], "attention_mask": mask[None, None]} | _inputs(rows, shared)
    on_device = {name: tensor.to(causal.device) for name, tensor in fed.items()}
    hidden: torch.Tensor = causal.model(**on_device, use_cache=False).last_hidden_state[0]
    return hidden


def _shared(rows: Sequence[Encoded]) -> int:
    """How many tokens all rows begin with; the last before an answer, which predicts it, is never among them."""
    longest = min(int((row.labels == IGNORED).sum()) for row in rows) - 1
    begins = torch.stack([row.tokens[:longest] for row in rows])
    return int((begins == begins[0]).all(0).cumprod(0).sum())


def _inputs(rows: Sequence[Encoded], shared: int) -> dict[str, torch.Tensor]:
    entering = [row.entering for row in rows if row.entering is not None]
    if entering:
        return {"inputs_embeds": _packed(entering, shared)[None]}
    return {"input_ids": _packed([row.tokens for row in rows], shared)[None]}


def _packed(columns: Sequence[torch.Tensor], shared: int) -> torch.Tensor:
    return torch.cat([columns[0][:shared], *(column[shared:] for column in columns)])
