"""The API as an ASGI application.

uvicorn --factory app.main:create
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, FastAPI

from app.api import (
    audit,
    detectors,
    events,
    gate,
    health,
    keys,
    models,
    policies,
    problems,
    reports,
    scans,
    share_links,
    suppressions,
)
from app.api.depends import Services, require
from app.api.guard import Guard
from app.api.limiting import Limiter
from app.api.traffic import Traffic
from app.core.database import Database
from app.core.dispatch import Doorbell
from app.core.settings import Settings
from app.core.stores.blobs import Blobs
from app.core.submission import Submissions
from app.core.summaries import Summaries
from app.core.watching import Watch

ROUTERS: tuple[APIRouter, ...] = (
    scans.router,
    events.router,
    reports.router,
    gate.router,
    models.router,
    policies.router,
    suppressions.router,
    share_links.router,
    keys.router,
    detectors.router,
    audit.router,
)
"""Everything below `/v1`, in the order of the OpenAPI document."""

DESCRIPTION = "Scans fine-tuned language models for backdoors, and says by a gate which contents may be deployed."


def create() -> FastAPI:
    """The API with the settings of the environment."""
    return create_app(Settings())


def create_app(settings: Settings) -> FastAPI:
    """The API. The database must have its tables already."""
    services = make_services(settings)

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        yield
        await services.watch.close()
        services.doorbell.close()
        services.database.close()

    api = FastAPI(
        title="Touchstone",
        version=version("touchstone"),
        description=DESCRIPTION,
        lifespan=living,
        docs_url=None,
        redoc_url=None,
    )
    api.state.services = services
    api.add_middleware(Guard, traffic=services.traffic, body_limit=settings.body_limit_bytes)
    problems.install(api)
    for router in ROUTERS:
        api.include_router(router, prefix=problems.PREFIX)
    api.include_router(share_links.public)
    api.include_router(health.health)
    api.include_router(health.metrics, dependencies=[] if settings.metrics_open else [require("report:read")])
    return api


def make_services(settings: Settings) -> Services:
    """What routes work with."""
    database, blobs = Database(settings.database), Blobs(settings.blobs)
    doorbell = Doorbell(settings.broker_url.get_secret_value(), database)
    return Services(
        settings=settings,
        database=database,
        blobs=blobs,
        doorbell=doorbell,
        limiter=Limiter(settings),
        submissions=Submissions(settings, database, blobs, doorbell),
        summaries=Summaries(blobs),
        watch=Watch(database),
        traffic=Traffic(database),
    )
