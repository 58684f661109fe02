"""For those who run the service: is it alive, can it work, what does it do."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import select

from app.api.depends import ServicesOf
from app.api.problems import RETRY_MACHINE_S, only, problem, responses
from app.api.schemas import Given
from app.core.database import Database
from app.core.tables import Scan
from detectors.errors import BrokerUnavailable, DatabaseUnavailable

health = APIRouter(tags=["operation"])
metrics = APIRouter(tags=["operation"])

METRICS: dict[int | str, dict[str, Any]] = responses() | {
    200: {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


RETRY = {"Retry-After": str(RETRY_MACHINE_S)}


class Health(Given):
    """All is well."""

    status: Literal["ok"] = "ok"


@health.get("/livez")
async def livez() -> Health:
    """Whether this process answers; it asks nothing else."""
    return Health()


@health.get("/readyz", response_model=Health, responses=only(503))
def readyz(request: Request, known: ServicesOf) -> Any:
    """Whether the database and the broker can be reached. Without the broker scans are accepted, and wait."""
    try:
        _ask(known.database)
        known.doorbell.check()
    except DatabaseUnavailable:
        return problem(request, 503, DatabaseUnavailable, "the database cannot be used", RETRY)
    except BrokerUnavailable:
        return problem(request, 503, BrokerUnavailable, "the broker cannot be reached; scans wait", RETRY)
    return Health()


@metrics.get("/metrics", response_model=None, responses=METRICS)
def get_metrics(known: ServicesOf) -> Response:
    """Requests, scans and pieces of work, for Prometheus; the key needs `report:read` unless the operator opened it."""
    return Response(generate_latest(known.traffic.registry), media_type=CONTENT_TYPE_LATEST)


def _ask(database: Database) -> None:
    with database.reading() as session:
        session.execute(select(Scan.id).limit(1))
