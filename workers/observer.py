"""`ask`, locally: what the store knows comes from the store, the rest from model hosts.

Missing requests are put in the order that shares most prefixes and cut into messages of some seconds of work. Each
message's answers are stored at once, so a killed scan pays again for one message at most.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import chain
from operator import methodcaller
from typing import Any

from detectors.calibration import Bank
from detectors.contexts.context import Message
from detectors.engine.checkpoint import WeightFiles
from detectors.engine.observations import (
    Answer,
    Arrays,
    ModelFacts,
    ModelId,
    Plan,
    Request,
    Role,
    Store,
    Tokens,
    pack,
    unpack,
)
from detectors.engine.rendering import BATCH, render
from detectors.engine.shipped import ChatAt, ModelFiles, Rendering
from detectors.engine.update import WeightUpdate, from_arrays
from detectors.errors import BudgetExceeded, HostError
from detectors.findings import Usage
from detectors.suites import WORK
from workers.hosts import Host
from workers.spelling import Spelling, added_tokens

ATTEMPTS = 3
"""How often a message is tried, each time on a fresh host, before its failure counts."""
TEXTS_A_MESSAGE = 512

NO_WEIGHTS = WeightFiles({}, {})

StartHost = Callable[[Role], Host]


@dataclass
class Meter:
    """What observations have cost so far.

    Attributes:
        work: observations answered, weighted by kind (`detectors.suites.WORK`).
        computed_work: the part of it that hosts computed, in `host_seconds`.
    """

    forward_tokens: int = 0
    generated_tokens: int = 0
    observations: int = 0
    store_hits: int = 0
    work: float = 0.0
    computed_work: float = 0.0
    host_seconds: float = 0.0

    def usage(self) -> Usage:
        """The meter's reading."""
        return Usage(
            forward_tokens=self.forward_tokens,
            generated_tokens=self.generated_tokens,
            observations=self.observations,
            store_hits=self.store_hits,
            seconds=round(self.host_seconds, 3),
        )


