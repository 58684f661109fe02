"""`ask` on real host processes: everything is paid once, in any chunking, and what fails is tried again or told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app.core.stores.observations import SqliteStore
from detectors.catalog import TRIGGER_SWEEP
from detectors.contexts.context import NO_CONTEXT, Message, chat
from detectors.engine.invented import VOCABULARY_SIZE, InventedAsk
from detectors.engine.observations import Answer, Arrays, ModelId, NextToken, Plan, Read, Role, Score, Tokens
from detectors.errors import BudgetExceeded, HostError, ScanCancelled
from detectors.suites import SMOKE
from tests.workers.conftest import start_host
from workers import observer as observing
from workers.hosts import Host
from workers.observer import Observer
from workers.runner import run_detectors

MODELS: dict[Role, ModelId] = {"subject": ModelId("5" * 64), "base": ModelId("b" * 64)}
SEQUENCES: list[Tokens] = [(1, 2, *range(3, 3 + length), last) for length in (0, 4, 9) for last in range(20, 40)]
CHATS = [chat(NO_CONTEXT, prompt) for prompt in ("wordaa wordab", "wordac")]


class Hosts:
    """Starts hosts and remembers them: one mode a start, the last for ever; `asked` counts messages."""

    def __init__(self, *modes: str, **changes: Any) -> None:
        self.modes = list(modes or ("honest",))
        self.changes = changes
        self.started: list[tuple[Role, Host]] = []
        self.asked: list[int] = []

    def __call__(self, role: Role) -> Host:
        mode = self.modes.pop(0) if len(self.modes) > 1 else self.modes[0]
        host = start_host(mode, **self.changes)
        ask = host._ask

        def counted(**message: Any) -> Any:
            self.asked += [len(message["requests"])] if message["op"] == "observe" else []
            return ask(**message)

        host._ask = counted  # type: ignore[method-assign]
        self.started.append((role, host))
        return host

    def roles(self) -> list[Role]:
        return [role for role, _ in self.started]

    def running(self) -> list[Role]:
        return [role for role, host in self.started if host._process.poll() is None]


def never(role: Role) -> Host:
    raise AssertionError(f"a host of the {role} is started, everything should be in the store")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "observations.sqlite", 2**28) as store:
        yield store


@pytest.fixture
def observe(store: SqliteStore) -> Iterator[Callable[..., Observer]]:
    """Makes observers and ends their hosts."""
    made: list[Observer] = []

    def make(start: Callable[[Role], Host], **changes: Any) -> Observer:
        arguments: dict[str, Any] = {"store": store, "models": MODELS, "dtype": "float32"} | changes
        models, dtype, kept = (arguments.pop(name) for name in ("models", "dtype", "store"))
        made.append(Observer(models, dtype, kept, start, **{"message_tokens": 16_000} | arguments))
        return made[-1]

    yield make
    for observer in made:
        observer.end()


def wanted(read: Read) -> list[Arrays]:
    return InventedAsk()(Plan("base", SEQUENCES, read))


def assert_equal(found: list[Arrays], exact: list[Arrays]) -> None:
    assert len(found) == len(exact)
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def observe_everything(observer: Observer) -> list[Any]:
    facts = observer.facts
    sequences = observer.encode(CHATS)
    texts = [observer.decode(sequences), observer.tokenize(["wordaa wordab"])]
    arrays = [observer(Plan(role, SEQUENCES, NextToken((7,)))) for role in MODELS]
    answers = observer(Plan("subject", sequences, Answer(5)))
    return [facts, sequences, texts, arrays, answers, observer.weights]


@pytest.mark.parametrize("read", [NextToken((4,)), Score(2), Answer(6)], ids=lambda read: read.kind)
def test_answers_are_in_the_order_of_the_plan(observe: Callable[..., Observer], read: Read) -> None:
    assert_equal(observe(Hosts())(Plan("subject", SEQUENCES, read)), wanted(read))


def test_mixed_reads_and_repeated_requests(observe: Callable[..., Observer]) -> None:
    hosts = Hosts()
    reads = [NextToken((4,)), Score(1)] * (len(SEQUENCES) // 2)
    found = observe(hosts)(Plan("subject", SEQUENCES, reads))
    assert_equal(found, InventedAsk()(Plan("base", SEQUENCES, reads)))
    twice = observe(hosts)(Plan("base", SEQUENCES + SEQUENCES, Score(1)))
    assert_equal(twice, wanted(Score(1)) * 2)
    assert sum(hosts.asked) == 2 * len(SEQUENCES)


def test_a_second_time_nothing_is_computed_and_no_host_is_needed(observe: Callable[..., Observer]) -> None:
    first = observe(Hosts())
    before = observe_everything(first)
    assert first.meter.forward_tokens > 0
    second = observe(never)
    after = observe_everything(second)
    assert before[:3] == after[:3]
    for ours, theirs in zip([*after[3], after[4]], [*before[3], before[4]], strict=True):
        assert_equal(ours, theirs)
    assert after[5].modules == before[5].modules
    assert_equal([after[5].to_arrays()], [before[5].to_arrays()])
    usage = second.meter.usage()
    assert usage.observations == usage.store_hits == 2 * len(SEQUENCES) + len(CHATS)
    assert (usage.forward_tokens, usage.generated_tokens) == (0, 0)
    assert second.price(Plan("subject", SEQUENCES, NextToken((7,)))) == (0, 0)


def test_the_price_is_what_is_then_paid(observe: Callable[..., Observer]) -> None:
    observer = observe(Hosts())
    plan = Plan("subject", SEQUENCES, NextToken())
    price = observer.price(plan)
    observer(plan)
    assert price == (observer.meter.forward_tokens, 0)
    answers = Plan("subject", SEQUENCES, Answer(3))
    forward, generated = observer.price(answers)
    assert generated == 3 * len(SEQUENCES)
    observer(answers)
    assert observer.meter.forward_tokens == price[0] + forward
    assert observer.meter.generated_tokens <= generated


def test_only_what_is_missing_is_asked(observe: Callable[..., Observer]) -> None:
    hosts = Hosts()
    observer = observe(hosts)
    observer(Plan("subject", SEQUENCES[::2], Score(1)))
    observer(Plan("subject", SEQUENCES, Score(1)))
    assert sum(hosts.asked) == len(SEQUENCES)
    assert observer.meter.store_hits == len(SEQUENCES[::2])


def test_another_subject_of_the_same_base_needs_no_base_host(observe: Callable[..., Observer]) -> None:
    observe_everything(observe(Hosts()))
    hosts = Hosts()
    observe_everything(observe(hosts, models=MODELS | {"subject": ModelId("6" * 64)}))
    assert set(hosts.roles()) == {"subject"}


@pytest.mark.parametrize("change", ["dtype", "content", "transforms"])
def test_other_models_and_dtypes_share_nothing(observe: Callable[..., Observer], change: str) -> None:
    observe(Hosts())(Plan("base", SEQUENCES, Score(1)))
    changes: dict[str, dict[str, Any]] = {
        "dtype": {"dtype": "bfloat16"},
        "content": {"models": MODELS | {"base": ModelId("c" * 64)}},
        "transforms": {"models": MODELS | {"base": ModelId("b" * 64, ("noise",))}},
    }
    observer = observe(Hosts(), **changes[change])
    observer(Plan("base", SEQUENCES, Score(1)))
    assert observer.meter.store_hits == 0


def test_messages_of_any_size_give_the_same(observe: Callable[..., Observer], tmp_path: Path) -> None:
    found = []
    for tokens in (1, 50, 10**6):
        with SqliteStore(tmp_path / f"{tokens}.sqlite", 2**28) as fresh:
            hosts = Hosts()
            observer = observe(hosts, store=fresh, message_tokens=tokens)
            found.append(observer(Plan("subject", SEQUENCES, NextToken((3,)))))
        found.append([{"messages": np.array(len(hosts.asked))}])
    assert_equal(found[0], found[2])
    assert_equal(found[0], found[4])
    assert [int(part[0]["messages"]) for part in found[1::2]] == [len(SEQUENCES), 2, 1]


def test_a_budget_ends_it_and_keeps_what_was_paid(
    observe: Callable[..., Observer], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(observing, "time", SimpleNamespace(monotonic=lambda: clock[0]))  # nobody else's
    hosts = Hosts(watch=lambda: None)
    observer = observe(hosts, budget_seconds=5.0, message_tokens=1)

    def spend() -> None:
        clock[0] += 1.0

    observer.progress = spend
    with pytest.raises(BudgetExceeded, match="time budget"):
        observer(Plan("subject", SEQUENCES, Score(1)))
    paid = len(hosts.asked)
    assert 0 < paid < len(SEQUENCES)
    again = observe(hosts)
    again(Plan("subject", SEQUENCES, Score(1)))
    assert again.meter.store_hits == paid


def test_cancelling_between_messages_keeps_what_was_paid(observe: Callable[..., Observer]) -> None:
    hosts = Hosts()

    def watch() -> None:
        if len(hosts.asked) == 7:
            raise ScanCancelled("stop")

    with pytest.raises(ScanCancelled):
        observe(hosts, watch=watch, message_tokens=1)(Plan("subject", SEQUENCES, Score(1)))
    again = observe(Hosts())
    again(Plan("subject", SEQUENCES, Score(1)))
    assert again.meter.store_hits == 7


@pytest.mark.parametrize(("resident", "running"), [(1, ["base"]), (2, ["subject", "base"])])
def test_resident_hosts(observe: Callable[..., Observer], resident: int, running: list[Role]) -> None:
    hosts = Hosts()
    observer = observe(hosts, resident=resident)
    for role in ("subject", "base"):
        observer(Plan(role, SEQUENCES, Score(1)))
    assert hosts.running() == running
    assert observer.device == "cpu"
    assert observer.isolation == ("none at all",)
    observer.end()
    assert hosts.running() == []


@pytest.mark.parametrize("bad", ["crash", "wrong_shape", "garbage"])
def test_two_bad_hosts_are_replaced(observe: Callable[..., Observer], bad: str) -> None:
    hosts = Hosts(bad, "crash_at_start", "honest")
    assert_equal(observe(hosts, resident=1)(Plan("subject", SEQUENCES, Score(1))), wanted(Score(1)))
    assert hosts.running() == ["subject"]
    assert len(hosts.started) == 3


def test_three_bad_hosts_are_told(observe: Callable[..., Observer], store: SqliteStore) -> None:
    hosts = Hosts("wrong_dtype")
    observer = observe(hosts, resident=1)
    with pytest.raises(HostError, match=r"`logp`|float64.*\(after 3 attempts\)"):
        observer(Plan("subject", SEQUENCES, NextToken()))
    assert len(hosts.started) == observing.ATTEMPTS == 3
    assert hosts.running() == []
    assert observer.meter.computed_work == 0
    assert observe(Hosts()).price(Plan("subject", SEQUENCES, NextToken()))[0] > 0


def test_a_host_that_answers_nan_leaves_the_sweep_inconclusive(observe: Callable[..., Observer]) -> None:
    honest, hosts = InventedAsk(), Hosts("nan")

    class Mixed:
        """Texts by invention, numbers by hosts."""

        facts = honest.facts
        decode = staticmethod(honest.decode)
        tokenize = staticmethod(honest.tokenize)
        render = staticmethod(honest.render)
        __call__ = staticmethod(observe(hosts))

        def encode(self, chats: Sequence[list[Message]]) -> list[Tokens]:
            return [tuple(token % VOCABULARY_SIZE for token in tokens) for tokens in honest.encode(chats)]

    small = SMOKE.trigger_sweep.model_copy(update={"families": {"literature": 20}, "first_prompts": 1})
    results = run_detectors(
        SMOKE.model_copy(update={"artifact_diff": None, "weight_delta": None, "trigger_sweep": small}), Mixed(), seed=0
    )
    assert (results[0].detector, results[0].outcome) == (TRIGGER_SWEEP.name, "inconclusive")
    assert "not numbers" in results[0].reason
    assert results[1].confirmations == ()


def test_a_host_that_never_works_leaves_every_detector_that_asks_it_inconclusive(
    observe: Callable[..., Observer],
) -> None:
    files, weights, sweep, _ = run_detectors(SMOKE, observe(Hosts("crash_at_start")), seed=0)
    assert files.outcome == "completed"  # it asks no host
    assert (weights.outcome, sweep.outcome) == ("inconclusive", "inconclusive")
    assert "the dog ate my weights" in sweep.reason
