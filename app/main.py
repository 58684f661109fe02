"""The API as an ASGI application.

uvicorn --factory app.main:create
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, FastAPI

from app.api import problems
from app.api.depends import Services
from app.api.limiting import Limiter
from app.core.database import Database
from app.core.dispatch import Doorbell
from app.core.settings import Settings
from app.core.stores.blobs import Blobs

ROUTERS: tuple[APIRouter, ...] = ()
"""Everything below `/v1`, in the order of the OpenAPI document."""


def create() -> FastAPI:
    """The API with the settings of the environment."""
    return create_app(Settings())


def create_app(settings: Settings) -> FastAPI:
    """The API. The database must have its tables already."""
    database = Database(settings.database)
    services = Services(
        settings=settings,
        database=database,
        blobs=Blobs(settings.blobs),
        doorbell=Doorbell(settings.broker_url.get_secret_value(), database),
        limiter=Limiter(settings),
    )

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        yield
        services.doorbell.close()
        database.close()

    api = FastAPI(
        title="Touchstone",
        version=version("touchstone"),
        lifespan=living,
        docs_url=None,
        redoc_url=None,
        max_body_size=settings.body_limit_bytes,
    )
    api.state.services = services
    problems.install(api)
    for router in ROUTERS:
        api.include_router(router, prefix="/v1")
    return api
