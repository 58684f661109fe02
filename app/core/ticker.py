"""The ticker: looks for work that lost its worker and for chunks that lost their message, again and again.

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
from app.core.settings import Settings
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


def main() -> None:
    """Ticks until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings, stopped = Settings(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    database = Database(settings.database)
    migrate(database)
    doorbell = Doorbell(settings.broker_url.get_secret_value(), database)
    while not stopped.wait(settings.tick_s):
        tick(database, doorbell)
    doorbell.close()
    database.close()


if __name__ == "__main__":
    main()
