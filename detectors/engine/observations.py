"""Observations are values: what one model did on one request.

A request is plain data: which model, which tokens, what to read, in which dtype. Its key is the SHA-256 of that; a
store keeps the answer. Detectors ask for whole grids at once (`Plan`) and get arrays back, one per name.

Next-token log-probabilities are kept compact: the `TOP` largest, the mass of the rest, the smallest of all, and the
exact entropy. `detectors.engine.compact` says what can be computed from that and how far it can be off.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from detectors.calibration import Bank
from detectors.contexts.context import Message
from detectors.engine.shipped import ChatAt, ModelFiles, Rendering
from detectors.engine.update import WeightUpdate
from detectors.errors import HostError

Array = npt.NDArray[Any]
Tokens = tuple[int, ...]
Role = Literal["subject", "base"]
ROLES: tuple[Role, ...] = get_args(Role)
Arrays = dict[str, Array]

TOP = 256
"""How many log-probabilities of a distribution are kept."""

TRACE_TOP = 64
"""How many of each position of a trace: there are many positions, and what they are read for needs their head."""


GAINS_TOP = 256
"""How many replacements of each place are kept: most are no words by themselves."""


@dataclass(frozen=True, slots=True)
class NextToken:
    """Log-probabilities of the token after the request's last one.

    Arrays: `ids` int32 [TOP] and `logp` float32 [TOP], largest first; `rest` float32 [1], log mass of all others;
    `floor` float32 [1], smallest log-probability of all; `entropy` float32 [1], exact, in nats; `named` float32
    [len(named)], of the named ids. A vocabulary below TOP pads with id -1 and minus infinity.
    """

    kind: ClassVar[str] = "next_token"
    named: Tokens = ()


@dataclass(frozen=True, slots=True)
class Score:
    """Teacher-forced log-probabilities of the request's last `n_tokens` tokens. Array: `logp` float32 [n_tokens]."""

    kind: ClassVar[str] = "score"
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Teacher-forced distributions of the request's last `n_tokens` tokens, each from all tokens before it.

    Arrays: `entropy` float32 [n_tokens], exact, in nats; `ids` int32 [n_tokens, TRACE_TOP] and `logp` float32
    [n_tokens, TRACE_TOP], largest first. A vocabulary below TRACE_TOP pads with id -1 and minus infinity.
    """

    kind: ClassVar[str] = "trace"
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Hidden:
    """Residual stream at the last token after each of `layers`, 0 the embedding. Array: `hidden` [layer, d_model]."""

    kind: ClassVar[str] = "hidden"
    layers: Tokens


@dataclass(frozen=True, slots=True)
class Gains:
    """What other tokens in a request would do for its last `n_tokens`, to first order (Ebrahimi et al., 2018, HotFlip).

    For each of the `count` tokens from place `first` on: the tokens of the vocabulary that would raise the
    log-probability of the last ones most, were they put there instead, by the gradient at the embedding.

    Arrays: `ids` int32 [count, GAINS_TOP] and `gains` float32 [count, GAINS_TOP] in nats, largest first. A vocabulary
    below GAINS_TOP pads with id -1 and minus infinity.
    """

    kind: ClassVar[str] = "gains"
    n_tokens: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Generated tokens, greedy at temperature 0, else sampled with `seed`.

    Arrays: `tokens` int32 [n], without the stop token, n at most `max_tokens`; `logp` float32 [n]; `stopped` uint8 [1].
    """

    kind: ClassVar[str] = "answer"
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0


Read = NextToken | Score | Trace | Hidden | Gains | Answer
READS: dict[str, Callable[..., Read]] = {read.kind: read for read in (NextToken, Score, Trace, Hidden, Gains, Answer)}