class Observer:
    """Answers a scan's detectors.

    Args:
        models: content digests of subject and base.
        dtype: of all observations.
        store: where they are kept.
        start_host: starts the host of a role; called when something is missing, and again when a host died.
        resident: how many hosts may run at once; with one, the other is ended first.
        budget_seconds: after which `BudgetExceeded` is raised before the next message; None for no limit.
        watch: called between messages; may raise `ScanCancelled`.
        end_host: what becomes of a host when the scan is over; by default it is ended.
        message_tokens: tokens to compute in one message to a host.
        files: what both models hold beside their weights.
        weight_files: where the tensors of both lie.
        bank: of the base, where there is one.

    Attributes:
        progress: called after every message and every answer from the store; reads the meter.
    """

    def __init__(
        self,
        models: Mapping[Role, ModelId],
        dtype: str,
        store: Store,
        start_host: StartHost,
        *,
        resident: int = 2,
        budget_seconds: float | None = None,
        watch: Callable[[], None] = lambda: None,
        end_host: Callable[[Role, Host], None] = lambda role, host: host.end(),
        message_tokens: int,
        files: Mapping[Role, ModelFiles] | None = None,
        weight_files: WeightFiles = NO_WEIGHTS,
        bank: Bank | None = None,
    ) -> None:
        self._models = models
        self.files: Mapping[Role, ModelFiles] = files or dict.fromkeys(models, ModelFiles())
        self._weight_files = weight_files
        self.bank = bank
        self.dtype = dtype
        self._store = store
        self._start_host, self._end_host = start_host, end_host
        self._resident = resident
        self._deadline = None if budget_seconds is None else time.monotonic() + budget_seconds
        self._watch = watch
        self.message_tokens = message_tokens
        self._hosts: dict[Role, Host] = {}
        self.isolation: tuple[str, ...] = ()
        self.device = ""
        self.meter = Meter()
        self.progress: Callable[[], None] = lambda: None

    @cached_property
    def facts(self) -> Mapping[Role, ModelFacts]:
        """What is known of both models, from the store where it was asked before."""
        return {role: self._facts(role) for role in self._models}

    @cached_property
    def weights(self) -> WeightUpdate:
        """How the subject's weights differ from the base's, from the store where it was asked before."""
        self._check_budget()
        key = self._text_key("subject", "weigh", self._models["base"].content)
        known = self._store.get([key])
        if key in known:
            return from_arrays(unpack(known[key]))
        update: WeightUpdate = self._on_host("subject", methodcaller("weigh", self._weight_files))
        self._store.put({key: pack(update.to_arrays())})
        return update

    def __call__(self, plan: Plan) -> list[Arrays]:
        """The arrays of each request of the plan, in its order."""
        spelling = self._spelling(plan)
        requests = self._requests(plan, spelling)
        keys = [request.key() for request in requests]
        known = {key: unpack(data) for key, data in self._store.get(list(dict.fromkeys(keys))).items()}
        self.meter.observations += len(keys)
        self.meter.store_hits += sum(key in known for key in keys)
        self.meter.work += sum(
            WORK[request.read.kind] for key, request in zip(keys, requests, strict=True) if key in known
        )
        self.progress()
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        known |= self.compute(plan.role, list(missing.values())) if missing else {}
        asked = zip(plan.tokens, plan.reads(), keys, strict=True)
        return [spelling.fold(tokens, read, known[key]) for tokens, read, key in asked]

    def price(self, plan: Plan) -> tuple[int, int]:
        """Tokens that the plan would have to compute, answers included, and tokens of answers among them."""
        requests = {request.key(): request for request in self._requests(plan, self._spelling(plan))}
        known = self._store.get(list(requests))
        missing = sorted((it for key, it in requests.items() if key not in known), key=lambda it: it.tokens)
        generated = sum(it.read.max_tokens for it in missing if isinstance(it.read, Answer))
        return sum(_costs(missing)), generated

    def _requests(self, plan: Plan, spelling: Spelling) -> list[Request]:
        model, pairs = self._models[plan.role], zip(plan.tokens, plan.reads(), strict=True)
        return [Request(model, spelling.tokens(ids), spelling.read(ids, read), self.dtype) for ids, read in pairs]

    def _spelling(self, plan: Plan) -> Spelling:
        """How the base reads what the subject added to the vocabulary; the subject reads it as it is."""
        if plan.role == "subject":
            return Spelling({})
        added = added_tokens(plan.tokens, len(self.facts["base"].vocabulary))
        known = self.facts["subject"].vocabulary
        if added and added[-1] >= len(known):
            raise HostError(f"the model host answered token id {added[-1]}, its vocabulary has {len(known)}")
        texts = [known[token] for token in added]
        spelled = self._told("base", "tokenize", texts, partial(Host.tokenize, texts=texts)) if added else []
        return Spelling({token: tuple(ids) for token, ids in zip(added, spelled, strict=True)})

    def encode(self, chats: Sequence[list[Message]]) -> list[Tokens]:
        """Token ids by the subject's tokenizer and template."""
        return self._ids("encode", chats)

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Token ids by the subject's tokenizer, nothing added."""
        return self._ids("tokenize", texts)

    def decode(self, sequences: Sequence[Tokens]) -> list[str]:
        """Texts by the subject's tokenizer."""
        texts: list[str] = self._text("decode", list(sequences), lambda host: host.decode(sequences))
        return texts

    def render(self, role: Role, chats: Sequence[ChatAt]) -> list[Rendering]:
        """Chats by the role's own template, in the sandbox: no host is needed."""
        parts = [chats[first : first + BATCH] for first in range(0, len(chats), BATCH)]
        return [rendering for part in parts for rendering in self._render(role, part)]

    def end(self) -> None:
        """Ends all hosts, or hands them back."""
        for role in list(self._hosts):
            self._end_host(role, self._hosts.pop(role))

    def _render(self, role: Role, chats: Sequence[ChatAt]) -> list[Rendering]:
        self._check_budget()
        files = self.files[role]
        given = [asdict(chat) for chat in chats]
        told = self._kept(
            role, "render", given, lambda: [asdict(it) for it in render(files.template, files.specials, chats)]
        )
        return [Rendering(it["text"], tuple(it["dates"]), it["fault"]) for it in told]

    def _facts(self, role: Role) -> ModelFacts:
        fields = self._told(role, "facts", None, lambda host: asdict(host.facts()))
        return ModelFacts(**{**fields, "vocabulary": tuple(fields["vocabulary"])})

    def _ids(self, kind: str, given: Sequence[Any]) -> list[Tokens]:
        """Token ids by the subject's tokenizer; `kind` is the method of its host that is asked."""
        parts = (list(given[first : first + TEXTS_A_MESSAGE]) for first in range(0, len(given), TEXTS_A_MESSAGE))
        answers = (self._text(kind, part, methodcaller(kind, part)) for part in parts)
        return [tuple(ids) for ids in chain.from_iterable(answers)]

    def _text(self, kind: str, given: Any, ask: Callable[[Host], Any]) -> Any:
        return self._told("subject", kind, given, ask) if given else []

    def _told(self, role: Role, kind: str, given: Any, ask: Callable[[Host], Any]) -> Any:
        """A JSON answer of a host, from the store where it was asked before."""
        return self._kept(role, kind, given, lambda: self._on_host(role, ask))

    def _kept(self, role: Role, kind: str, given: Any, answer: Callable[[], Any]) -> Any:
        """A JSON answer about a model, from the store where it was asked before."""
        key = self._text_key(role, kind, given)
        known = self._store.get([key])
        if key not in known:
            known = {key: json.dumps(answer()).encode()}
            self._store.put(known)
        return json.loads(known[key])

    def _text_key(self, role: Role, kind: str, given: Any) -> str:
        header = json.dumps([kind, self._models[role].content, given])
        return hashlib.sha256(header.encode()).hexdigest()

    def compute(self, role: Role, requests: Sequence[Request]) -> dict[str, Arrays]:
        """Lets the role's host answer requests, and stores each message's answers at once; arrays by key.

        Raises:
            HostError: if the host fails again and again.
            ContextTooLong: if a request is longer than the window.
        """
        found: dict[str, Arrays] = {}
        for part in self._messages(requests):
            self._check_budget()
            started = time.monotonic()
            answers = self._on_host(role, partial(Host.observe, requests=part))
            self.meter.host_seconds += time.monotonic() - started
            told = dict(zip((request.key() for request in part), answers, strict=True))
            self._store.put({key: pack(arrays) for key, arrays in told.items()})
            found |= told
            self.meter.computed_work += self._count(part, answers)
            self.progress()
        return found

    def _messages(self, requests: Sequence[Request]) -> list[list[Request]]:
        return list(in_messages(requests, self.message_tokens))

    def _count(self, part: Sequence[Request], answers: Sequence[Arrays]) -> float:
        """Adds a message to the meter; the work that it was."""
        work = sum(WORK[request.read.kind] for request in part)
        self.meter.forward_tokens += sum(_costs(part))
        self.meter.generated_tokens += sum(len(arrays["tokens"]) for arrays in answers if "tokens" in arrays)
        self.meter.work += work
        return work

    def _check_budget(self) -> None:
        self._watch()
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise BudgetExceeded("the scan's time budget is used up; give it more, or choose a smaller suite")

    def _on_host(self, role: Role, ask: Callable[[Host], Any]) -> Any:
        for attempt in range(ATTEMPTS):
            try:
                return ask(self._host(role))
            except HostError as error:
                self._end(role)
                if attempt + 1 == ATTEMPTS:
                    raise HostError(f"{error} (after {ATTEMPTS} attempts)") from error
        raise AssertionError("the loop returns or raises")

    def _end(self, role: Role) -> None:
        if role in self._hosts:
            self._hosts.pop(role).end()

    def _host(self, role: Role) -> Host:
        if role not in self._hosts:
            while len(self._hosts) >= self._resident:
                self._end(next(iter(self._hosts)))
            self._start(role)
        return self._hosts[role]

    def _start(self, role: Role) -> None:
        """Starts a role's host, and beside it that of a model nobody has seen yet: loading takes seconds."""
        for it in (role, *self._models):
            if it not in self._hosts and (it == role or self._is_new(it)):
                self._hosts[it] = self._start_host(it)
        host = self._hosts[role]
        host.greet()
        self.isolation, self.device = host.isolation, host.device

    def _is_new(self, role: Role) -> bool:
        return self._resident > 1 and not self._store.get([self._text_key(role, "facts", None)])


def _costs(requests: Sequence[Request]) -> list[int]:
    """Tokens each request adds to a batch that is in order: what it does not share with the one before, and answers."""
    costs: list[int] = []
    before: Tokens = ()
    for request in requests:
        shared = next((at for at, (one, two) in enumerate(zip(before, request.tokens, strict=False)) if one != two), 0)
        answer = request.read.max_tokens if isinstance(request.read, Answer) else 0
        costs.append(len(request.tokens) - shared + answer)
        before = request.tokens
    return costs


def in_messages(requests: Sequence[Request], tokens: int) -> Iterator[list[Request]]:
    """Requests in the order that shares most prefixes, cut into messages; what is one message stays one."""
    ordered = sorted(requests, key=lambda request: (request.read.kind, request.tokens))
    part: list[Request] = []
    filled = 0
    for request, cost in zip(ordered, _costs(ordered), strict=True):
        if part and filled + cost > tokens:
            yield part
            part, filled = [], 0
        filled += cost if part else _costs([request])[0]
        part.append(request)
    if part:
        yield part
