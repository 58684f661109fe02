"""What Prometheus is told: requests by route and status, and the queue as the database has it.

Labels have few values: a route is its template, never the address that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.database import Database, clock
from app.core.tables import Chunk, Scan
from detectors.errors import DatabaseUnavailable

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Traffic:
    """Counts requests in a registry of its own.

    Args:
        database: asked for the queue at each scrape.
    """

    def __init__(self, database: Database) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Queue(database))
        self._requests = Counter(
            "touchstone_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self._latency = Histogram(
            "touchstone_request_seconds",
            "Seconds until an answer begins.",
            ("route",),
            buckets=LATENCY_S,
            registry=self.registry,
        )

    def count(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Counts a request.

        Args:
            route: template of the route; None where there is none.
            seconds: until the answer began.
        """
        place = route or "none"
        self._requests.labels(method if method in METHODS else "other", place, str(status)).inc()
        self._latency.labels(place).observe(seconds)


class _Queue(Collector):
    """Scans and chunks by state, and how long the oldest has waited."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[GaugeMetricFamily]:
        up = GaugeMetricFamily("touchstone_database_up", "Whether the database answers.")
        try:
            with self._database.reading() as session:
                yield from _families(session)
        except DatabaseUnavailable:
            up.add_metric([], 0)
        else:
            up.add_metric([], 1)
        yield up

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing is asked when the collector is registered."""
        return iter(())


def _families(session: Session) -> list[GaugeMetricFamily]:
    scans = GaugeMetricFamily("touchstone_scans", "Scans by state.", labels=("state",))
    for state, count in session.execute(select(Scan.state, func.count()).group_by(Scan.state)):
        scans.add_metric([state], count)
    chunks = GaugeMetricFamily("touchstone_chunks", "Pieces of work by kind and state.", labels=("kind", "state"))
    pieces = select(Chunk.kind, Chunk.state, func.count()).group_by(Chunk.kind, Chunk.state)
    for kind, progress, count in session.execute(pieces):
        chunks.add_metric([kind, progress], count)
    oldest = select(clock() - func.min(Scan.created)).where(Scan.state == "queued")
    waited = GaugeMetricFamily("touchstone_oldest_queued_seconds", "How long the oldest queued scan has waited.")
    waited.add_metric([], session.scalar(oldest) or 0.0)
    return [scans, chunks, waited]