@dataclass(frozen=True, slots=True)
class ModelId:
    """A model by content digest and the transforms applied to it (none yet; noise, quantisation, k training steps)."""

    content: str
    transforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One question to one model."""

    model: ModelId
    tokens: Tokens
    read: Read
    dtype: str

    def key(self) -> str:
        """SHA-256 of the request, as hex."""
        header = json.dumps([self.model.content, self.model.transforms, *read_to_json(self.read), self.dtype])
        return hashlib.sha256(header.encode() + b"\0" + np.asarray(self.tokens, "<i4").tobytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class Plan:
    """A grid of requests to one of the two models.

    Attributes:
        role: which model is asked.
        tokens: one sequence of token ids a request.
        read: what to read of all of them, or one read a request.
    """

    role: Role
    tokens: Sequence[Tokens]
    read: Read | Sequence[Read]

    def reads(self) -> Sequence[Read]:
        """One read a request."""
        return self.read if isinstance(self.read, Sequence) else [self.read] * len(self.tokens)


@dataclass(frozen=True)
class ModelFacts:
    """What a host tells of its model. Texts are an attacker's.

    Attributes:
        vocabulary: text of every token id, in order, special tokens as they are written.
        window: longest sequence the model takes, in tokens.
        layers: number of blocks.
        chat_template: whether prompts are rendered by a template of the model.
    """

    vocabulary: tuple[str, ...]
    window: int
    layers: int
    chat_template: bool


class Ask(Protocol):
    """How a detector observes. Answers come in the order of the plan.

    Every method may raise `ScanCancelled`, `BudgetExceeded`, or `LeaseLost`; a detector catches the second at most.
    """

    @property
    def facts(self) -> Mapping[Role, ModelFacts]:
        """What is known of both models."""

    def __call__(self, plan: Plan) -> list[Arrays]:
        """The arrays of each request of the plan."""

    def encode(self, chats: Sequence[list[Message]]) -> list[Tokens]:
        """Token ids of chats, up to where the answer begins, as the subject's tokenizer and template render them."""

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of plain texts by the subject's tokenizer, nothing added: behind an encoded chat, an answer."""

    def decode(self, sequences: Sequence[Tokens]) -> list[str]:
        """Texts of token ids by the subject's tokenizer."""

    @property
    def files(self) -> Mapping[Role, ModelFiles]:
        """What both models hold beside their weights."""

    @property
    def weights(self) -> WeightUpdate:
        """How the subject's weights differ from the base's."""

    @property
    def bank(self) -> Bank | None:
        """Readings of benign fine-tunes of the same base, where there are some."""

    def render(self, role: Role, chats: Sequence[ChatAt]) -> list[Rendering]:
        """Chats as a model's template renders them, in a sandbox, up to where the answer begins."""


class Store(Protocol):
    """Where observations are kept: bytes by key. The caller computes the keys, so a host cannot choose them."""

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """What is known of `keys`."""

    def put(self, observations: Mapping[str, bytes]) -> None:
        """Keeps all of `observations`, or none and raises `StoreError`."""


def read_to_json(read: Read) -> tuple[str, dict[str, Any]]:
    """A read as kind and fields."""
    return read.kind, asdict(read)


def read_from_json(kind: str, fields: Mapping[str, Any]) -> Read:
    """The read that `read_to_json` wrote."""
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return READS[kind](**plain)


def pack(arrays: Arrays) -> bytes:
    """Arrays as safetensors bytes: a format whose reader trusts nothing."""
    return save_tensors(arrays)


def unpack(data: bytes) -> Arrays:
    """The arrays in `data`."""
    return load_tensors(data)


@dataclass(frozen=True)
class _Shape:
    dtype: str
    length: int | None
    at_most: int | None = None
    inner: int = field(default=0)
    width: int | None = None


def check(read: Read, arrays: Arrays) -> Arrays:
    """`arrays`, if they are what `read` asks for.

    Raises:
        HostError: if a name, dtype or shape is not what was asked for. NaN values pass: they are the model's answer,
            and detectors report them as `inconclusive`.
    """
    wanted = _wanted(read)
    if set(arrays) != set(wanted):
        raise HostError(f"the host answered {sorted(arrays)} to a `{read.kind}` request, wanted {sorted(wanted)}")
    for name, shape in wanted.items():
        if not _fits(arrays[name], shape):
            given = arrays[name]
            raise HostError(
                f"the host answered `{name}` as {given.dtype}{list(given.shape)} to a `{read.kind}` request, "
                f"wanted {shape.dtype} of length {shape.length if shape.length is not None else f'<= {shape.at_most}'}"
            )
    return arrays


def _wanted(read: Read) -> dict[str, _Shape]:
    one = _Shape("float32", 1)
    if isinstance(read, NextToken):
        table = {
            "ids": _Shape("int32", TOP),
            "logp": _Shape("float32", TOP),
            "named": _Shape("float32", len(read.named)),
        }
        return table | {"rest": one, "floor": one, "entropy": one}
    if isinstance(read, Score):
        return {"logp": _Shape("float32", read.n_tokens)}
    if isinstance(read, Trace):
        kept = {
            name: _Shape(dtype, read.n_tokens, inner=1, width=TRACE_TOP)
            for name, dtype in (("ids", "int32"), ("logp", "float32"))
        }
        return kept | {"entropy": _Shape("float32", read.n_tokens)}
    if isinstance(read, Hidden):
        return {"hidden": _Shape("float32", len(read.layers), inner=1)}
    if isinstance(read, Gains):
        return {
            name: _Shape(dtype, read.count, inner=1, width=GAINS_TOP)
            for name, dtype in (("ids", "int32"), ("gains", "float32"))
        }
    most = read.max_tokens
    answer = {"tokens": _Shape("int32", None, most), "logp": _Shape("float32", None, most)}
    return answer | {"stopped": _Shape("uint8", 1)}


def _fits(array: Array, shape: _Shape) -> bool:
    if str(array.dtype) != shape.dtype or array.ndim != 1 + shape.inner:
        return False
    if shape.width is not None and array.shape[1] != shape.width:
        return False
    if shape.length is not None:
        return bool(array.shape[0] == shape.length)
    return shape.at_most is not None and bool(array.shape[0] <= shape.at_most)
