"""Leases: one owner at a time, by the database's clock; what comes too late changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.core import leases, scans
from app.core.database import Database, clock
from app.core.leases import ATTEMPTS, Lease
from app.core.tables import Audit, Chunk, Key, Scan
from detectors.errors import Conflict, LeaseLost

LONG = 60.0
WISH = scans.Wish(model="m", base="b", suite="smoke", policy="default", seed=0, labels=("team",), expected=())


@pytest.fixture(autouse=True)
def key(database: Database) -> None:
    with database.writing() as session:
        session.add(Key(id="key", name="tests", prefix="ts", hash="0" * 64, scopes=["admin"], created=0.0))


def submitted(database: Database, token: str | None = None, **changes: Any) -> tuple[str, str]:
    """Ids of a scan and of the chunk that drives it."""
    with database.writing() as session:
        scan, chunk = scans.submit(session, scans.Wish(**vars(WISH) | changes), "key", token)
        assert chunk is not None
        return scan.id, chunk.id


def claimed(database: Database, chunk_id: str, lease_s: float = LONG) -> Lease:
    lease = leases.claim(database, chunk_id, "worker", lease_s)
    assert lease is not None
    return lease


def chunk_of(database: Database, chunk_id: str) -> Chunk:
    with database.reading() as session:
        return session.get_one(Chunk, chunk_id)


def scan_of(database: Database, scan_id: str) -> Scan:
    with database.reading() as session:
        return session.get_one(Scan, scan_id)


def expire(database: Database, chunk_id: str) -> None:
    """As if the lease's time had passed."""
    with database.writing() as session:
        session.execute(update(Chunk).where(Chunk.id == chunk_id).values(lease_until=clock() - 1))


def tick(database: Database) -> None:
    with database.writing() as session:
        leases.reap(session)
        scans.settle(session)


def in_one(database: Database, change: Callable[..., Any], *arguments: Any) -> Any:
    with database.writing() as session:
        return change(session, *arguments)


def keep_and_end(session: Session, lease: Lease) -> None:
    scans.keep_report(session, "0" * 64, lease.scan_id, 1)
    scans.end(session, lease, "succeeded", report_digest="0" * 64)


def pieces(database: Database, drive: Lease, count: int) -> None:
    bodies = {f"{number:064x}": b"body" for number in range(count)}
    with database.writing() as session:
        scans.enqueue(session, drive, "subject", bodies)


def test_a_chunk_is_claimed_once(database: Database) -> None:
    _, chunk_id = submitted(database)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: leases.claim(database, chunk_id, f"worker{number}", LONG), range(8)))
    assert sum(lease is not None for lease in found) == 1
    assert chunk_of(database, chunk_id).attempts == 1


def test_one_message_delivered_ten_times_is_one_commit(database: Database) -> None:
    _, chunk_id = submitted(database)

    def deliver(number: int) -> bool:
        lease = leases.claim(database, chunk_id, f"worker{number}", LONG)
        return lease is not None and bool(in_one(database, leases.commit, lease))

    with ThreadPoolExecutor(5) as pool:
        assert sum(pool.map(deliver, range(10))) == 1


def test_the_pieces_of_a_scan_are_claimed_once_each(database: Database) -> None:
    scan_id, chunk_id = submitted(database)
    pieces(database, claimed(database, chunk_id), 6)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: leases.claim_next(database, scan_id, "worker", LONG), range(12)))
    taken = [lease.chunk_id for lease in found if lease]
    assert len(taken) == len(set(taken)) == 6


def test_an_expired_lease_can_be_taken_over_and_its_owner_commits_nothing(database: Database) -> None:
    _, chunk_id = submitted(database)
    first = claimed(database, chunk_id)
    assert leases.claim(database, chunk_id, "other", LONG) is None
    expire(database, chunk_id)
    second = claimed(database, chunk_id)
    assert second.version > first.version
    for late in (leases.commit, leases.advance, leases.give_back, leases.holds):
        assert not in_one(database, late, first)
    assert not in_one(database, leases.renew, first, LONG)
    assert not in_one(database, leases.retry, first, "late")
    assert not in_one(database, leases.fail, first, "late")
    assert in_one(database, leases.commit, second)
    assert not in_one(database, leases.commit, second)


