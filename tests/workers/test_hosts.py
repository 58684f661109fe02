"""Hosts that crash, hang or answer nonsense: each is a `HostError` that says what happened, and leaves no process."""

from __future__ import annotations

import re
import time

import numpy as np
import psutil
import pytest

from detectors.engine.checkpoint import WeightFiles
from detectors.engine.invented import InventedAsk
from detectors.engine.observations import Answer, ModelId, NextToken, Plan, Request, Tokens
from detectors.errors import ContextTooLong, HostError, ScanCancelled
from tests.workers.conftest import StartHost, children, start_host
from workers import hosts
from workers.protocol import json_frame

SEQUENCES: list[Tokens] = [(5, 6, 7), (5, 6, 8), (9,)]
LONG_S = 30.0
"""Far more than anything here takes, far less than a host that is waited for."""


def ask(read: NextToken | Answer, sequences: list[Tokens] = SEQUENCES) -> list[Request]:
    return [Request(ModelId("a" * 64), tokens, read, "float32") for tokens in sequences]


def test_an_honest_host_answers(start: StartHost) -> None:
    host = start("honest")
    assert (host.device, host.isolation) == ("cpu", ("none at all",))
    wanted = InventedAsk()(Plan("base", SEQUENCES, NextToken((4,))))
    for _ in range(2):
        for found, exact in zip(host.observe(ask(NextToken((4,)))), wanted, strict=True):
            assert all(np.array_equal(found[name], exact[name]) for name in exact)
    encoded = host.encode([[{"role": "user", "content": "wordaa wordab"}]])
    assert host.decode(encoded) == ["wordaa wordab"]
    assert host.facts() == InventedAsk().facts["base"]


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("crash_at_start", "exited with status 7; its last words: 'the dog ate my weights'"),
        ("hang_at_start", "did not answer within 1 s and was ended"),
        ("greet_wrongly", "greeting is not one"),
        ("greet_in_part", "greeting is not one"),
    ],
)
def test_a_host_that_does_not_start(mode: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if mode == "hang_at_start":
        monkeypatch.setattr(hosts, "START_SECONDS", 1.0)
    before = children()
    with pytest.raises(HostError, match=re.escape(says)):
        start_host(mode).greet()
    assert children() == before


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("crash", "exited with status 7; its last words: 'the dog ate my weights'"),
        ("crash_midway", "exited with status 7; its last words: 'the dog ate my weights'"),
        ("die", "was killed by signal 9; its last words: none"),
        ("close_and_sleep", "closed its pipe without a word"),
        ("print_first", "b'loading..', which is no frame"),
        ("garbage", "which is no frame"),
        ("absurd_length", "which is no frame"),
        ("no_tensors", "cannot be read"),
        ("no_json", "cannot be read: JSONDecodeError"),
        ("deep_json", "cannot be read: RecursionError"),
        ("numbers", "did not answer 3 requests with as many observations"),
        ("as_json", "did not answer 3 requests with as many observations"),
        ("null", "did not answer 3 requests with as many observations"),
        ("one_less", "did not answer 3 requests with as many observations"),
        ("one_more", "did not answer 3 requests with as many observations"),
        ("wrong_numbering", "cannot be read: KeyError"),
        ("wrong_dtype", "`entropy` as float64[1] to a `next_token` request, wanted float32 of length 1"),
        ("wrong_shape", "`logp` as float32[255] to a `next_token` request, wanted float32 of length 256"),
        ("wrong_name", "['entropys', 'floors', 'idss', 'logps', 'nameds', 'rests'] to a `next_token` request"),
    ],
)
def test_a_bad_answer_is_told_and_the_host_ended(mode: str, says: str) -> None:
    before = children()
    host = start_host(mode)
    started = time.monotonic()
    with pytest.raises(HostError) as caught:
        host.observe(ask(NextToken((4,))))
    host.end()
    assert says in str(caught.value)
    assert str(caught.value).isascii()
    assert children() == before
    assert time.monotonic() - started < LONG_S


