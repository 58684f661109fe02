"""Doorbells: messages that tell workers which chunk to look at. What they say is in the database; any may be lost.

`app` never imports `workers`: a task is sent by its name.
"""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import select, update

from app.core.database import Database, clock
from app.core.tables import Chunk
from detectors.errors import BrokerUnavailable

WORK = "touchstone.work"
"""The one task: look at the chunk with this id."""
SILENT_S = 30.0
"""How long a queued chunk waits before its message counts as lost."""
RINGS_A_TICK = 100
"""A second message does no harm, a flood would: at most so many are sent at once, the oldest chunks first."""
CONNECTION = {"max_retries": 1, "interval_start": 0.2}


class Doorbell:
    """Sends messages to workers.

    Args:
        broker_url: Redis, Valkey or RabbitMQ.
        database: where it is noted that a chunk's message was sent.
    """

    def __init__(self, broker_url: str, database: Database) -> None:
        self._celery = Celery("touchstone", broker=broker_url)
        self._celery.conf.update(broker_transport_options={"socket_connect_timeout": 2, "socket_timeout": 5})
        self._database = database

    def ring(self, chunks: Sequence[tuple[str, str]]) -> bool:
        """Whether messages for (chunk id, queue) could be sent; where not, `reconcile` sends them later."""
        with self._database.writing() as session:
            ids = [chunk for chunk, _ in chunks]
            session.execute(update(Chunk).where(Chunk.id.in_(ids)).values(published=clock()))
        try:
            for chunk, queue in chunks:
                self._celery.send_task(WORK, args=[chunk], queue=queue, retry=True, retry_policy=CONNECTION)
        except (OperationalError, OSError):
            return False
        return True

    def reconcile(self) -> int:
        """Sends again what was queued long ago and nobody came for; how many messages."""
        silent = select(Chunk.id, Chunk.queue).where(Chunk.state == "queued", Chunk.published < clock() - SILENT_S)
        with self._database.reading() as session:
            lost = [
                (chunk, queue) for chunk, queue in session.execute(silent.order_by(Chunk.created).limit(RINGS_A_TICK))
            ]
        if lost:
            self.ring(lost)
        return len(lost)

    def check(self) -> None:
        """Asks the broker for a sign of life.

        Raises:
            BrokerUnavailable: if it gives none.
        """
        try:
            with self._celery.connection_for_write(connect_timeout=2) as connection:
                connection.ensure_connection(timeout=2, max_retries=1)
        except (OperationalError, OSError) as error:
            raise BrokerUnavailable(f"the broker cannot be reached: {error}; see that it runs") from error

    def close(self) -> None:
        """Closes the connection to the broker."""
        self._celery.close()
