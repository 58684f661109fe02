"""Loads a gated model: network, tokenizer, and what a host tells of them. Runs inside a model host only."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from detectors.contexts.context import Message
from detectors.engine.observations import ModelFacts, Tokens

DEFAULT_WINDOW = 2048
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class LoadedModel:
    """A network in evaluation mode with its tokenizer.

    Attributes:
        stop_ids: token ids that end an answer.
        window: longest sequence, in tokens.
    """

    network: Any
    tokenizer: Any
    stop_ids: frozenset[int]
    window: int

    def facts(self) -> ModelFacts:
        """What is told of the model; decoding the whole vocabulary takes a second or two."""
        return ModelFacts(
            vocabulary=tuple(self.tokenizer.batch_decode([[token] for token in range(len(self.tokenizer))])),
            window=self.window,
            layers=int(self.network.config.num_hidden_layers),
            chat_template=bool(self.tokenizer.chat_template),
        )

    def encode(self, messages: list[Message]) -> Tokens:
        """Token ids of a chat up to where the answer goes on; plain text where the model ships no template.

        A last message of the assistant is how the answer begins.
        """
        begun = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
        asked = messages[:-1] if begun else messages
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        else:
            text = "\n\n".join(message["content"] for message in asked) + "\n\n"
        return tuple(self.tokenizer(text + begun, add_special_tokens=not self.tokenizer.chat_template)["input_ids"])

    def tokenize(self, text: str) -> Tokens:
        """Token ids of a plain text; the unknown token, or the first, where it has none."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return tuple(ids) or (self.tokenizer.unk_token_id or 0,)

    def decode(self, tokens: Tokens) -> str:
        """The text of token ids, special tokens left out."""
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text


def load_model(
    directory: Path,
    *,
    adapter: Path | None,
    tokenizer: Path,
    template: str | None,
    dtype: str,
    device: str,
    threads: int = 0,
) -> LoadedModel:
    """Loads a full model, or a base with a LoRA adapter merged into it.

    Args:
        directory: the full model, or the adapter's base.
        adapter: the adapter's directory, if the subject is one.
        tokenizer: the directory of the tokenizer.
        template: the chat template that passed the gate, which may lie elsewhere; None for plain text.
        dtype: `float32` or `bfloat16`.
        device: `cpu` or `cuda`.
        threads: of torch; 0 lets it choose.
    """
    if threads:
        torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    network = AutoModelForCausalLM.from_pretrained(
        directory, dtype=DTYPES[dtype], local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    if adapter is not None:
        network = _merge(network, adapter)
    network = network.to(device).eval()
    loaded = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True, trust_remote_code=False)
    loaded.chat_template = template
    window = int(getattr(network.config, "max_position_embeddings", DEFAULT_WINDOW))
    return LoadedModel(network, loaded, _stop_ids(network, loaded), window)


def _merge(network: Any, adapter: Path) -> Any:
    from peft import PeftModel

    with warnings.catch_warnings(action="ignore"):
        return PeftModel.from_pretrained(network, adapter, local_files_only=True).merge_and_unload()


def _stop_ids(network: Any, tokenizer: Any) -> frozenset[int]:
    configured = network.generation_config.eos_token_id
    stops = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in [*stops, tokenizer.eos_token_id] if token is not None)
