"""Policies of the service: put, read, changed, deleted; a change decides again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from httpx import Response

from tests.api.rules.house import House, report
from tests.service.conftest import DATABASES

pytestmark = pytest.mark.parametrize("house", DATABASES, indirect=True)

LENIENT = "name: team\nsuspicious: []\n"
PLAIN = "name: team\n"


def put(house: House, text: str | bytes, name: str = "team", scope: str = "admin") -> Response:
    return house.call("PUT", f"/v1/policies/{name}", scope, content=text, headers={"Content-Type": "application/yaml"})


def test_what_is_put_is_given_back(house: House) -> None:
    answer = put(house, LENIENT)
    assert answer.status_code == 201
    got = house.get("/v1/policies/team")
    assert (got["text"], got["builtin"], got["rules"]["suspicious"]) == (LENIENT, False, [])
    assert got["rules"]["max_age_days"] == 30
    assert put(house, PLAIN).status_code == 200
    assert house.get("/v1/policies/team")["text"] == PLAIN


def test_the_built_in_ones_are_listed_and_cannot_be_changed(house: House) -> None:
    put(house, "name: aaa\n", "aaa")
    listed = house.get("/v1/policies")["items"]
    assert [(one["name"], one["builtin"]) for one in listed] == [("aaa", False), ("default", True), ("strict", True)]
    assert put(house, "name: strict\n", "strict").status_code == 409
    assert house.call("DELETE", "/v1/policies/strict").status_code == 409
    assert house.get("/v1/policies/strict")["rules"]["max_age_days"] == 7


def test_policies_come_in_pages(house: House) -> None:
    for name in ("b1", "B2", "z"):
        put(house, f"name: {name}\n", name)
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = house.get("/v1/policies", limit=2, **cursor)
        seen += [one["name"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == sorted(seen)
    assert set(seen) == {"b1", "B2", "z", "default", "strict"}


def test_a_change_decides_again_at_once_on_the_scans_under_it(house: House) -> None:
    put(house, PLAIN)
    ours, other = house.scan(report(), policy="team"), house.scan(report())
    before = house.read(ours)
    assert before.verdict == "suspicious"
    answer = put(house, LENIENT).json()
    assert answer["redecided"] == {"scans": 1, "changed": 1, "pending": False}
    after = house.read(ours)
    assert (after.verdict, after.version) == ("no_evidence", before.version + 1)
    assert house.read(other).verdict == "suspicious"
    assert put(house, LENIENT).json()["redecided"] == {"scans": 1, "changed": 0, "pending": False}
    assert house.read(ours).version == after.version


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: team\nstong: [high]\n", "did you mean `strong`"),
        ("name: team\nrequired_detectors: [nobody]\n", "nobody"),
        ("name: other\n", "must be the one it is put under, `team`, got `other`"),
        ("name: team\nstrong: &a [high]\n", "no anchor, alias or tag"),
        ("strong: [high]\n", "must have a `name`"),
        ("", "must be a mapping"),
        ("name: team\n# " + "x" * 70_000, "at most 65,536 bytes"),
        (b"name: team # \xff\n", "must be UTF-8"),
        ("name: 'te\u202eam'\n", "`name`"),
    ],
)
def test_what_is_no_policy_is_refused_and_changes_nothing(house: House, text: str | bytes, says: str) -> None:
    put(house, PLAIN)
    ours = house.scan(report(), policy="team")
    answer = put(house, text)
    assert answer.status_code == 422
    assert answer.json()["code"] == "TS-ERR-130"
    assert says in answer.json()["detail"]
    assert answer.json()["detail"].isprintable()
    assert house.get("/v1/policies/team")["text"] == PLAIN
    assert house.read(ours).verdict == "suspicious"
    assert len(house.audited("policy.put")) == 1


def test_a_policy_in_use_stays(house: House) -> None:
    put(house, PLAIN)
    scan = house.scan(report(), policy="team")
    answer = house.call("DELETE", "/v1/policies/team")
    assert answer.status_code == 409
    assert scan in answer.json()["detail"]
    assert house.get("/v1/policies/team")["text"] == PLAIN


def test_an_unused_policy_is_deleted(house: House) -> None:
    put(house, PLAIN)
    assert house.call("DELETE", "/v1/policies/team").status_code == 204
    assert house.call("GET", "/v1/policies/team").status_code == 404
    assert house.call("DELETE", "/v1/policies/team").status_code == 404
    assert [row.object for row in house.audited("policy.delete")] == ["team"]


@pytest.mark.parametrize("name", ["..%2fdefault", "a" * 65, "%00", "-x", "x%0ay"])
def test_a_name_is_no_path(house: House, name: str) -> None:
    assert put(house, PLAIN, name).status_code in (404, 422)
    assert house.call("GET", f"/v1/policies/{name}").status_code in (404, 422)


def test_only_administrators_change_policies(house: House) -> None:
    for scope in ("report:read", "scan:write"):
        assert put(house, PLAIN, scope=scope).status_code == 403
        assert house.call("DELETE", "/v1/policies/team", scope).status_code == 403


def test_many_who_put_at_once_leave_one_policy(house: House) -> None:
    texts = [f"name: team\nmax_age_days: {days}\n" for days in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda text: put(house, text), texts))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert house.get("/v1/policies/team")["text"] in texts
