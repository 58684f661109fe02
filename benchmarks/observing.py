"""Observers for benchmarks that ask a pair of models outside of a scan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.core.settings import Settings
from app.core.stores.observations import SqliteStore
from workers.machine import preferred_device, preferred_dtype
from workers.observer import Observer
from workers.scan import Pair, make_observer


@contextmanager
def observing(pair: Pair, store: SqliteStore, settings: Settings) -> Iterator[Observer]:
    """An observer of the pair, as this machine prefers it; its hosts are ended."""
    device = preferred_device()
    observer = make_observer(
        pair, store, dtype=preferred_dtype(device), device=device, settings=settings, watch=lambda: None
    )
    try:
        yield observer
    finally:
        observer.end()