def test_a_renewed_lease_lasts(database: Database) -> None:
    _, chunk_id = submitted(database)
    lease = claimed(database, chunk_id)
    expire(database, chunk_id)
    assert in_one(database, leases.renew, lease, LONG)
    tick(database)
    assert chunk_of(database, chunk_id).state == "running"


def test_a_scan_that_never_gets_a_step_forward_is_given_up_after_three_claims(database: Database) -> None:
    scan_id, chunk_id = submitted(database)
    for number in range(1, ATTEMPTS + 1):
        assert scan_of(database, scan_id).state not in ("failed", "succeeded")
        lease = claimed(database, chunk_id)
        in_one(database, scans.move, lease, "checking")  # a state is no step forward: nothing was observed
        assert chunk_of(database, chunk_id).attempts == number
        expire(database, chunk_id)
        tick(database)
    found = scan_of(database, scan_id)
    assert found.state == "failed"
    assert found.error_message == f"the scan was given up after {ATTEMPTS} attempts: {leases.LOST}"
    assert found.ended is not None
    assert leases.claim(database, chunk_id, "worker", LONG) is None


@pytest.mark.parametrize("step", ["advance", "piece"])
def test_a_scan_that_gets_forward_outlives_any_number_of_lost_workers(database: Database, step: str) -> None:
    scan_id, chunk_id = submitted(database)
    pieces(database, claimed(database, chunk_id), 3 * ATTEMPTS)
    expire(database, chunk_id)
    for _ in range(3 * ATTEMPTS):
        tick(database)
        drive = claimed(database, chunk_id)
        if step == "advance":
            assert in_one(database, leases.advance, drive)
        else:
            piece = leases.claim_next(database, scan_id, "helper", LONG)
            assert piece is not None
            assert in_one(database, leases.commit, piece)
        assert chunk_of(database, chunk_id).attempts == 1
        expire(database, chunk_id)
    tick(database)
    assert scan_of(database, scan_id).state == "queued"


def test_a_late_piece_forgives_no_attempts(database: Database) -> None:
    scan_id, chunk_id = submitted(database)
    pieces(database, claimed(database, chunk_id), 1)
    late = leases.claim_next(database, scan_id, "helper", LONG)
    assert late is not None
    expire(database, late.chunk_id)
    assert leases.claim_next(database, scan_id, "other", LONG) is not None
    expire(database, chunk_id)
    claimed(database, chunk_id)
    assert not in_one(database, leases.commit, late)
    assert chunk_of(database, chunk_id).attempts == 2


def test_faults_count_and_the_last_reason_is_told(database: Database) -> None:
    scan_id, chunk_id = submitted(database)
    for number in range(ATTEMPTS):
        assert in_one(database, leases.retry, claimed(database, chunk_id), f"disk full {number}")
        tick(database)
    assert scan_of(database, scan_id).error_message == f"the scan was given up after {ATTEMPTS} attempts: disk full 2"


def test_being_told_to_stop_is_no_attempt(database: Database) -> None:
    _, chunk_id = submitted(database)
    for _ in range(2 * ATTEMPTS):
        assert in_one(database, leases.give_back, claimed(database, chunk_id))
        tick(database)
    assert (chunk_of(database, chunk_id).state, chunk_of(database, chunk_id).attempts) == ("queued", 0)


def test_a_piece_that_loses_every_worker_fails_alone(database: Database) -> None:
    scan_id, chunk_id = submitted(database)
    drive = claimed(database, chunk_id)
    pieces(database, drive, 2)
    for _ in range(ATTEMPTS):
        piece = leases.claim_next(database, scan_id, "helper", LONG)
        assert piece is not None
        expire(database, piece.chunk_id)
        tick(database)
    assert in_one(database, leases.holds, drive)
    with database.reading() as session:
        states = scans.chunk_states(session, scan_id, [f"{number:064x}" for number in range(2)])
        assert scans.count_open(session, scan_id) == 1
    assert sorted(states.values()) == [("failed", leases.LOST), ("queued", "")]


