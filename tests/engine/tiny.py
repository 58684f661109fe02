"""Makes tiny models and adapters that load like real ones, in well under a second.

A tiny Llama with random weights, a byte-level tokenizer without merges (256 bytes and four special tokens), and a chat
template in the form of SmolLM2's. Tests share them: nothing is downloaded, and no test needs a trained model to see
whether files, loading, forward passes and stores work.

    python -m tests.engine.tiny DIRECTORY
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
VOCABULARY = len(SPECIALS) + 256
WINDOW = 512
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tiny_model(
    directory: Path,
    *,
    seed: int = 0,
    vocab: int = VOCABULARY,
    layers: int = 2,
    d_model: int = 32,
    template: bool = True,
    extra_tokens: tuple[str, ...] = (),
    max_shard_size: str = "1GB",
) -> Path:
    """Saves a tiny Llama with tied embeddings, its tokenizer and chat template.

    Args:
        directory: made if missing.
        seed: of the weights; models of different seeds are unrelated.
        vocab: rows of the embedding, at least 260 and the extra tokens.
        layers: number of layers.
        d_model: width, a multiple of 4.
        template: whether to write chat_template.jinja.
        extra_tokens: added to the tokenizer with the next free ids.
        max_shard_size: below the model's size, shards with an index are written.

    Returns:
        The directory.

    Raises:
        ValueError: if `vocab` is smaller than the tokenizer.
    """
    if vocab < VOCABULARY + len(extra_tokens):
        raise ValueError(f"`vocab` must be at least {VOCABULARY + len(extra_tokens)}, got {vocab}")
    directory.mkdir(parents=True, exist_ok=True)
    tiny_network(seed=seed, vocab=vocab, layers=layers, d_model=d_model).save_pretrained(
        directory, max_shard_size=max_shard_size
    )
    _tokenizer(extra_tokens).save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(_tokenizer_settings()))
    if template:
        (directory / "chat_template.jinja").write_text(TEMPLATE)
    return directory


def tiny_network(*, seed: int, vocab: int = VOCABULARY, layers: int = 2, d_model: int = 32) -> LlamaForCausalLM:
    """A Llama with random weights; the global random state is left as it was."""
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=d_model,
        intermediate_size=2 * d_model,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=WINDOW,
        tie_word_embeddings=True,
        bos_token_id=SPECIALS.index("<|im_start|>"),
        eos_token_id=SPECIALS.index("<|im_end|>"),
        pad_token_id=SPECIALS.index("<|pad|>"),
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def _tokenizer(extra_tokens: tuple[str, ...]) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIALS, *alphabet])}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.add_tokens([AddedToken(token) for token in extra_tokens])
    return tokenizer


def _tokenizer_settings() -> dict[str, str | int]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|pad|>",
        "unk_token": "<|endoftext|>",
        "model_max_length": WINDOW,
    }


def make_tiny_adapter(base_dir: Path, directory: Path, seed: int = 0, *, rank: int = 2) -> Path:
    """Saves a LoRA adapter with random matrices on a tiny model.

    Args:
        base_dir: the base; the adapter knows it by this path.
        directory: made if missing.
        seed: of both matrices: unlike a fresh adapter it changes the base.
        rank: of the matrices.

    Returns:
        The directory.
    """
    base = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    with warnings.catch_warnings(action="ignore"):  # peft asks transformers by names on their way out
        model = get_peft_model(base, config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(directory)
    return directory


if __name__ == "__main__":
    print(make_tiny_model(Path(sys.argv[1])))
