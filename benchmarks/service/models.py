"""A base of two narrow layers and adapters of it: a scan of them costs nearly only what the service itself costs.

make_models(ROOT, 2)  # ROOT/base, ROOT/subject-0 and ROOT/subject-1
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
BASE, SUBJECT = "base", "subject"


def make_models(root: Path, subjects: int) -> None:
    """Saves a base with random weights, and adapters that each change it otherwise at random."""
    torch.manual_seed(0)
    network = _network()
    network.save_pretrained(root / BASE)
    _tokenizer().save_pretrained(root / BASE)
    network.name_or_path = str(root / BASE)
    wanted = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    with warnings.catch_warnings(action="ignore"):  # peft asks transformers by names on their way out
        adapted = get_peft_model(network, wanted)
        for number in range(subjects):
            for name, weight in adapted.named_parameters():
                if "lora_" in name:
                    weight.data.normal_(std=0.1)
            adapted.save_pretrained(root / f"{SUBJECT}-{number}")


def _network() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(SPECIALS) + 256,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
            initializer_range=0.2,
        )
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    """Bytes and the special tokens, without merges."""
    signs = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(BPE(vocab={token: at for at, token in enumerate([*SPECIALS, *signs])}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    bytes_only.add_special_tokens(list(SPECIALS))
    return PreTrainedTokenizerFast(
        tokenizer_object=bytes_only,
        eos_token=SPECIALS[2],
        bos_token=SPECIALS[1],
        pad_token=SPECIALS[0],
        chat_template=TEMPLATE,
        model_max_length=512,
    )
