"""Verdicts are drawn again in pages, by anybody, and none by old rules outlives the new ones."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from sqlalchemy import func, select, update

from app.core import redeciding
from app.core.database import Database
from app.core.deciding import verdict_to_write
from app.core.own_policies import put_policy
from app.core.redeciding import PAGE, Redecided, note, redecide
from app.core.scans import keep_report
from app.core.tables import Redecision, Scan
from app.core.ticker import decide_again
from tests.api.rules.house import House, report
from tests.service.conftest import DATABASES

pytestmark = pytest.mark.parametrize("house", DATABASES, indirect=True)

LENIENT, PLAIN = "name: team\nsuspicious: []\n", "name: team\n"


def put(house: House, text: str) -> None:
    with house.database.writing() as session:
        put_policy(session, "team", text, "ana")


def verdicts(house: House) -> dict[str | None, int]:
    with house.database.reading() as session:
        return dict(session.execute(select(Scan.verdict, func.count()).group_by(Scan.verdict)).all())


def left(house: House) -> int:
    with house.database.reading() as session:
        return session.scalar(select(func.count()).select_from(Redecision)) or 0


def filled(house: House, scans: int) -> None:
    put(house, PLAIN)
    redecide(house.database, house.blobs)
    found = report()
    for _ in range(scans):
        house.scan(found, policy="team")


def test_a_request_leaves_to_the_ticker_what_takes_too_long(house: House) -> None:
    count = 2 * PAGE + 3
    filled(house, count)
    put(house, LENIENT)
    first = redecide(house.database, house.blobs, seconds=0)
    assert first == Redecided(scans=PAGE, changed=PAGE, pending=True)
    assert verdicts(house) == {"no_evidence": PAGE, "suspicious": PAGE + 3}
    decide_again(house.database, house.blobs)
    assert verdicts(house) == {"no_evidence": count}
    assert left(house) == 0
    assert redecide(house.database, house.blobs) == Redecided()


def test_a_whole_last_page_ends_the_pass(house: House) -> None:
    filled(house, PAGE)
    put(house, LENIENT)
    assert redecide(house.database, house.blobs) == Redecided(scans=PAGE, changed=PAGE)
    assert left(house) == 0


def test_a_change_on_the_way_begins_again_with_all(house: House) -> None:
    filled(house, PAGE + 1)
    put(house, LENIENT)
    redecide(house.database, house.blobs, seconds=0)
    put(house, PLAIN)
    assert redecide(house.database, house.blobs).scans == PAGE + 1
    assert verdicts(house) == {"suspicious": PAGE + 1}


def test_a_page_by_old_rules_is_not_written_over_one_by_new_rules(house: House) -> None:
    filled(house, 2)
    put(house, LENIENT)
    slow = redeciding._begin(house.database)
    assert slow is not None
    page = redeciding._decide(house.database, house.blobs, slow)
    assert set(page[1].values()) == {"no_evidence"}
    put(house, PLAIN)
    assert redecide(house.database, house.blobs) == Redecided(scans=2, changed=0)
    assert not redeciding._write(house.database, slow, *page)
    assert verdicts(house) == {"suspicious": 2}


def test_a_page_is_written_once(house: House) -> None:
    filled(house, PAGE + 1)
    put(house, LENIENT)
    begun = redeciding._begin(house.database)
    assert begun is not None
    assert redeciding._begin(house.database) == begun
    page = redeciding._decide(house.database, house.blobs, begun)
    assert redeciding._write(house.database, begun, *page)
    assert not redeciding._write(house.database, begun, *page)


def test_changes_of_several_policies_are_one_pass_over_all(house: House) -> None:
    filled(house, 2)
    plain = house.scan(report())
    with house.database.writing() as session:
        put_policy(session, "team", LENIENT, "ana")
        note(session, policy="default")
    assert redecide(house.database, house.blobs) == Redecided(scans=3, changed=2)
    assert house.read(plain).verdict == "suspicious"


def test_what_is_due_later_waits(house: House) -> None:
    house.scan(report())
    later = house.read(house.scan(report())).created + 3600
    with house.database.writing() as session:
        note(session, due=later)
    assert redecide(house.database, house.blobs) == Redecided()
    house.pass_days(1)
    assert redecide(house.database, house.blobs).scans == 2


def test_a_change_that_is_rolled_back_decides_nothing_again(house: House) -> None:
    filled(house, 1)
    with suppress(KeyboardInterrupt), house.database.writing() as session:
        put_policy(session, "team", LENIENT, "ana")
        raise KeyboardInterrupt
    assert redecide(house.database, house.blobs) == Redecided()


def test_a_damaged_report_hinders_no_other(house: House, caplog: pytest.LogCaptureFixture) -> None:
    filled(house, 3)
    damaged = house.scan(report(seed=5), policy="team")
    house.drop_blob(damaged)
    put(house, LENIENT)
    with caplog.at_level(logging.ERROR):
        assert redecide(house.database, house.blobs) == Redecided(scans=4, changed=3)
    assert house.read(damaged).verdict == "suspicious"
    assert damaged in caplog.text


def test_nothing_is_forgotten_while_no_report_can_be_read(house: House) -> None:
    filled(house, 2)
    (scan,) = {str(digest) for digest in _digests(house)}
    path = house.drop_blob(_any(house))
    put(house, LENIENT)
    assert redecide(house.database, house.blobs) == Redecided(pending=True)
    assert scan in str(path)
    path.with_suffix(".gone").rename(path)
    assert redecide(house.database, house.blobs) == Redecided(scans=2, changed=2)


def _digests(house: House) -> list[str | None]:
    with house.database.reading() as session:
        return list(session.scalars(select(Scan.report_digest)))


def _any(house: House) -> str:
    with house.database.reading() as session:
        return session.scalars(select(Scan.id)).first() or ""


def test_many_may_work_on_it(house: House) -> None:
    count = 3 * PAGE
    filled(house, count)
    put(house, LENIENT)
    databases = [Database(house.settings.database) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda one: redecide(one, house.blobs, seconds=60), databases))
    for database in databases:
        database.close()
    assert sum(one.changed for one in drawn) == sum(one.scans for one in drawn) == count
    assert verdicts(house) == {"no_evidence": count}
    assert left(house) == 0


def test_the_ticker_waits_for_a_database_that_is_not_there(
    tmp_path_factory: pytest.TempPathFactory, house: House
) -> None:
    nowhere = tmp_path_factory.mktemp("nowhere") / "empty.sqlite"
    database = Database(f"sqlite:///{nowhere}")
    decide_again(database, house.blobs)  # no such table
    database.close()


def test_a_rule_that_changes_while_a_scan_ends_finds_it(house: House) -> None:
    filled(house, 0)
    found = report()
    data = found.model_dump_json().encode()
    digest, scan_id = house.blobs.put(data), house.scan(policy="team", state="running")
    with ThreadPoolExecutor(1) as pool:
        with house.database.writing() as session:
            keep_report(session, digest, scan_id, len(data))
            ended = {"state": "succeeded", "report_digest": digest, "verdict": verdict_to_write(session, found, "team")}
            change = pool.submit(lambda: (put(house, LENIENT), redecide(house.database, house.blobs)))
            with pytest.raises(TimeoutError):
                change.result(0.5)
            session.execute(update(Scan).where(Scan.id == scan_id).values(ended))
        change.result(30)
    assert ended["verdict"] == "suspicious"
    assert house.read(scan_id).verdict == "no_evidence"
