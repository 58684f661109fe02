from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from app.core.watching import Watch
from tests.api.conftest import WISH
from tests.api.serving import Api
from tests.render import sample

MANY = 200


@pytest.fixture
def scan_id(api: Api) -> str:
    with api.client("scan:write") as client:
        submitted: str = client.post("/v1/scans", json=WISH).json()["id"]
    return submitted


@contextmanager
def watching(api: Api, scan_id: str, last: int | None = None) -> Iterator[Iterator[dict[str, Any]]]:
    """The events of a scan, as they come."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    with (
        api.client("report:read") as client,
        client.stream("GET", f"/v1/scans/{scan_id}/events", headers=headers) as it,
    ):
        assert it.status_code == 200
        assert it.headers["Content-Type"].startswith("text/event-stream")
        yield events(it.iter_lines())


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line and name:
            fields[name] = value
        elif fields.get("data"):
            yield {"id": int(fields["id"]), "event": fields["event"], "scan": json.loads(fields["data"])}
            fields = {}


def test_the_scan_now_then_its_changes_then_the_end(api: Api, scan_id: str) -> None:
    with watching(api, scan_id) as seen:
        first = next(seen)
        assert (first["id"], first["event"], first["scan"]["state"]) == (1, "scan", "queued")
        api.change(scan_id, state="running", phase="trigger_sweep")
        assert next(seen)["scan"]["progress"]["phase"] == "trigger_sweep"
        api.finish(scan_id, *sample.strong())
        last = next(seen)
        assert (last["id"], last["scan"]["state"], last["scan"]["verdict"]) == (3, "succeeded", "strong_evidence")
        assert next(seen, None) is None


def test_a_stream_resumes_after_what_was_seen(api: Api, scan_id: str) -> None:
    api.change(scan_id, state="resolving")
    with watching(api, scan_id, last=2) as seen:
        api.change(scan_id, state="checking")
        assert next(seen)["id"] == 3
    with watching(api, scan_id, last=1) as seen:
        assert next(seen)["id"] == 3  # states, not steps: what lies between is gone


def test_who_has_seen_the_end_is_told_not_to_come_again(api: Api, scan_id: str) -> None:
    api.change(scan_id, state="failed")
    with watching(api, scan_id, last=1) as seen:
        assert [one["id"] for one in seen] == [2]
    with api.client("report:read") as client:
        answer = client.get(f"/v1/scans/{scan_id}/events", headers={"Last-Event-ID": "2"})
    assert answer.status_code == 204


@pytest.mark.parametrize("last", ["x", "-1", "99999999999"])
def test_an_event_id_that_is_none_is_a_problem(api: Api, scan_id: str, last: str) -> None:
    with api.client("report:read") as client:
        answer = client.get(f"/v1/scans/{scan_id}/events", headers={"Last-Event-ID": last})
    assert answer.status_code == 422


def test_many_watch_by_few_queries(api: Api, scan_id: str) -> None:
    scan, asked = api.scan(scan_id), []
    watch = Watch(api.database, look_s=0.01)
    event.listen(api.database.engine, "before_cursor_execute", lambda *call: asked.append(call[2]))

    async def states() -> list[str]:
        return [one.state async for one in watch.changes(scan, 0, for_s=60)]

    async def all_of_them() -> list[list[str]]:
        watchers = [asyncio.create_task(states()) for _ in range(MANY)]
        while not asked:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(api.change, scan_id, state="running")
        before = len(asked)
        while len(asked) < before + 6:  # two looks later at the latest everybody has seen it
            await asyncio.sleep(0.01)
        await asyncio.to_thread(api.change, scan_id, state="canceled")
        return await asyncio.gather(*watchers)

    assert asyncio.run(all_of_them()) == [["queued", "running", "canceled"]] * MANY
    assert len([statement for statement in asked if statement.startswith("SELECT")]) < MANY


def test_two_hundred_clients_see_the_end(api: Api, scan_id: str) -> None:
    key = api.key("report:read")

    async def last_event(client: httpx.AsyncClient, begun: asyncio.Semaphore) -> str:
        async with client.stream("GET", f"/v1/scans/{scan_id}/events") as stream:
            lines = [line async for line in _released(stream.aiter_lines(), begun)]
        return [line for line in lines if line.startswith("id: ")][-1]

    async def _released(lines: Any, begun: asyncio.Semaphore) -> Any:
        first = True
        async for line in lines:
            yield line
            if first:
                begun.release()
            first = False

    async def everybody() -> list[str]:
        begun = asyncio.Semaphore(0)
        limits = httpx.Limits(max_connections=MANY)
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(
            base_url=api.url, headers=headers, timeout=60, limits=limits, trust_env=False
        ) as client:
            tasks = [asyncio.create_task(last_event(client, begun)) for _ in range(MANY)]
            for _ in range(MANY):
                await begun.acquire()
            await asyncio.to_thread(api.change, scan_id, state="canceled")
            return await asyncio.gather(*tasks)

    assert asyncio.run(everybody()) == ["id: 2"] * MANY


def test_nobody_looks_when_nobody_watches(api: Api, scan_id: str) -> None:
    watch = Watch(api.database, look_s=0.01)

    async def once() -> bool:
        async for _ in watch.changes(api.scan(scan_id), 0, for_s=0.05):
            pass
        while watch._poller is not None and not watch._poller.done():
            await asyncio.sleep(0.01)
        return not watch._bells and not watch._latest

    assert asyncio.run(once())
