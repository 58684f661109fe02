"""Doorbells: messages that tell workers which chunk to look at. What they say is in the database; any may be lost.

`app` never imports `workers`: a task is sent by its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import func, select, update

from app.core.database import Database, clock
from app.core.tables import Chunk
from detectors.errors import BrokerUnavailable, DatabaseUnavailable

WORK = "touchstone.work"
"""The one task: look at the chunk with this id."""
SILENT_S = 30.0
"""How long a queued chunk waits before its message may count as lost."""
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
        self._celery = Celery("touchstone", broker=broker_url, set_as_current=False)
        self._celery.conf.update(broker_transport_options={"socket_connect_timeout": 2, "socket_timeout": 5})
        self._database = database

    def ring(self, chunks: Sequence[tuple[str, str]]) -> bool:
        """Whether messages for (chunk id, queue) could be sent; where not, `reconcile` sends them later."""
        sent: list[str] = []
        try:
            for chunk, queue in chunks:
                self._celery.send_task(WORK, args=[chunk], queue=queue, retry=True, retry_policy=CONNECTION)
                sent.append(chunk)
        except (OperationalError, OSError):
            return False
        finally:
            if sent:
                self._note(sent)
        return True

    def _note(self, sent: Sequence[str]) -> None:
        """What is not noted is sent once more by the next tick, which does no harm."""
        with suppress(DatabaseUnavailable), self._database.writing() as session:
            session.execute(update(Chunk).where(Chunk.id.in_(sent)).values(published=clock()))

    def reconcile(self) -> int:
        """Sends again what was queued long ago and has no message; how many.

        The broker is asked how many messages it holds: a queue that is only long has all of its messages.
        """
        with self._database.reading() as session:
            counted = select(Chunk.queue, func.count().label("waits")).where(Chunk.state == "queued")
            queued = session.execute(counted.group_by(Chunk.queue))
            waiting: dict[str, int] = {row.queue: row.waits for row in queued}
        try:
            missing = {queue: count - self._messages(queue) for queue, count in waiting.items()}
        except (OperationalError, OSError):
            return 0
        lost = [chunk for queue, count in missing.items() if count > 0 for chunk in self._silent(queue, count)]
        return len(lost) if lost and self.ring(lost) else 0

    def _silent(self, queue: str, most: int) -> Iterator[tuple[str, str]]:
        silent = (Chunk.state == "queued", Chunk.queue == queue, Chunk.published < clock() - SILENT_S)
        oldest = select(Chunk.id).where(*silent).order_by(Chunk.created).limit(min(most, RINGS_A_TICK))
        with self._database.reading() as session:
            yield from ((chunk, queue) for chunk in session.scalars(oldest).all())

    def _messages(self, queue: str) -> int:
        with self._celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
            try:
                return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
            except connection.channel_errors:
                return 0  # nobody has sent or awaited anything there yet

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
