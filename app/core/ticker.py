"""The ticker: looks for work that lost its worker, chunks that lost their message, and verdicts whose rules changed.

    python -m app.core.ticker

Several may run; each thing they do is one conditional UPDATE. Nothing is lost while none runs, it only waits.
"""

from __future__ import annotations

import logging
import signal
import threading

from app.core import leases, scans
from app.core.database import Database
from app.core.dispatch import Doorbell
from app.core.migrating import migrate
from app.core.redeciding import A_TICK_S, redecide
from app.core.settings import Settings
from app.core.stores.blobs import Blobs
from detectors.errors import DatabaseUnavailable

log = logging.getLogger("touchstone.ticker")


def tick(database: Database, doorbell: Doorbell) -> None:
    """One look."""
    try:
        with database.writing() as session:
            leases.reap(session)
            scans.settle(session)
        sent = doorbell.reconcile()
    except DatabaseUnavailable as error:
        log.warning("%s", error)
        return
    if sent:
        log.info("sent %d messages again", sent)


def decide_again(database: Database, blobs: Blobs) -> None:
    """Draws verdicts again where rules changed, or a suppression ended."""
    try:
        drawn = redecide(database, blobs, A_TICK_S)
    except DatabaseUnavailable as error:
        log.warning("%s", error)
        return
    if drawn.scans:
        log.info("decided again on %d scans, %d verdicts changed", drawn.scans, drawn.changed)


def main() -> None:
    """Ticks until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings, stopped = Settings(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    database, blobs = Database(settings.database), Blobs(settings.blobs)
    migrate(database)
    doorbell = Doorbell(settings.broker_url.get_secret_value(), database)
    while not stopped.wait(settings.tick_s):
        tick(database, doorbell)
        decide_again(database, blobs)
    doorbell.close()
    database.close()


if __name__ == "__main__":
    main()
