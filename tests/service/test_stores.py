"""One contract for both stores of observations, and the blobs beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from app.core.database import Database, clock
from app.core.migrating import migrate
from app.core.stores import shared
from app.core.stores.blobs import Blobs
from app.core.stores.observations import SqliteStore
from app.core.stores.shared import DatabaseStore
from app.core.tables import Observation
from detectors.errors import StoreError
from tests.service.conftest import DATABASES, new_database

CAP = 2**20
AnyStore = SqliteStore | DatabaseStore


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def items(start: int, count: int, size: int) -> dict[str, bytes]:
    return {key(number): bytes([number % 256]) * size for number in range(start, start + count)}


@pytest.fixture(params=["file", *DATABASES])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyStore]:
    if request.param == "file":
        with SqliteStore(tmp_path / "observations.sqlite", CAP) as found:
            yield found
        return
    database = Database(new_database(request.param, request, tmp_path))
    migrate(database)
    yield DatabaseStore(database, CAP)
    database.close()


def test_what_is_put_is_got(store: AnyStore) -> None:
    kept = items(0, 4500, 30)
    assert store.get(list(kept)) == {}
    store.put(kept)
    assert store.get([*kept, key(-1)]) == kept
    store.put({})
    assert store.get([]) == {}


def test_putting_again_changes_nothing(store: AnyStore) -> None:
    store.put(items(0, 10, 20))
    store.put(items(5, 10, 20))
    assert store.get(list(items(0, 15, 20))) == items(0, 15, 20)


def test_a_put_that_fails_keeps_nothing_and_spoils_nothing(store: AnyStore) -> None:
    with pytest.raises(Exception, match=r"NOT NULL|not-null|null value|object of type"):
        store.put(items(0, 500, 10) | {key(9999): None})  # type: ignore[dict-item]
    assert store.get(list(items(0, 500, 10))) == {}
    store.put({key(1): b"a"})
    assert store.get([key(1)]) == {key(1): b"a"}


def test_the_cap_holds_and_the_newest_stay(store: AnyStore) -> None:
    for number in range(60):
        store.put(items(number * 10, 10, 6000))
    alive = [bool(store.get([key(number * 10)])) for number in range(60)]
    assert alive[-1]
    assert not alive[0]
    assert 0.4 * CAP < sum(alive) * 60_000 <= (1 + shared.UNLOOKED) * CAP + 60_000


def test_workers_share_the_table_and_do_not_lock_each_other_out(database: Database) -> None:
    wanted = items(0, 600, 50)
    backwards = dict(reversed(list(wanted.items())))
    stores = [DatabaseStore(database, CAP) for _ in range(4)]

    def work(number: int) -> None:
        stores[number].put(backwards if number % 2 else wanted)
        assert stores[number].get(list(wanted)) == wanted

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_reading_keeps_alive(database: Database) -> None:
    store = DatabaseStore(database, CAP)
    store.put(items(0, 2, 10))
    with database.writing() as session:
        session.execute(update(Observation).values(used=clock() - 2 * shared.REFRESH_SECONDS))
    store.get([key(0)])
    fresh = select(func.count()).where(Observation.used > clock() - shared.REFRESH_SECONDS)
    with database.reading() as session:
        assert session.scalar(fresh) == 1


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(str(tmp_path / "blobs"))


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_a_blob_is_named_by_its_contents(blobs: Blobs, tmp_path: Path) -> None:
    digest = blobs.put(b"report")
    assert digest == hashlib.sha256(b"report").hexdigest() == blobs.put(b"report")
    assert blobs.get(digest) == b"report"
    assert [path.name for path in files(tmp_path / "blobs")] == [digest]


def test_a_blob_that_is_damaged_or_gone_is_no_blob(blobs: Blobs, tmp_path: Path) -> None:
    digest = blobs.put(b"report")
    (path,) = files(tmp_path / "blobs")
    path.write_bytes(b"repost")
    with pytest.raises(StoreError, match="damaged"):
        blobs.get(digest)
    path.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        blobs.get(digest)


def test_blobs_in_memory_of_any_file_system() -> None:
    blobs = Blobs("memory://touchstone-tests/blobs")
    assert blobs.get(blobs.put(b"report")) == b"report"


def test_a_place_that_takes_nothing(tmp_path: Path, limited_files: Callable[[int], None]) -> None:
    blobs = Blobs(str(tmp_path / "blobs"))
    limited_files(1000)
    with pytest.raises(StoreError, match="does not take 5000 bytes"):
        blobs.put(b"0" * 5000)
    assert files(tmp_path / "blobs") == []
    limited_files(-1)
    assert blobs.get(blobs.put(b"0" * 5000)) == b"0" * 5000


@pytest.fixture
def limited_files() -> Iterator[Callable[[int], None]]:
    """Lets no file of this process grow beyond so many bytes; -1 is no limit."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