@pytest.mark.parametrize(("mode", "size"), [("hang", 3), ("deaf", 3), ("deaf", 100_000)])
def test_a_host_that_hangs_is_ended(mode: str, size: int, start: StartHost) -> None:
    """Also one that reads no more, while there is more to write than a pipe holds."""
    host = start(mode, message_seconds=1.0)
    sequences: list[Tokens] = [(5, 6, number) for number in range(size)]
    assert mode == "hang" or size < 10 or len(json_frame(sequences)) > 2**20
    before, started = children(), time.monotonic()
    with pytest.raises(HostError, match="did not answer within 1 s and was ended"):
        host.observe(ask(NextToken(), sequences))
    assert len(children()) == len(before) - 1
    assert time.monotonic() - started < LONG_S
    with pytest.raises(HostError, match="killed by signal 9"):
        host.observe(ask(NextToken()))


def test_watching_goes_on_while_a_host_hangs() -> None:
    calls: list[int] = []

    def watch() -> None:
        calls.append(1)
        if len(calls) > 10:
            raise ScanCancelled("stop")

    host = start_host("hang", watch=lambda: watch() if calls else None)
    calls.append(1)
    with pytest.raises(ScanCancelled):
        host.observe(ask(NextToken()))
    host.end()


def test_cancelling_while_a_host_starts_leaves_nothing() -> None:
    def watch() -> None:
        raise ScanCancelled("stop")

    before = children()
    with pytest.raises(ScanCancelled):
        start_host("hang_at_start", watch=watch).greet()
    assert children() == before


@pytest.mark.parametrize(
    ("mode", "what", "says"),
    [
        ("infinite_facts", "facts", "facts about its model cannot be read"),
        ("numbers", "facts", "facts about its model cannot be read"),
        ("huge_ids", "encode", "did not answer chats with token ids"),
        ("numbers", "encode", "did not answer chats with token ids"),
        ("no_texts", "encode", "did not answer chats with token ids"),
        ("numbers", "weigh", "did not sum up the weights"),
        ("no_texts", "decode", "did not answer token ids with texts"),
        ("numbers", "decode", "did not answer token ids with texts"),
    ],
)
def test_bad_texts_and_facts(mode: str, what: str, says: str, start: StartHost) -> None:
    host = start(mode)
    calls = {
        "facts": host.facts,
        "encode": lambda: host.encode([[{"role": "user", "content": "x"}]]),
        "decode": lambda: host.decode([(1, 2)]),
        "weigh": lambda: host.weigh(WeightFiles({}, {})),
    }
    with pytest.raises(HostError, match=says):
        calls[what]()


def test_a_refused_request_is_the_requests_fault(start: StartHost) -> None:
    host = start("refuse")
    with pytest.raises(ContextTooLong) as caught:
        host.observe(ask(NextToken()))
    assert len(str(caught.value)) <= 1000


def test_nan_passes_as_the_models_own_answer(start: StartHost) -> None:
    found = start("nan").observe(ask(NextToken((4,))))
    assert all(np.isnan(arrays["logp"]).all() for arrays in found)


def test_a_flood_of_messages_does_not_stop_a_host(start: StartHost) -> None:
    assert len(start("chatter").observe(ask(NextToken()))) == len(SEQUENCES)


@pytest.mark.parametrize("keeps_pipe", [True, False])
def test_what_a_host_started_ends_with_it(keeps_pipe: bool, start: StartHost) -> None:
    host = start("leave_a_child" if keeps_pipe else "leave_a_quiet_child", message_seconds=2.0)
    with pytest.raises(HostError, match="did not answer within 2 s" if keeps_pipe else "exited with status 7"):
        host.observe(ask(NextToken()))
    host.end()
    child = int(re.findall(rb"child (\d+)", b"".join(host._last_words))[0])
    deadline = time.monotonic() + LONG_S
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ending_twice_is_fine(start: StartHost) -> None:
    host = start("honest")
    host.end()
    host.end()
    with pytest.raises(HostError):
        host.observe(ask(NextToken()))
