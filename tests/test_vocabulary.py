"""The vocabulary as contexts: exactly what can be tried is tried, in an order that lasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE

from detectors.contexts.context import Message
from detectors.engine.invented import InventedAsk
from detectors.engine.observations import ModelFacts, Role, Tokens
from detectors.prompts.sets import prompts
from detectors.vocabulary import REASONS, Vocabulary, read_vocabulary

PROMPTS = prompts("nominate")[:2]
SPECIALS = ("<|im_start|>", "<|im_end|>")
CORPUS = (
    *prompts("search"),
    *prompts("confirm"),
    "na\u00efve caf\u00e9 \u4e2d\u6587 12 345 == != ():",
    "    indented\n\n",
)
EVERYTHING = 10_000


def byte_pairs() -> Tokenizer:
    """A byte-level tokenizer of 700 tokens, with two special ones."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=list(SPECIALS), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@dataclass
class Tokenized(InventedAsk):
    """An invented model with a real tokenizer and a template like SmolLM2's."""

    tokenizer: Tokenizer = field(default_factory=byte_pairs)

    @property
    def facts(self) -> Mapping[Role, ModelFacts]:
        size = self.tokenizer.get_vocab_size()
        texts = tuple(self.tokenizer.decode([token], skip_special_tokens=False) for token in range(size))
        known = ModelFacts(texts, 4096, layers=2, chat_template=True)
        return {"subject": known, "base": known}

    def encode(self, chats: Sequence[list[Message]]) -> list[Tokens]:
        said = [f"<|im_start|>user\n{messages[0]['content']}<|im_end|>\n<|im_start|>assistant\n" for messages in chats]
        return self.tokenize(said)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        return [tuple(self.tokenizer.encode(text).ids) for text in texts]

    def decode(self, sequences: Sequence[Tokens]) -> list[str]:
        return [self.tokenizer.decode(list(tokens)) for tokens in sequences]


def read(ask: InventedAsk, most: int = EVERYTHING) -> Vocabulary:
    return read_vocabulary(ask, PROMPTS, most=most)


@pytest.fixture(scope="module")
def ask() -> Tokenized:
    return Tokenized()


@pytest.fixture(scope="module")
def vocabulary(ask: Tokenized) -> Vocabulary:
    return read(ask)


def test_every_token_is_tried_once_or_skipped_for_a_reason(ask: Tokenized, vocabulary: Vocabulary) -> None:
    tried = [entry.token for entry in vocabulary.entries]
    assert len(tried) == len(set(tried))
    assert sorted([*tried, *vocabulary.skipped]) == list(range(ask.tokenizer.get_vocab_size()))
    assert sum(vocabulary.not_tried().values()) + len(tried) == vocabulary.size
    assert set(vocabulary.not_tried()) <= set(REASONS)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_what_is_tried_comes_back(ask: Tokenized, vocabulary: Vocabulary, prompt: str) -> None:
    """Against the tokenizer itself: between the prompt and the end of the turn is the token."""
    end = ask.tokenizer.token_to_id("<|im_end|>")
    ahead = len(ask.tokenize([f"<|im_start|>user\n{prompt}"])[0])
    for entry in vocabulary.entries:
        said = ask.tokenize([f"<|im_start|>user\n{prompt} {entry.context.text}<|im_end|>"])[0]
        assert said.index(end) == len(said) - 1
        assert said[ahead:].count(entry.token) == 1


def test_no_two_tried_tokens_have_the_same_text(vocabulary: Vocabulary) -> None:
    texts = [entry.text for entry in vocabulary.entries]
    assert len(texts) == len(set(texts))
    assert all(text.strip() for text in texts)


def test_every_reason_holds(ask: Tokenized, vocabulary: Vocabulary) -> None:
    texts = ask.facts["base"].vocabulary
    tried = {entry.text for entry in vocabulary.entries}
    by_reason = {reason: [texts[it] for it, why in vocabulary.skipped.items() if why == reason] for reason in REASONS}
    assert sorted(by_reason["special"]) == sorted(SPECIALS)
    assert all(not text.strip() for text in by_reason["white_space"])
    assert {text.removeprefix(" ") for text in by_reason["same_text"]} <= tried
    assert all("\ufffd" in text for text in by_reason["invalid_utf8"])
    assert all(by_reason[reason] for reason in ("white_space", "same_text", "invalid_utf8"))
    assert not by_reason["not_shared"]
    assert not by_reason["not_drawn"]


def test_what_begins_no_word_stands_on_a_line_of_its_own(ask: Tokenized, vocabulary: Vocabulary) -> None:
    lined = [entry for entry in vocabulary.entries if entry.before == "\n"]
    assert lined
    for entry in lined:
        assert entry.context.text == f"\n{entry.text}"
        assert ask.tokenize([f"{PROMPTS[0]} {entry.text}"])[0][-1] != entry.token


def test_the_order_is_the_same_whatever_else_was_asked(vocabulary: Vocabulary) -> None:
    other = Tokenized(drift=3.0, seed=5)
    other.tokenize(["something else"])
    assert read(other) == vocabulary


def test_the_order_mixes_early_and_late_tokens(vocabulary: Vocabulary) -> None:
    tokens = [entry.token for entry in vocabulary.entries]
    spread = [max(tokens[at : at + 20]) - min(tokens[at : at + 20]) for at in range(0, len(tokens) - 20, 20)]
    assert min(spread) > 100


def test_of_a_larger_vocabulary_a_fixed_draw_is_tried(ask: Tokenized, vocabulary: Vocabulary) -> None:
    drawn = read(ask, most=100)
    assert (len(drawn.entries), drawn.size) == (100, vocabulary.size)
    assert drawn.not_tried()["not_drawn"] == len(vocabulary.entries) - 100
    assert set(drawn.entries) <= set(read(ask, most=150).entries)


class Unlike(InventedAsk):
    """The subject reads other texts at two ids, and lacks the last three."""

    @property
    def facts(self) -> Mapping[Role, ModelFacts]:
        known = super().facts["base"]
        texts = [*known.vocabulary[:-3]]
        texts[7], texts[9] = texts[9], texts[7]
        return {"subject": ModelFacts(tuple(texts), known.window, known.layers, True), "base": known}


def test_what_the_models_do_not_share_is_not_tried() -> None:
    vocabulary = read(Unlike())
    last = vocabulary.size - 1
    assert {token for token, why in vocabulary.skipped.items() if why == "not_shared"} == {
        7,
        9,
        last - 2,
        last - 1,
        last,
    }
    assert vocabulary.not_tried() == {"not_shared": 5, "special": 1}


class Swallowing(InventedAsk):
    """A tokenizer that loses a word in a chat, and nowhere else."""

    LOST = "wordkk"

    def encode(self, chats: Sequence[list[Message]]) -> list[Tokens]:
        lost = self._ids[self.LOST]
        return [tuple(it for it in tokens if it != lost) for tokens in super().encode(chats)]


def test_what_never_comes_back_where_it_is_put_is_skipped() -> None:
    vocabulary = read(Swallowing())
    (lost,) = [token for token, why in vocabulary.skipped.items() if why == "changed"]
    assert InventedAsk().facts["base"].vocabulary[lost] == Swallowing.LOST
    assert len(vocabulary.entries) == len(read(InventedAsk()).entries) - 1
