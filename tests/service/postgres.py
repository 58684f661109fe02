"""A PostgreSQL server of its own for a test run: on the loopback, on a free port, gone afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

OWNER = "postgres"
"""PostgreSQL does not run as root; where the tests do, it runs as this user."""
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "max_connections": "60",
    "autovacuum": "off",  # its processes come and go below this one, and other tests count those
}


class Postgres:
    """A server that can be stopped and started again."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="touchstone-postgres-"))
        self._data = self._home / "data"
        if os.geteuid() == 0:
            shutil.chown(self._home, OWNER)
        self._call("initdb", "--auth=trust", f"--username={OWNER}", "--no-sync", "--encoding=UTF8", "--locale=C")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        settings = [f"-c{name}={value}" for name, value in (SETTINGS | {"port": str(self.port)}).items()]
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", *settings), stdout=log, stderr=log, cwd=self._home
            )
        deadline = time.monotonic() + 30
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL did not start: {(self._home / 'log').read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """At once: connections are cut, transactions rolled back."""
        if self._process:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._home)

    def create(self, name: str) -> str:
        """The URL of a new, empty database."""
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self._url(name)

    def _url(self, name: str) -> str:
        return f"postgresql://{OWNER}@127.0.0.1:{self.port}/{name}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(self._command(program, *arguments), check=True, capture_output=True, cwd=self._home)

    def _command(self, program: str, *arguments: str) -> Sequence[str]:
        as_owner = ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups"] if os.geteuid() == 0 else []
        return [*as_owner, find(program), "-D", str(self._data), *arguments]


def find(program: str) -> str:
    """Where a program of PostgreSQL lies; Debian keeps the server's off the path."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), reverse=True)
    found = shutil.which(program) or next(map(str, places), None)
    assert found, f"{program} was not found: the tests need PostgreSQL (Debian: apt-get install postgresql)"
    return found


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port