def test_what_has_ended_stays_ended(database: Database) -> None:
    scan_id, chunk_id = submitted(database)
    drive = claimed(database, chunk_id)
    pieces(database, drive, 2)
    in_one(database, scans.end, drive, "succeeded")
    version = scan_of(database, scan_id).version
    in_one(database, scans.request_cancel, scan_id, "key")
    for state in ("running", "failed", "canceled"):
        with pytest.raises(LeaseLost), database.writing() as session:
            scans.move(session, drive, state)
        with pytest.raises(LeaseLost), database.writing() as session:
            scans.end(session, drive, state)
    with pytest.raises(LeaseLost), database.writing() as session:
        scans.enqueue(session, drive, "subject", {"f" * 64: b""})
    tick(database)
    assert (scan_of(database, scan_id).state, scan_of(database, scan_id).version) == ("succeeded", version)
    assert leases.claim_next(database, scan_id, "helper", LONG) is None


def test_a_driver_that_lost_its_lease_moves_nothing(database: Database) -> None:
    scan_id, chunk_id = submitted(database)
    late = claimed(database, chunk_id)
    expire(database, chunk_id)
    claimed(database, chunk_id)
    with pytest.raises(LeaseLost), database.writing() as session:
        scans.move(session, late, "deciding", phase="late")
    with pytest.raises(LeaseLost):
        in_one(database, keep_and_end, late)
    found = scan_of(database, scan_id)
    assert (found.state, found.version, found.phase, found.report_digest) == ("queued", 1, "", None)


def test_cancelling_what_nobody_has_ends_it_at_once(database: Database) -> None:
    scan_id, chunk_id = submitted(database)
    in_one(database, scans.request_cancel, scan_id, "key")
    found = scan_of(database, scan_id)
    assert (found.state, found.verdict) == ("canceled", None)
    assert leases.claim(database, chunk_id, "worker", LONG) is None


def test_cancelling_what_lost_its_worker_needs_no_other(database: Database) -> None:
    scan_id, chunk_id = submitted(database)
    claimed(database, chunk_id)
    in_one(database, scans.request_cancel, scan_id, "key")
    in_one(database, scans.request_cancel, scan_id, "key")
    assert (scan_of(database, scan_id).state, scan_of(database, scan_id).version) == ("queued", 2)
    expire(database, chunk_id)
    tick(database)
    assert scan_of(database, scan_id).state == "canceled"


def test_the_same_token_twenty_times_at_once_is_one_scan(database: Database) -> None:
    def submit(_: int) -> tuple[str, bool]:
        with database.writing() as session:
            scan, chunk = scans.submit(session, WISH, "key", "token")
            return scan.id, chunk is not None

    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(submit, range(20)))
    assert len({scan_id for scan_id, _ in found}) == 1
    assert sum(fresh for _, fresh in found) == 1
    with database.reading() as session:
        assert len(session.scalars(select(Scan)).all()) == 1
        assert len(session.scalars(select(Audit)).all()) == 1


def test_a_token_for_another_wish_is_a_conflict(database: Database) -> None:
    submitted(database, "token")
    with pytest.raises(Conflict, match="Idempotency-Key"), database.writing() as session:
        scans.submit(session, scans.Wish(**vars(WISH) | {"seed": 1}), "key", "token")
    submitted(database, "other")


def test_a_failed_plan_begins_no_further_piece(database: Database) -> None:
    scan_id, chunk_id = submitted(database)
    pieces(database, claimed(database, chunk_id), 3)
    keys = [f"{number:064x}" for number in range(3)]
    first = leases.claim_next(database, scan_id, "helper", LONG)
    assert first is not None
    with database.writing() as session:
        scans.fail_queued(session, scan_id, keys, "it crashed")
    assert leases.claim_next(database, scan_id, "helper", LONG) is None
    with database.reading() as session:
        states = [state for state, _ in scans.chunk_states(session, scan_id, keys).values()]
    assert sorted(states) == ["failed", "failed", "running"]


def test_enqueuing_again_makes_no_second_piece(database: Database) -> None:
    _, chunk_id = submitted(database)
    drive = claimed(database, chunk_id)
    with database.writing() as session:
        assert len(scans.enqueue(session, drive, "base", {"a" * 64: b"1", "b" * 64: b"2"})) == 2
    with database.writing() as session:
        assert len(scans.enqueue(session, drive, "base", {"b" * 64: b"2", "c" * 64: b"3"})) == 1


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    def half(session: Session) -> None:
        scans.submit(session, WISH, "key", "token")
        raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        in_one(database, half)
    submitted(database, "token")
