"""A service of real processes to measure: `touchstone up` on the loopback, all of it in a temporary directory."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import psycopg
from sqlalchemy import make_url

from app.core.database import Database
from app.core.keys import create_key
from app.core.migrating import migrate
from app.core.scanning import PROJECT
from app.core.settings import service_environment
from benchmarks.service.models import BASE, SUBJECT

START_S, STOP_S = 180.0, 60.0
ADDRESS = "Touchstone is at "
NO_LIMIT = "1000000"
"""What is measured is the service, not the limits that one key has."""


@dataclass(frozen=True)
class Service:
    """A running service.

    Attributes:
        url: where the API listens.
        key_id: of the key that `headers` show.
        database: the same that it uses, by a connection of our own.
        up: the process that all others belong to.
        submitted: ids of all scans that were accepted.
    """

    url: str
    headers: dict[str, str]
    key_id: str
    database: Database
    up: psutil.Process
    submitted: list[str] = field(default_factory=list)

    def client(self) -> httpx.Client:
        """A client that keeps its connection."""
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=60, trust_env=False)

    def submit(self, client: httpx.Client, number: int) -> str:
        """The id of a new `smoke` scan; another number is another subject, which no report or store knows yet."""
        wish = {"model": f"{SUBJECT}-{number}", "base": BASE, "suite": "smoke"}
        scan = str(client.post("/v1/scans", json=wish).raise_for_status().json()["id"])
        self.submitted.append(scan)
        return scan

    def resident_mib(self, word: str) -> float:
        """Resident memory of the processes with this word in their command, in MiB; forked pages count twice."""
        found = 0
        for one in self.up.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # a model's process that ends just now
                found += one.memory_info().rss if word in one.cmdline() else 0
        return found / 2**20


@contextmanager
def served(directory: Path, models: Path, workers: int, postgres: str | None) -> Iterator[Service]:
    """A new service with an empty database; ended with all that it started.

    Args:
        directory: an empty one, for its data.
        models: the root that its models lie below.
        workers: how many.
        postgres: URL of a server on which a database is made, and dropped afterwards; None is SQLite.

    Raises:
        RuntimeError: if it does not start; what it printed is in the message.
    """
    with _database_url(directory, postgres) as url:
        database = Database(url)
        try:
            migrate(database)
            with database.writing() as session:
                key, text = create_key(session, "benchmark", ["admin"], None)
            with _up(directory, models, workers, url) as (address, process):
                yield Service(address, {"Authorization": f"Bearer {text}"}, key.id, database, process)
        finally:
            database.close()


@contextmanager
def _database_url(directory: Path, postgres: str | None) -> Iterator[str]:
    if postgres is None:
        yield f"sqlite:///{directory / 'touchstone.sqlite'}"
        return
    name = f"touchstone_benchmark_{uuid.uuid4().hex[:12]}"
    server = make_url(postgres).set(drivername="postgresql")
    with psycopg.connect(server.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            yield server.set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@contextmanager
def _up(directory: Path, models: Path, workers: int, database_url: str) -> Iterator[tuple[str, psutil.Process]]:
    """The address of `touchstone up` and its process."""
    command = [sys.executable, "-m", "app.cli", "up", "--port", "0", "--data-dir", str(directory / "data")]
    printed = directory / "printed"
    with printed.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--workers", str(workers)],
            env=_environment(directory, models, database_url),
            cwd=PROJECT,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _address(process, printed), psutil.Process(process.pid)
    finally:
        _stop(process)


def _environment(directory: Path, models: Path, database_url: str) -> dict[str, str]:
    """Of the service alone: what this machine has set for another one does not count."""
    found = service_environment(
        str(PROJECT),
        cache_dir=str(directory / "cache"),
        roots=str(models),
        database_url=database_url,
        threads="1",
        device="cpu",
        dtype="float32",
        requests_per_second=NO_LIMIT,
        open_scans_per_key=NO_LIMIT,
    )
    ours = {"TOUCHSTONE_BROKER_URL", "TOUCHSTONE_BLOB_URL", "TOUCHSTONE_SECRETS_DIR"}
    return {name: value for name, value in found.items() if name not in ours}


def _address(process: subprocess.Popen[bytes], printed: Path) -> str:
    until = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until:
        for line in printed.read_text(errors="replace").splitlines():
            if line.startswith(ADDRESS):
                return line.removeprefix(ADDRESS)
        time.sleep(0.1)
    raise RuntimeError(f"`touchstone up` did not start; it printed:\n{printed.read_text(errors='replace')}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Asks it to end, which ends all that it started, and kills these where it does not."""
    below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for one in below:
        if one.is_running():
            one.kill()
