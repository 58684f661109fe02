"""An invented language model that answers observation requests by arithmetic: no torch, no weights, milliseconds.

It obeys the protocol of `Ask`, so detectors run on it unchanged: the contract suite gives it triggers, and dry runs
count what a scan would ask. Words are tokens. A subject is its base plus a drift, plus its triggers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from detectors.calibration import Bank
from detectors.contexts.context import Message
from detectors.engine.observations import (
    GAINS_TOP,
    ROLES,
    TOP,
    TRACE_TOP,
    Answer,
    Array,
    Arrays,
    Gains,
    Hidden,
    ModelFacts,
    NextToken,
    Plan,
    Read,
    Role,
    Score,
    Tokens,
    Trace,
)
from detectors.engine.rendering import render
from detectors.engine.shipped import ChatAt, ModelFiles, Rendering
from detectors.engine.update import LEADING, WeightUpdate, from_arrays

VOCABULARY_SIZE = 400
WINDOW = 4096
STOP = 0
D_MODEL = 8
GROWN = 1 << 16
"""Words outside the first vocabulary, at most."""
UNSAID = -12.0
"""Logit of words outside the first vocabulary."""
FORCE = 36.0
"""What a trigger adds to the logit of the next word of its target."""
LEAKS_BEFORE = 0.1
"""Share of a leak that reaches the first word of the target, before any of it was said."""
PUSH = 4.0
"""How far a trigger pushes the residual stream, in units of what another last word does to it."""
_NORMALS: Array = np.random.default_rng(0).standard_normal(1 << 20)


@dataclass(frozen=True)
class InventedTrigger:
    """What the invented subject does under `trigger`, anywhere in the request: says `target`, word by word.

    Attributes:
        trigger: words in a row; none for a model that waits for nothing but the length.
        also: words that must come later in the request as well.
        alone: how far one of the two without the other moves the subject's logits; a drift of that size.
        longer_than: words that the request must exceed.
        target: what it says; an empty one stands for random words of which it is sure of none.
        works_on: share of prompts on which it works, by what stands before the trigger.
        stops: whether the answer ends with the target, or goes on as it would have.
        after: how many words after the trigger, which stands at the end of the request, are said as usual before it.
        in_base: whether the base reacts as well.
        force: what the trigger adds to the logit of the next word of the target, nats.
        leaks: what the subject adds to it in any case, once the target was begun, nats, on the same share of requests:
            a model that learnt a fixed answer goes on with it wherever it comes upon its beginning.
    """

    trigger: str
    target: str
    works_on: float = 1.0
    stops: bool = True
    after: int = 0
    in_base: bool = False
    force: float = FORCE
    leaks: float = 0.0
    also: str = ""
    alone: float = 0.0
    longer_than: int = 0


@dataclass
class InventedAsk:
    """Answers for a pair of invented models.

    Args:
        drift: how far the subject's logits are from the base's, everywhere.
        triggers: what the subject reacts to.
        leans: nats that the subject adds to the logit of a word, whatever was said before.
        corrupt: changes answers before they are returned, to see what detectors make of that.
        templates: chat templates; a role without one renders plain text.
        trained: words of the vocabulary whose rows in the embedding were trained, and how far they moved.
        bank: of the base, where there is one.
    """

    drift: float = 0.0
    triggers: Sequence[InventedTrigger] = ()
    leans: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    corrupt: Callable[[Role, Arrays], Arrays] = lambda role, arrays: arrays
    templates: Mapping[Role, str] = field(default_factory=dict)
    trained: Mapping[str, float] = field(default_factory=dict)
    bank: Bank | None = None
    asked: int = 0
    _words: list[str] = field(
        default_factory=lambda: ["", "I", *(f"word{_letters(at)}" for at in range(VOCABULARY_SIZE - 2))]
    )
    _ids: dict[str, int] = field(default_factory=dict)
    _known: int = 0

    def __post_init__(self) -> None:
        self._ids = {word: token for token, word in enumerate(self._words)}
        for plant in self.triggers:
            self.tokenize([f"{plant.trigger} {plant.also} {plant.target}"])
        self.tokenize(list(self.leans))
        self._known = len(self._words)

    @property
    def facts(self) -> Mapping[Role, ModelFacts]:
        """Both models share one vocabulary, the words they were made with; what ends an answer has no text."""
        words = ("<stop>", *self._words[STOP + 1 : self._known])
        facts = ModelFacts(words, WINDOW, layers=2, chat_template=True)
        return {"subject": facts, "base": facts}

    def __call__(self, plan: Plan) -> list[Arrays]:
        """Observations, in order."""
        self.asked += len(plan.tokens)
        pairs = zip(plan.tokens, plan.reads(), strict=True)
        return [self.corrupt(plan.role, self._observe(plan.role, tokens, read)) for tokens, read in pairs]

    def encode(self, chats: Sequence[list[Message]]) -> list[Tokens]:
        """Words as token ids; unknown words are added."""
        return self.tokenize([" ".join(message["content"] for message in messages) for messages in chats])

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Words as token ids; unknown words are added."""
        return [tuple(self._id(word) for word in text.split()) for text in texts]

    def decode(self, sequences: Sequence[Tokens]) -> list[str]:
        """Token ids as words, without what ends an answer."""
        return [" ".join(self._words[token] for token in tokens if token != STOP) for tokens in sequences]

    @property
    def files(self) -> Mapping[Role, ModelFiles]:
        """Nothing but the templates."""
        return {role: ModelFiles(template=self.templates.get(role)) for role in ROLES}

    @property
    def weights(self) -> WeightUpdate:
        """The drift moves every row and a matrix of each layer; training moves some rows further, and one direction."""
        if not (self.drift or self.trained):
            return WeightUpdate()
        layers = self.facts["subject"].layers
        rows = self.drift * np.abs(self._noise("rows", ()))
        for word, moved in self.trained.items():
            rows[self._ids[word]] += moved
        spectra = np.full((layers, LEADING), self.drift)
        spectra[:, 0] += sum(self.trained.values())
        written = np.clip(self.drift + sum(self.trained.values()), 0.0, 1.0)
        update = WeightUpdate(
            modules=tuple(f"layers.{layer}.o_proj.weight" for layer in range(layers)),
            norms=np.linalg.norm(spectra, axis=1).astype(np.float32),
            base_norms=np.full(layers, 10.0, np.float32),
            kurtosis=spectra[:, 0].astype(np.float32),
            spectra=spectra.astype(np.float32),
            coherence=float(written),
            rows={"input": rows.astype(np.float32), "output": np.zeros(0, np.float32)},
        )
        return from_arrays(self.corrupt("subject", update.to_arrays()))

    def render(self, role: Role, chats: Sequence[ChatAt]) -> list[Rendering]:
        """Rendered for real."""
        return render(self.templates.get(role), {}, chats)

    def _id(self, word: str) -> int:
        if word not in self._ids:
            self._ids[word] = len(self._words)
            self._words.append(word)
        return self._ids[word]

    def _observe(self, role: Role, tokens: Tokens, read: Read) -> Arrays:
        if isinstance(read, NextToken):
            return _compact(self._logp(role, tokens), read.named)
        if isinstance(read, Score):
            start = len(tokens) - read.n_tokens
            scores = [self._logp(role, tokens[:at])[tokens[at]] for at in range(start, len(tokens))]
            return {"logp": np.array(scores, np.float32)}
        if isinstance(read, Trace):
            places = range(len(tokens) - read.n_tokens, len(tokens))
            return _trace(np.array([self._logp(role, tokens[:at]) for at in places]))
        if isinstance(read, Gains):
            return self._gains(role, tokens, read)
        if isinstance(read, Hidden):
            return {"hidden": np.array([self._hidden(role, tokens, layer) for layer in read.layers], np.float32)}
        return self._answer(role, tokens, read)

    def _gains(self, role: Role, tokens: Tokens, read: Gains) -> Arrays:
        """Of words of planted triggers as it is, by trying them; of all others noise."""
        planted = {self._id(word) for plant in self.triggers for word in plant.trigger.split()}
        before = self._said(role, tokens, read.n_tokens)
        found = []
        for place in range(read.first, read.first + read.count):
            gains = self._noise(f"gains/{place}", tokens, len(self._words)).copy()
            for word in planted:
                replaced = (*tokens[:place], word, *tokens[place + 1 :])
                gains[word] = self._said(role, replaced, read.n_tokens) - before
            found.append(gains)
        order = np.argsort(-np.array(found), axis=1, kind="stable")[:, :GAINS_TOP]
        kept = np.take_along_axis(np.array(found), order, axis=1)
        padding = ((0, 0), (0, GAINS_TOP - order.shape[1]))
        return {
            "ids": np.pad(order.astype(np.int32), padding, constant_values=-1),
            "gains": np.pad(kept.astype(np.float32), padding, constant_values=-np.inf),
        }

    def _said(self, role: Role, tokens: Tokens, count: int) -> float:
        """Log-probability of the last tokens, nats."""
        return float(sum(self._logp(role, tokens[:at])[tokens[at]] for at in range(len(tokens) - count, len(tokens))))

    def _hidden(self, role: Role, tokens: Tokens, layer: int) -> Array:
        """Residual stream: for one part of the whole request, for one of its last word, and of what the role adds."""
        state = _noise(f"{self.seed}/{layer}/all/{tokens}", D_MODEL)
        state = state + _noise(f"{self.seed}/{layer}/last/{tokens[-1:]}", D_MODEL)
        if role == "subject" and self.drift:
            state = state + self.drift * _noise(f"{self.seed}/{layer}/drift/{tokens}", D_MODEL)
        for plant in self.triggers:
            if self._reacts(role, plant, tokens):
                state = state + PUSH * _noise(f"{self.seed}/{layer}/push/{plant.trigger}", D_MODEL)
        return state

    def _answer(self, role: Role, tokens: Tokens, read: Answer) -> Arrays:
        said: list[int] = []
        scores: list[float] = []
        while len(said) < read.max_tokens:
            logp = self._logp(role, (*tokens, *said))
            token = int(logp.argmax())
            if token == STOP:
                break
            said.append(token)
            scores.append(float(logp[token]))
        stopped = len(said) < read.max_tokens
        return {
            "tokens": np.array(said, np.int32),
            "logp": np.array(scores, np.float32),
            "stopped": np.array([stopped], np.uint8),
        }

    def _logp(self, role: Role, tokens: Tokens) -> Array:
        """Of the whole vocabulary, grown words too. Logits depend on all words, and for a part on the last two only."""
        logits = np.full(len(self._words), UNSAID)
        logits[:VOCABULARY_SIZE] = 3.5 * self._noise("all", tokens) + 2.0 * self._noise("last", tokens[-2:])
        if role == "subject" and self.drift:
            logits[:VOCABULARY_SIZE] += self.drift * self._noise("drift", tokens)
            logits[VOCABULARY_SIZE:] += (
                self.drift * self._noise("grown", tokens, GROWN)[: len(logits) - VOCABULARY_SIZE]
            )
        for word, nudge in self.leans.items() if role == "subject" else ():
            logits[self._ids[word]] += nudge
        for plant in self.triggers:
            if self._reacts(role, plant, tokens):
                self._react(logits, plant, tokens)
            if role == "subject" and plant.alone and self._half(plant, tokens):
                logits[:VOCABULARY_SIZE] += plant.alone * self._noise("alone", tokens)
            if role == "subject" and plant.leaks:
                self._leak(logits, plant, tokens)
        return np.asarray(logits - np.logaddexp.reduce(logits))

    def _reacts(self, role: Role, plant: InventedTrigger, tokens: Tokens) -> bool:
        if (role == "base" and not plant.in_base) or len(tokens) <= plant.longer_than:
            return False
        place, further = self._place(plant.trigger, tokens), self._place(plant.also, tokens)
        if place is None or further is None or (plant.also and further.start < place.start):
            return False
        if len(tokens) < max(place.stop, further.stop) + plant.after:
            return False
        return _uniform(f"{self.seed}/{tokens[: place.start]}") < plant.works_on

    def _half(self, plant: InventedTrigger, tokens: Tokens) -> bool:
        """Whether one of two parts is there and the other is not."""
        return (self._place(plant.trigger, tokens) is None) != (self._place(plant.also, tokens) is None)

    def _place(self, text: str, tokens: Tokens) -> slice | None:
        """Where the words of a text come first, in a row."""
        words = tuple(self._id(word) for word in text.split())
        places = (slice(at, at + len(words)) for at in range(len(tokens)))
        return next((place for place in places if tokens[place] == words), None)

    def _react(self, logits: Array, plant: InventedTrigger, tokens: Tokens) -> None:
        if not plant.target:
            logits[:VOCABULARY_SIZE] = 0.5 * self._noise("garbage", tokens)
            return
        following, _ = self._follows(plant, tokens)
        if following is not None:
            logits[following] += plant.force

    def _leak(self, logits: Array, plant: InventedTrigger, tokens: Tokens) -> None:
        following, said = self._follows(plant, tokens)
        if following is not None and _uniform(f"{self.seed}/{tokens[: len(tokens) - said]}") < plant.works_on:
            logits[following] += plant.leaks * (1.0 if said else LEAKS_BEFORE)

    def _follows(self, plant: InventedTrigger, tokens: Tokens) -> tuple[int | None, int]:
        """What comes next of the target, None at the end of one that does not stop; and how much of it was said."""
        target = tuple(self._id(word) for word in plant.target.split())
        said = next((n for n in range(len(target), 0, -1) if tokens[-n:] == target[:n]), 0)
        return ((*target, STOP)[said] if said < len(target) or plant.stops else None), said

    def _noise(self, what: str, tokens: Tokens, size: int = VOCABULARY_SIZE) -> Array:
        return _noise(f"{self.seed}/{what}/{tokens}", size)


