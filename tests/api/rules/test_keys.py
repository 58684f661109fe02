"""API keys: made, rotated, revoked, and never shown twice."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select, update

from app.core.database import Database
from app.core.keys import ensure_admin_key
from app.core.tables import Key
from tests.api.rules.house import House, sha256
from tests.service.conftest import DATABASES

pytestmark = pytest.mark.parametrize("house", DATABASES, indirect=True)

LIFE = {"name": "pipeline", "scopes": ["report:read"]}


def make(house: House, **fields: Any) -> dict[str, Any]:
    answer = house.call("POST", "/v1/keys", json=LIFE | fields)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    made: dict[str, Any] = answer.json()
    return made


def status(house: House, key: str, path: str = "/v1/scans") -> int:
    return house.api.get(path, headers={"Authorization": f"Bearer {key}"}).status_code


def test_a_key_is_shown_once_and_kept_as_a_hash(house: House) -> None:
    made = make(house)
    assert re.fullmatch(r"ts_[0-9a-f]{8}_[A-Za-z0-9_-]{43}", made["key"])
    assert made["key"].split("_")[1] == made["prefix"]
    assert status(house, made["key"]) == 200
    listed = house.call("GET", "/v1/keys").text
    audited = house.call("GET", "/v1/audit").text
    secret = made["key"].split("_", 2)[2]
    assert made["id"] in listed
    assert made["id"] in audited
    assert secret not in listed + audited
    assert sha256(made["key"]) not in listed + audited
    with house.database.reading() as session:
        row = session.get_one(Key, made["id"])
    assert row.hash == sha256(made["key"])
    assert secret not in str(vars(row))


def test_a_key_may_do_what_its_scopes_say(house: House) -> None:
    key = make(house)["key"]
    assert status(house, key) == 200
    assert status(house, key, "/v1/keys") == 403
    assert status(house, make(house, scopes=["scan:write"])["key"]) == 403
    assert status(house, make(house, scopes=["admin"])["key"], "/v1/keys") == 200


def test_a_key_ends(house: House) -> None:
    soon = make(house, expires="2999-01-01T00:00:00Z")
    assert status(house, soon["key"]) == 200
    house.pass_days(400_000)
    assert status(house, soon["key"]) == 401


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"scopes": []}, "body.scopes"),
        ({"scopes": ["everything"]}, "body.scopes"),
        ({"name": ""}, "body.name"),
        ({"name": "x\u0000y"}, "body.name"),
        ({"name": "a\nb"}, "body.name"),
        ({"name": "n" * 101}, "body.name"),
        ({"expires": "2001-01-01T00:00:00Z"}, "must be in the future"),
        ({"expires": "2999-01-01T00:00:00"}, "timezone"),
        ({"owner": "x"}, "body.owner"),
    ],
)
def test_a_wrong_wish_makes_no_key(house: House, fields: dict[str, Any], says: str) -> None:
    before = len(house.get("/v1/keys", "admin")["items"])
    answer = house.call("POST", "/v1/keys", json=LIFE | fields)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]
    assert len(house.get("/v1/keys", "admin")["items"]) == before


def test_a_rotated_key_is_valid_for_a_while(house: House) -> None:
    old = make(house)
    new = house.call("POST", f"/v1/keys/{old['id']}/rotate", json={"grace_s": 3600}).json()
    assert (new["name"], new["scopes"]) == (old["name"], old["scopes"])
    assert new["id"] != old["id"]
    assert {status(house, old["key"]), status(house, new["key"])} == {200}
    house.pass_days(1)
    assert (status(house, old["key"]), status(house, new["key"])) == (401, 200)
    again = house.call("POST", f"/v1/keys/{old['id']}/rotate", json={})
    assert again.status_code == 409


def test_a_key_is_rotated_at_once(house: House) -> None:
    old = make(house)
    new = house.call("POST", f"/v1/keys/{old['id']}/rotate", json={"grace_s": 0}).json()
    assert (status(house, old["key"]), status(house, new["key"])) == (401, 200)


def test_rotation_never_prolongs_a_key(house: House) -> None:
    soon = make(house, expires="2999-01-01T00:00:00Z")
    house.pass_days(355_000)
    ends = {key["id"]: key["expires"] for key in house.get("/v1/keys", "admin")["items"]}
    new = house.call("POST", f"/v1/keys/{soon['id']}/rotate", json={"grace_s": 7 * 24 * 3600}).json()
    assert new["expires"] == ends[soon["id"]]
    after = {key["id"]: key["expires"] for key in house.get("/v1/keys", "admin")["items"]}
    assert after[soon["id"]] <= ends[soon["id"]]


def test_a_revoked_key_is_refused_at_once(house: House) -> None:
    made = make(house)
    first = house.call("DELETE", f"/v1/keys/{made['id']}")
    assert (first.status_code, status(house, made["key"])) == (200, 401)
    second = house.call("DELETE", f"/v1/keys/{made['id']}")
    assert second.json() == first.json()
    assert len(house.audited("key.revoke")) == 1
    assert house.call("DELETE", f"/v1/keys/{'0' * 32}").status_code == 404


def test_the_last_administrator_cannot_be_revoked(house: House) -> None:
    (admin,) = [key for key in house.get("/v1/keys", "admin")["items"] if key["scopes"] == ["admin"]]
    answer = house.call("DELETE", f"/v1/keys/{admin['id']}")
    assert answer.status_code == 409
    assert "create another one first" in answer.json()["detail"]
    other = make(house, scopes=["admin"])["key"]
    assert house.call("DELETE", f"/v1/keys/{admin['id']}").status_code == 200
    assert status(house, other, "/v1/keys") == 200


def test_keys_come_in_pages(house: House) -> None:
    for number in range(5):
        make(house, name=f"key {number}")
    seen, cursor = [], None
    while True:
        page = house.get("/v1/keys", "admin", limit=3, **({"cursor": cursor} if cursor else {}))
        seen += [key["name"] for key in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen[:5] == [f"key {number}" for number in (4, 3, 2, 1, 0)]
    assert len(seen) == 8


def revoke_all(house: House) -> None:
    with house.database.writing() as session:
        session.execute(update(Key).values(revoked=Key.created))


def test_of_many_that_start_at_once_one_makes_the_first_key(house: House) -> None:
    revoke_all(house)
    databases = [Database(house.settings.database) for _ in range(8)]
    with ThreadPoolExecutor(len(databases)) as pool:
        made = list(pool.map(ensure_admin_key, databases))
    for database in databases:
        database.close()
    (text,) = [one for one in made if one]
    with house.database.reading() as session:
        (key,) = session.scalars(select(Key).where(Key.revoked.is_(None)))
    assert (key.scopes, key.hash) == (["admin"], sha256(text))


def test_a_service_without_a_valid_administrator_gets_one_again(house: House) -> None:
    assert ensure_admin_key(house.database) is None
    revoke_all(house)
    text = ensure_admin_key(house.database)
    assert text is not None
    assert status(house, text, "/v1/keys") == 200
