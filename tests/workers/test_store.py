"""The store of observations: durable, all or nothing, capped, shared, and plain about what is wrong."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.core.stores import observations
from app.core.stores.observations import SqliteStore
from detectors.errors import StoreError
from workers.scan import PROJECT

CAP = 2**20


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def items(start: int, count: int, size: int) -> dict[str, bytes]:
    return {key(number): bytes([number % 256]) * size for number in range(start, start + count)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "observations.sqlite"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The store's clock; tests move it."""
    now = [1_000_000.0]
    monkeypatch.setattr(observations, "time", SimpleNamespace(time=lambda: now[0]))  # nobody else's
    return now


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=PROJECT, check=False
    )


def test_what_is_put_is_got_in_this_and_later_openings(path: Path) -> None:
    kept = items(0, 1200, 30)
    with SqliteStore(path, CAP) as store:
        assert store.get(list(kept)) == {}
        store.put(kept)
        assert store.get([*kept, key(-1)]) == kept
    with SqliteStore(path, CAP) as store:
        assert store.get(list(kept)) == kept
        store.put({key(0): b"new"})
        assert store.get([key(0)]) == {key(0): b"new"}
        store.put({})
        assert store.get([]) == {}


def test_two_openings_see_each_other(path: Path) -> None:
    with SqliteStore(path, CAP) as one, SqliteStore(path, CAP) as two:
        one.put({key(1): b"a"})
        assert two.get([key(1)]) == {key(1): b"a"}


def test_a_put_that_fails_keeps_nothing_and_spoils_nothing(path: Path) -> None:
    with SqliteStore(path, CAP) as store:
        with pytest.raises(StoreError):
            store.put(items(0, 50, 10) | {key(99): None})  # type: ignore[dict-item]
        assert store.get(list(items(0, 50, 10))) == {}
        store.put({key(1): b"a"})
        assert store.get([key(1)]) == {key(1): b"a"}


def test_a_killed_put_keeps_all_or_nothing(path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from app.core.stores.observations import SqliteStore\n"
        "from tests.workers.test_store import items\n"
        "def rows():\n"
        "    for number, item in enumerate(items(0, 500, 500).items()):\n"
        "        if number == 400:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        yield item\n"
        "store = SqliteStore(Path(sys.argv[1]), 2**20)\n"
        "store.put(items(1000, 5, 10))\n"
        "with store._transaction():\n"
        "    for key, data in rows():\n"
        "        store._connection.execute('INSERT INTO observation VALUES (?, ?, 0)', (bytes.fromhex(key), data))\n"
    )
    assert python(code, str(path)).returncode == -9
    with SqliteStore(path, CAP) as store:
        assert store.get(list(items(0, 500, 500))) == {}
        assert len(store.get(list(items(1000, 5, 10)))) == 5


@pytest.mark.parametrize("size", [150, 3000, 40_000])
def test_the_cap_holds_and_what_was_used_longest_ago_goes_first(path: Path, clock: list[float], size: int) -> None:
    a_put = 60_000 // size
    with SqliteStore(path, CAP) as store:
        for number in range(60):
            clock[0] += 10
            store.put(items(number * a_put, a_put, size))
            assert store.size_bytes() <= CAP
        alive = [bool(store.get([key(number * a_put)])) for number in range(60)]
        assert alive == sorted(alive)
        assert alive[-1]
        kept = sum(alive) * a_put * size
        assert kept > 0.4 * CAP


def test_reading_keeps_alive(path: Path, clock: list[float]) -> None:
    with SqliteStore(path, CAP) as store:
        store.put(items(0, 10, 5000))
        store.put(items(100, 10, 5000))
        for number in range(40):
            clock[0] += observations.REFRESH_SECONDS + 1
            assert len(store.get(list(items(0, 10, 0)))) == 10
            store.put(items(1000 + 10 * number, 10, 5000))
        assert store.get(list(items(100, 10, 0))) == {}


def test_a_put_larger_than_the_cap_does_not_break_it(path: Path) -> None:
    with SqliteStore(path, CAP) as store:
        store.put(items(0, 3, CAP))
        assert store.size_bytes() <= CAP


def said(caught: pytest.ExceptionInfo[StoreError], path: Path) -> None:
    message = str(caught.value)
    assert str(path) in message
    assert "TOUCHSTONE_CACHE_DIR" in message
    assert "free space" in message


def test_a_corrupt_file(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(StoreError, match="file is not a database") as caught:
        SqliteStore(path, CAP)
    said(caught, path)


def test_a_file_that_is_spoilt_while_closed(path: Path) -> None:
    with SqliteStore(path, CAP) as store:
        store.put(items(0, 300, 2000))
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError) as caught, SqliteStore(path, CAP) as store:
        store.put(items(0, 300, 1000))
    said(caught, path)


def test_places_that_cannot_be_written(path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for impossible in (tmp_path / "file" / "observations.sqlite", Path("/proc/nowhere/observations.sqlite")):
        with pytest.raises(StoreError) as caught:
            SqliteStore(impossible, CAP)
        said(caught, impossible)
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match="unable to open") as caught:
        SqliteStore(path, CAP)
    said(caught, path)


FULL = """
import resource, signal, sys
from pathlib import Path
from app.core.stores.observations import SqliteStore
from detectors.errors import StoreError
from tests.workers.test_store import items, key

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = SqliteStore(Path(sys.argv[1]), 2**30)
store.put(items(0, 10, 100))
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))
big = items(100, 100, 50_000)
try:
    store.put(big)
except StoreError as error:
    print(error)
assert store.get(list(big)) == {}, "half a put is kept"
assert len(store.get(list(items(0, 10, 0)))) == 10, "earlier puts are lost"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.put(big)
assert store.get(list(big)) == big, "the store cannot be used once there is space again"
"""


def test_a_full_disk(path: Path) -> None:
    """Files that may not grow are what a full disk is to SQLite; once there is room, the same store goes on."""
    found = python(FULL, str(path))
    assert found.returncode == 0, found.stderr
    assert str(path) in found.stdout
    assert "TOUCHSTONE_CACHE_DIR" in found.stdout
    assert "rollback" not in found.stdout


WRITER = """
import sys
from pathlib import Path
from app.core.stores.observations import SqliteStore
from tests.workers.test_store import items

for number in range(30):
    with SqliteStore(Path(sys.argv[1]), 2**28) as store:
        store.put(items(int(sys.argv[2]) + 20 * number, 20, 2000))
        assert len(store.get(list(items(int(sys.argv[2]), 20, 0)))) == 20
"""


def test_two_processes_write_at_once(path: Path) -> None:
    starts = ("0", "100000")
    writers: list[Any] = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), start], cwd=PROJECT, stderr=subprocess.PIPE, text=True
        )
        for start in starts
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors
    with SqliteStore(path, 2**28) as store:
        for start in starts:
            wanted = items(int(start), 600, 2000)
            assert store.get(list(wanted)) == wanted