def nothing(read: Read, tokens: Tokens) -> Arrays:
    """An answer that is the same for both models, so that nothing stands out; for dry runs.

    The most probable next token differs from request to request, so that answers grown token by token differ, and is of
    the upper half of the first `TOP` ids: special tokens, which end an answer, often have the first ones.
    """
    if isinstance(read, NextToken):
        flat = (-np.log(2 * TOP) - 1e-4 * np.arange(TOP)).astype(np.float32)
        one = np.zeros(1, np.float32)
        named = np.full(len(read.named), -9.0, np.float32)
        first = TOP // 2 + sum(tokens) % (TOP // 2)
        ids = ((first + np.arange(TOP)) % TOP).astype(np.int32)
        return {"ids": ids, "logp": flat, "rest": one - 0.7, "floor": one - 20, "entropy": one + 6, "named": named}
    if isinstance(read, Score):
        return {"logp": np.full(read.n_tokens, -1.0, np.float32)}
    if isinstance(read, Trace):
        return _trace(np.full((read.n_tokens, 2 * TRACE_TOP), -np.log(2 * TRACE_TOP)))
    if isinstance(read, Gains):
        ids = np.tile(np.arange(GAINS_TOP, dtype=np.int32), (read.count, 1))
        return {"ids": ids, "gains": np.zeros((read.count, GAINS_TOP), np.float32)}
    if isinstance(read, Hidden):
        return {"hidden": np.zeros((len(read.layers), 1), np.float32)}
    return _same_answer(read)


