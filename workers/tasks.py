"""The tasks: an id in, nothing out."""

from __future__ import annotations

from functools import cache

from app.core.dispatch import WORK
from app.core.settings import Settings
from workers.celery_app import celery_app, stopping
from workers.worker import Worker


@cache
def worker() -> Worker:
    """This process's worker, made when its first task comes: after the fork, so no connection is shared."""
    return Worker(Settings(), stopping.is_set)


@celery_app.task(name=WORK)  # type: ignore[untyped-decorator]  # Celery ships no types
def work(chunk_id: str) -> None:
    """Looks at a chunk."""
    worker().work(chunk_id)
