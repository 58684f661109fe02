"""The gate: closed unless a valid report is about exactly what a reference names now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.core.gating import Gate
from tests.api.rules.house import BASE, CONTENTS, DAY, SUBJECT, House, report, touch
from tests.service.conftest import DATABASES

pytestmark = pytest.mark.parametrize("house", DATABASES, indirect=True)

PASSING, FAILING = "no_evidence", "strong"


def ask(house: House, **params: Any) -> dict[str, Any]:
    params = {"model": house.model("amber"), "base": house.model("base")} | params
    answer = house.call("GET", "/v1/gate", "report:read", params={k: v for k, v in params.items() if v is not None})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    told: dict[str, Any] = answer.json()
    assert told["reason"].isprintable()
    assert told["reason"].endswith(".")
    return told


def test_it_lets_through_what_a_valid_report_is_about_and_names_it(house: House) -> None:
    scan = house.scan(report(PASSING))
    told = ask(house)
    assert (told["allow"], told["outcome"], told["verdict"]) == (True, "pass", "no_evidence")
    assert (told["scan_id"], told["subject_digest"], told["base_digest"]) == (scan, SUBJECT, BASE)
    assert told["report_digest"] == house.read(scan).report_digest
    assert told["state"] is told["open_scan_id"] is None
    left = datetime.fromisoformat(told["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left < timedelta(days=30, minutes=1)
    assert f"deploy the contents {SUBJECT[:12]} and no others" in told["reason"]


@pytest.mark.parametrize("state", ["queued", "running", "failed", "canceled"])
def test_it_is_closed_without_a_report(house: House, state: Any) -> None:
    scan = house.scan(state=state)
    told = ask(house)
    assert (told["allow"], told["outcome"], told["verdict"], told["scan_id"]) == (False, "closed", None, None)
    open_ones = ("queued", "running")
    assert (told["state"], told["open_scan_id"]) == ((state, scan) if state in open_ones else (None, None))


def test_it_is_closed_for_what_nobody_scanned(house: House) -> None:
    told = ask(house)
    assert (told["allow"], told["outcome"], told["subject_digest"]) == (False, "closed", None)
    assert "There is no report on what" in told["reason"]


def test_it_tells_of_a_scan_that_has_not_even_resolved_its_model(house: House) -> None:
    amber = house.model("amber")
    scan = house.scan(model=amber, state="queued", subject_pin=None, subject_revision=None, subject_digest=None)
    told = ask(house)
    assert (told["allow"], told["state"], told["open_scan_id"]) == (False, "queued", scan)


def test_a_rescan_under_way_shuts_nothing(house: House) -> None:
    house.scan(report(PASSING))
    house.scan(state="running")
    told = ask(house)
    assert (told["allow"], told["state"]) == (True, "running")


def test_it_is_closed_when_the_files_changed(house: House) -> None:
    house.scan(report(PASSING))
    assert ask(house)["allow"]
    touch(house.model("amber"))
    told = ask(house)
    assert (told["allow"], told["outcome"]) == (False, "closed")


def test_the_same_contents_in_another_place_are_known_by_their_digest(house: House) -> None:
    house.scan(report(PASSING))
    touch(house.model("amber"))
    told = ask(house, model=f"sha256:{SUBJECT}", base=f"sha256:{BASE}")
    assert (told["allow"], told["subject_digest"]) == (True, SUBJECT)
    other = ask(house, model="sha256:" + "d" * 64)
    assert (other["allow"], other["outcome"]) == (False, "closed")


def test_files_that_were_changed_with_their_times_set_back_are_not_known(house: House) -> None:
    house.scan(report(PASSING))
    house.scan(report(PASSING, subject="d" * 64))
    told = ask(house)
    assert (told["allow"], told["outcome"]) == (False, "closed")
    assert "their times set back" in told["reason"]
    assert ask(house, model=f"sha256:{SUBJECT}")["allow"]


def test_it_is_closed_for_another_base(house: House) -> None:
    house.scan(report(PASSING))
    for base in (house.model("other-base"), "sha256:" + "d" * 64):
        told = ask(house, base=base)
        assert (told["allow"], told["outcome"], told["verdict"]) == (False, "closed", None)
        assert "scan the model against the base that you ask for" in told["reason"]
    assert ask(house, base=None)["allow"]


def test_of_reports_with_several_bases_the_one_that_was_asked_for_counts(house: House) -> None:
    house.scan(report(PASSING))
    newer = house.scan(report(PASSING, base="e" * 64), base=house.model("other-base"))
    assert ask(house, base=house.model("base"))["scan_id"] != newer
    assert ask(house, base=house.model("other-base"))["scan_id"] == newer


def test_it_is_closed_when_the_report_is_too_old(house: House) -> None:
    house.scan(report(PASSING), days_ago=8)
    assert ask(house, max_age="9d")["allow"]
    for params in ({"max_age": "8d"}, {"max_age": "12h"}, {"max_age": "0m"}, {"policy": "strict"}):
        told = ask(house, **params)
        assert (told["allow"], told["outcome"]) == (False, "closed")
        assert "old at most: scan the model again" in told["reason"]
    house.pass_days(22.1)
    assert not ask(house)["allow"]


def test_a_rescan_that_ended_with_the_same_report_makes_it_young(house: House) -> None:
    first = house.scan(report(PASSING), days_ago=31)
    assert not ask(house)["allow"]
    again = house.scan(report(PASSING), reused_from=first)
    told = ask(house)
    assert (told["allow"], told["scan_id"]) == (True, again)


def test_it_is_closed_when_inconclusive(house: House) -> None:
    house.scan(report("inconclusive"))
    told = ask(house)
    assert (told["allow"], told["outcome"], told["verdict"]) == (False, "inconclusive", "inconclusive")
    assert ask(house, policy="strict")["outcome"] == "fail"


def test_a_scan_that_concludes_something_replaces_one_that_did_not(house: House) -> None:
    house.scan(report(PASSING))
    house.scan(report("inconclusive", seed=2))
    assert ask(house)["allow"]


def test_it_is_closed_by_the_smoke_suite(house: House) -> None:
    house.scan(report(PASSING, suite="smoke"))
    told = ask(house)
    assert (told["allow"], told["outcome"]) == (False, "closed")
    assert "too weak for the policy default: scan the model with quick" in told["reason"]


@pytest.mark.parametrize("order", [(FAILING, PASSING), (PASSING, FAILING)])
def test_the_gravest_report_on_the_contents_counts(house: House, order: tuple[str, str]) -> None:
    ids = {kind: house.scan(report(kind), days_ago=900 * (kind == FAILING)) for kind in order}
    told = ask(house)
    assert (told["allow"], told["outcome"], told["verdict"]) == (False, "fail", "strong_evidence")
    assert told["scan_id"] == ids[FAILING]


def test_of_two_that_fail_the_graver_is_named(house: House) -> None:
    grave = house.scan(report(FAILING))
    house.scan(report("suspicious"))
    assert ask(house)["scan_id"] == grave


def test_a_report_that_warns_is_named_before_one_that_passes(house: House) -> None:
    policy = {"content": "name: rollout\ngate: {suspicious: warn}\n"}
    house.call("PUT", "/v1/policies/rollout", **policy)
    warned = house.scan(report("suspicious"))
    house.scan(report(PASSING))
    told = ask(house, policy="rollout")
    assert (told["allow"], told["outcome"], told["scan_id"]) == (True, "warn", warned)


def test_what_was_found_in_the_same_contents_stops_a_copy_with_other_files(house: House) -> None:
    copy = "d" * 64
    same = {"subject_content": CONTENTS[SUBJECT]}
    house.scan(report(FAILING))
    house.scan(report(PASSING, subject=copy), model=house.model("copy"), **same)
    told = ask(house, model=house.model("copy"))
    assert (told["allow"], told["verdict"], told["subject_digest"]) == (False, "strong_evidence", copy)


def test_it_decides_by_the_rules_of_this_moment(house: House) -> None:
    house.scan(report("suspicious"))
    assert ask(house)["outcome"] == "fail"
    ends = datetime.now(UTC) + timedelta(days=2)
    body = {"finding_code": "TS-COND-001", "reason": "House style.", "owner": "ana", "expires": ends.isoformat()}
    house.call("POST", "/v1/suppressions", json=body)
    told = ask(house)
    assert told["allow"]
    assert abs(datetime.fromisoformat(told["expires_at"]) - ends) < timedelta(seconds=1)
    house.pass_days(2.1)
    assert ask(house)["outcome"] == "fail"  # whether the ticker runs or not


def test_clocks_may_differ_by_five_minutes(house: House) -> None:
    minutes = 5 * 60 / DAY
    house.scan(report(PASSING), days_ago=-minutes)
    assert ask(house)["allow"]
    house.pass_days(-3 * minutes)
    told = ask(house)
    assert (told["allow"], told["outcome"]) == (False, "closed")
    assert "yet to come" in told["reason"]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"policy": "nobody"}, "TS-ERR-130"),
        ({"policy": "../default"}, "TS-ERR-601"),
        ({"max_age": "soon"}, "TS-ERR-601"),
        ({"max_age": "-1d"}, "TS-ERR-601"),
        ({"model": ""}, "TS-ERR-601"),
        ({"model": "/etc"}, "TS-ERR-141"),
        ({"model": "../amber"}, "TS-ERR-141"),
        ({"model": "no-such-model"}, "TS-ERR-101"),
        ({"model": "hf:org/name"}, "TS-ERR-140"),
        ({"model": "amber\u202e"}, "TS-ERR-101"),
        ({"model": "sha256:short"}, "TS-ERR-140"),
        ({"base": "no-such-base"}, "TS-ERR-101"),
    ],
)
def test_a_wrong_question_is_no_decision(house: House, params: dict[str, str], code: str) -> None:
    house.scan(report(PASSING))
    asked = {"model": house.model("amber")} | params
    answer = house.call("GET", "/v1/gate", "report:read", params=asked)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["detail"].isprintable()
    assert "allow" not in answer.json()


def test_it_does_not_open_while_a_report_cannot_be_read(house: House) -> None:
    house.drop_blob(house.scan(report(PASSING)))
    answer = house.call("GET", "/v1/gate", params={"model": house.model("amber")})
    assert answer.status_code == 503
    assert "retry-after" in answer.headers


def test_every_decision_is_in_the_log(house: House) -> None:
    ask(house)
    scan = house.scan(report(PASSING))
    ask(house)
    closed, opened = house.audited("gate.ask")
    assert (closed.actor, closed.detail["allow"]) == (house.keys["report:read"].id, False)
    assert (opened.detail["allow"], opened.detail["scan_id"]) == (True, scan)
    assert opened.detail["subject_digest"] == SUBJECT
    assert opened.object == house.model("amber")
    assert len(str(opened.detail)) < 1_000


def test_its_answer_is_that_of_the_rules(house: House) -> None:
    house.scan(report(PASSING))
    told = {name: value for name, value in ask(house).items() if name in Gate.model_fields}
    assert Gate.model_validate_json(Gate.model_validate(told | {"expires_at": None}).model_dump_json())
    assert set(told) == set(Gate.model_fields)