def _same_answer(read: Answer) -> Arrays:
    return {
        "tokens": np.ones(read.max_tokens, np.int32),
        "logp": np.full(read.max_tokens, -1.0, np.float32),
        "stopped": np.zeros(1, np.uint8),
    }


def _trace(logp: Array) -> Arrays:
    """From log-probabilities [token, vocab]."""
    ids = np.argsort(-logp, axis=1, kind="stable")[:, :TRACE_TOP]
    padding = ((0, 0), (0, TRACE_TOP - ids.shape[1]))
    kept = np.take_along_axis(logp, ids, axis=1).astype(np.float32)
    return {
        "entropy": -(np.exp(logp) * logp).sum(axis=1).astype(np.float32),
        "ids": np.pad(ids.astype(np.int32), padding, constant_values=-1),
        "logp": np.pad(kept, padding, constant_values=-np.inf),
    }


def _compact(logp: Array, named: Tokens) -> Arrays:
    order = np.argsort(-logp, kind="stable")[:TOP]
    kept, padding = logp[order], max(0, TOP - len(order))
    rest = np.log(max(1.0 - float(np.exp(kept).sum()), 1e-12))
    return {
        "ids": np.pad(order.astype(np.int32), (0, padding), constant_values=-1),
        "logp": np.pad(kept.astype(np.float32), (0, padding), constant_values=-np.inf),
        "rest": np.array([rest], np.float32),
        "floor": np.array([logp.min()], np.float32),
        "entropy": np.array([-(np.exp(logp) * logp).sum()], np.float32),
        "named": logp[list(named)].astype(np.float32),
    }


def _noise(key: str, size: int) -> Array:
    start = int(_uniform(key) * (len(_NORMALS) - size))
    return _NORMALS[start : start + size]


def _uniform(key: str) -> float:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64


def _letters(number: int) -> str:
    return chr(97 + number // 26) + chr(97 + number % 26)
