"""Doorbells: sent, lost, sent again, and never a flood."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from app.core import leases, scans
from app.core.database import Database, clock
from app.core.dispatch import SILENT_S, Doorbell
from app.core.tables import Chunk, Key
from app.core.ticker import tick
from tests.service.serving import Broker
from tests.service.test_leases import WISH


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    found = Broker(tmp_path / "valkey")
    found.start()
    yield found
    found.kill()


@pytest.fixture
def doorbell(database: Database, own_broker: Broker) -> Iterator[Doorbell]:
    with database.writing() as session:
        session.add(Key(id="key", name="tests", prefix="ts", hash="0" * 64, scopes=["admin"], created=0.0))
    found = Doorbell(own_broker.url, database)
    yield found
    found.close()


def submitted(database: Database, count: int) -> list[tuple[str, str]]:
    rings = []
    for seed in range(count):
        with database.writing() as session:
            _, chunk = scans.submit(session, scans.Wish(**vars(WISH) | {"seed": seed}), "key")
            assert chunk is not None
            rings.append((chunk.id, str(chunk.queue)))
    return rings


def messages(broker: Broker, queue: str = "people") -> int:
    with broker.server.client() as client:
        return int(client.llen(queue))


def long_ago(database: Database) -> None:
    with database.writing() as session:
        session.execute(update(Chunk).values(published=clock() - 2 * SILENT_S))


def test_what_is_rung_is_sent_and_noted(database: Database, doorbell: Doorbell, own_broker: Broker) -> None:
    assert doorbell.ring(submitted(database, 3))
    assert messages(own_broker) == 3
    with database.reading() as session:
        assert min(session.scalars(select(Chunk.published))) > 0
    assert doorbell.ring([])
    assert messages(own_broker) == 3


def test_a_long_queue_is_no_lost_one(database: Database, doorbell: Doorbell, own_broker: Broker) -> None:
    doorbell.ring(submitted(database, 5))
    long_ago(database)
    assert doorbell.reconcile() == 0
    assert messages(own_broker) == 5


def test_a_flushed_broker_gets_all_messages_again_and_once(
    database: Database, doorbell: Doorbell, own_broker: Broker
) -> None:
    doorbell.ring(submitted(database, 5))
    own_broker.flush()
    assert doorbell.reconcile() == 0  # a moment ago: their workers may be about to claim them
    long_ago(database)
    assert doorbell.reconcile() == 5
    long_ago(database)
    assert doorbell.reconcile() == 0
    assert messages(own_broker) == 5


def test_only_what_is_missing_is_sent(database: Database, doorbell: Doorbell, own_broker: Broker) -> None:
    rings = submitted(database, 5)
    doorbell.ring(rings[:3])
    long_ago(database)
    assert doorbell.reconcile() == 2


def test_a_broker_that_is_away_loses_nothing(database: Database, doorbell: Doorbell, own_broker: Broker) -> None:
    own_broker.kill()
    assert not doorbell.ring(submitted(database, 2))
    tick(database, doorbell)
    own_broker.start()
    tick(database, doorbell)
    assert messages(own_broker) == 2


def test_a_chunk_that_lost_its_worker_is_rung_for(database: Database, doorbell: Doorbell, own_broker: Broker) -> None:
    ((chunk, _),) = submitted(database, 1)
    assert leases.claim(database, chunk, "worker", 60.0)
    tick(database, doorbell)
    assert messages(own_broker) == 0
    with database.writing() as session:
        session.execute(update(Chunk).values(lease_until=clock() - 1))
    tick(database, doorbell)
    assert messages(own_broker) == 1
