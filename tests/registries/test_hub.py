"""Models of a hub: resolved once, fetched whole, and nothing believed that a hub says. The hub is real HTTP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.core.registries import hub as hub_module
from app.core.registries.reference import HubReference
from app.core.registries.resolving import Pinned, fetch, resolve
from app.core.scanning import PROJECT
from app.core.settings import Settings
from detectors.errors import (
    AccessDenied,
    HubUnavailable,
    IncompleteModelError,
    MachineError,
    ModelReferenceError,
    ModelTooLarge,
    ReferenceNotSupported,
    ScanCancelled,
    UnsafeFileError,
)
from tests.registries.conftest import FILES, WEIGHTS, hub_settings
from tests.registries.hub_server import Handler, Hub, answering, held

AMBER = "acme/amber"


@pytest.fixture
def amber(hub: Hub) -> str:
    """A model on the hub; the hash of its only commit."""
    return hub.push(AMBER, FILES)


def test_a_branch_is_resolved_to_its_commit(hub: Hub, amber: str, online: Settings) -> None:
    for reference in (f"hf:{AMBER}", f"hf:{AMBER}@main", f"hf:{AMBER}@{amber}"):
        pinned = resolve(reference, online)
        assert pinned == Pinned(kind="hub", reference=reference, pinned=f"hf:{AMBER}@{amber}", revision=amber)
    tagged = hub.push(AMBER, FILES | {"config.json": b"[]"}, branch="refs/pr/1")
    assert resolve(f"hf:{AMBER}@refs/pr/1", online).revision == tagged


def test_what_is_pinned_is_fetched_though_the_branch_moved(hub: Hub, amber: str, online: Settings) -> None:
    pinned = resolve(f"hf:{AMBER}", online)
    hub.push(AMBER, dict.fromkeys(FILES, b"poisoned"))
    place = fetch(Pinned.model_validate_json(pinned.model_dump_json()), online)
    assert {file.name: file.read_bytes() for file in place.iterdir()} == FILES
    assert place.name == amber


def test_what_was_fetched_is_not_asked_for_again(hub: Hub, amber: str, online: Settings) -> None:
    pinned = resolve(f"hf:{AMBER}", online)
    place = fetch(pinned, online)
    hub.seen.clear()
    assert fetch(pinned, online) == place
    assert fetch(pinned, online.model_copy(update={"hub_enabled": False})) == place
    assert hub.seen == []


def test_only_files_that_a_scan_reads_are_fetched(hub: Hub, online: Settings) -> None:
    others = ("pytorch_model.bin", "model.pt", "modeling_evil.py", "tokenizer.pkl", ".gitattributes", "LICENSE")
    hub.push(AMBER, FILES | dict.fromkeys((*others, "checkpoint-1/model.safetensors", "1/config.json"), b"x"))
    place = fetch(resolve(f"hf:{AMBER}", online), online)
    assert {file.name for file in place.iterdir()} == set(FILES)


def test_the_hub_is_told_nothing_but_the_token_and_other_hosts_not_even_that(
    hub: Hub, online: Settings, amber: str
) -> None:
    hub.repos[AMBER].token = "hf_secret"
    known = online.model_copy(update={"hub_token": SecretStr("hf_secret")})
    fetch(resolve(f"hf:{AMBER}", known), known)
    sent = {seen.path.startswith("/large/"): seen.headers["authorization"] for seen in hub.seen}
    assert sent == {False: "Bearer hf_secret", True: None}
    assert {seen.headers["user-agent"] for seen in hub.seen} == {"touchstone"}


def test_a_token_that_lies_about_on_the_machine_is_not_sent(
    hub: Hub, amber: str, online: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody")
    fetch(resolve(f"hf:{AMBER}", online), online)
    assert {seen.headers["authorization"] for seen in hub.seen} == {None}


def test_hubs_are_closed_unless_opened(hub: Hub, amber: str, online: Settings) -> None:
    pinned = resolve(f"hf:{AMBER}", online)
    hub.seen.clear()
    closed = online.model_copy(update={"hub_enabled": False})
    with pytest.raises(ReferenceNotSupported, match="TOUCHSTONE_HUB_ENABLED"):
        resolve(f"hf:{AMBER}", closed)
    with pytest.raises(ReferenceNotSupported, match="TOUCHSTONE_HUB_ENABLED"):
        fetch(pinned, closed)
    assert hub.seen == []


def test_no_such_model(online: Settings) -> None:
    with pytest.raises(ModelReferenceError, match="has no model `acme/other`"):
        resolve("hf:acme/other", online)


def test_no_such_revision(amber: str, online: Settings) -> None:
    for revision in ("v2", "0" * 40):
        with pytest.raises(ModelReferenceError, match=f"has no revision `{revision}`"):
            resolve(f"hf:{AMBER}@{revision}", online)


def test_a_gated_model_is_refused_at_once(hub: Hub, amber: str, online: Settings) -> None:
    hub.repos[AMBER].gated = True
    with pytest.raises(AccessDenied, match=r"is gated by .* TOUCHSTONE_HUB_TOKEN"):
        resolve(f"hf:{AMBER}", online)


def test_a_private_model_looks_as_if_it_were_not_there(hub: Hub, amber: str, online: Settings) -> None:
    hub.repos[AMBER].token = "hf_secret"
    with pytest.raises(ModelReferenceError, match="does not show it to this service's token"):
        resolve(f"hf:{AMBER}", online)


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_refused(status: int, hub: Hub, amber: str, online: Settings) -> None:
    with answering(hub, lambda handler: handler.refuse(status, "")), pytest.raises(AccessDenied, match=str(status)):
        resolve(f"hf:{AMBER}", online)


def test_access_that_is_taken_away_while_the_scan_waits(hub: Hub, amber: str, online: Settings) -> None:
    pinned = resolve(f"hf:{AMBER}", online)
    refuse = answering(hub, lambda handler: handler.refuse(403, ""), "model.safetensors")
    with refuse, pytest.raises(AccessDenied, match="403"):
        fetch(pinned, online)
    assert not hub_module.place_of(HubReference(AMBER, amber), online).exists()


@pytest.mark.parametrize(
    "change",
    [
        {"sha": "main"},
        {"sha": None},
        {"siblings": [{"rfilename": "model.safetensors", "size": None, "blobId": "0" * 40}]},
        {"siblings": [{"rfilename": "model.safetensors", "size": -1, "blobId": "0" * 40}]},
        {"siblings": [{"rfilename": "model.safetensors", "size": 1, "blobId": "x"}]},
        {"siblings": [{"rfilename": "model.safetensors", "size": 1, "blobId": "0" * 40, "lfs": {"size": 1}}]},
        {"siblings": [{}]},
        {"siblings": "none"},
    ],
)
def test_an_answer_that_is_no_hubs(change: dict[str, Any], hub: Hub, amber: str, online: Settings) -> None:
    hub.repos[AMBER].info = change
    with pytest.raises(HubUnavailable, match="could not be asked"):
        resolve(f"hf:{AMBER}", online)


@pytest.mark.parametrize("body", [b"<html>Welcome to the airport</html>", b"[]", b"\xff"])
def test_another_server_in_place_of_a_hub(body: bytes, hub: Hub, online: Settings) -> None:
    with answering(hub, lambda handler: handler.answer(body)), pytest.raises(HubUnavailable):
        resolve(f"hf:{AMBER}", online)


def test_a_commit_must_be_the_one_that_was_asked_for(hub: Hub, amber: str, online: Settings) -> None:
    hub.repos[AMBER].info = {"sha": "f" * 40}
    with pytest.raises(HubUnavailable, match="asked for commit"):
        resolve(f"hf:{AMBER}@{amber}", online)


def test_a_hub_that_fails(hub: Hub, online: Settings) -> None:
    with answering(hub, lambda handler: handler.refuse(503, "")), pytest.raises(HubUnavailable, match="status 503"):
        resolve(f"hf:{AMBER}", online)


def test_what_a_hub_says_is_made_visible(hub: Hub, online: Settings) -> None:
    def speak(handler: Handler) -> None:
        handler.answer(b"", 500, {"X-Error-Message": "\x1b[31mevil"})

    with answering(hub, speak), pytest.raises(HubUnavailable) as failed:
        resolve(f"hf:{AMBER}", online)
    assert str(failed.value).isprintable()


def test_a_closed_port(amber: str, hub: Hub, online: Settings, tmp_path: Path) -> None:
    pinned = resolve(f"hf:{AMBER}", online)
    with Reserved() as port:
        gone = hub_settings(hub, tmp_path, hub_endpoint=f"http://127.0.0.1:{port}")
        with pytest.raises(HubUnavailable, match="in reach"):
            resolve(f"hf:{AMBER}", gone)
        with pytest.raises(HubUnavailable, match="in reach"):
            fetch(pinned, gone)


def test_a_hub_that_hangs(hub: Hub, amber: str, tmp_path: Path) -> None:
    with held(hub, "/api/") as hold, pytest.raises(HubUnavailable, match="Timeout"):
        resolve(f"hf:{AMBER}", hub_settings(hub, tmp_path, hub_timeout_s=0.2))
    assert hold.came.is_set()


def test_pickles_only(hub: Hub, online: Settings) -> None:
    hub.push(AMBER, {"config.json": b"{}", "pytorch_model.bin": b"\x80\x04", "1/model.safetensors": b"x"})
    with pytest.raises(UnsafeFileError, match=r"`pytorch_model.bin` and no safetensors"):
        resolve(f"hf:{AMBER}", online)


def test_no_weights(hub: Hub, online: Settings) -> None:
    hub.push(AMBER, {"README.md": b"soon"})
    with pytest.raises(IncompleteModelError, match="no weights"):
        resolve(f"hf:{AMBER}", online)


@pytest.mark.parametrize(
    "name", ["../x.json", "/etc/x.json", "a/../../x.json", "..\\x.json", "C:\\x.json", "x\n.json", "x\u202e.json"]
)
def test_names_that_lead_out_of_a_directory(name: str, hub: Hub, online: Settings) -> None:
    hub.push(AMBER, FILES | {name: b"{}"})
    with pytest.raises(UnsafeFileError, match="leads out of a directory") as refused:
        resolve(f"hf:{AMBER}", online)
    assert str(refused.value).isprintable()


def test_names_are_looked_at_again_when_the_files_are_fetched(hub: Hub, amber: str, online: Settings) -> None:
    pinned = resolve(f"hf:{AMBER}", online)
    hub.repos[AMBER].commits[amber]["../../x.json"] = b"{}"
    with pytest.raises(UnsafeFileError, match="leads out"):
        fetch(pinned, online)
    assert not list(online.cache_dir.rglob("x.json"))


def test_too_large_is_said_before_anything_is_fetched(hub: Hub, amber: str, tmp_path: Path) -> None:
    size = sum(map(len, FILES.values()))
    assert resolve(f"hf:{AMBER}", hub_settings(hub, tmp_path, fetch_cap_bytes=size))
    with pytest.raises(ModelTooLarge, match=f"{size} bytes .* up to {size - 1}.*TOUCHSTONE_FETCH_CAP_BYTES"):
        resolve(f"hf:{AMBER}", hub_settings(hub, tmp_path, fetch_cap_bytes=size - 1))


def test_a_disk_without_room(hub: Hub, amber: str, online: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "SPARE_BYTES", 2**62)
    with pytest.raises(MachineError, match="bytes free"):
        fetch(resolve(f"hf:{AMBER}", online), online)
    assert hub.downloads("config.json") == 0


def test_a_disk_that_does_not_take_it(amber: str, online: Settings) -> None:
    pinned = resolve(f"hf:{AMBER}", online)
    online.fetched_dir.parent.mkdir()
    online.fetched_dir.write_text("a file where a directory is wanted")
    with pytest.raises(MachineError, match="cannot be written"):
        fetch(pinned, online)


def cut(handler: Handler, content: bytes) -> None:
    """Promises all and closes half-way."""
    handler.begin(200, {"Content-Length": str(len(content))})
    handler.wfile.write(content[: len(content) // 2])


def shorten(handler: Handler, content: bytes) -> None:
    handler.answer(content[:-1])


def change(handler: Handler, content: bytes) -> None:
    handler.answer(content[:-1] + b"?")


def endless(handler: Handler, content: bytes) -> None:
    """More than any reader should take, without a length."""
    handler.begin(200, {})
    try:
        while True:
            handler.wfile.write(bytes(2**20))
    except OSError:
        """The reader had enough."""


def cut_once() -> Callable[[Handler, bytes], None]:
    ways = iter([cut])
    return lambda handler, content: next(ways, Handler.answer)(handler, content)


def test_a_connection_that_breaks_once_is_taken_up_again(hub: Hub, amber: str, online: Settings) -> None:
    hub.bodies["model.safetensors"] = cut_once()
    place = fetch(resolve(f"hf:{AMBER}", online), online)
    assert (place / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.downloads("model.safetensors") == 2


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("body", [shorten, change, endless])
def test_a_file_that_is_not_what_was_listed(
    name: str, body: Callable[[Handler, bytes], None], hub: Hub, amber: str, online: Settings
) -> None:
    pinned = resolve(f"hf:{AMBER}", online)
    hub.bodies[name] = body
    with pytest.raises(HubUnavailable, match="try again"):
        fetch(pinned, online)
    place = hub_module.place_of(HubReference(AMBER, amber), online)
    assert not place.exists()
    del hub.bodies[name]
    assert {file.name: file.read_bytes() for file in fetch(pinned, online).iterdir()} == FILES


def test_a_cancelled_download_leaves_nothing_that_looks_whole(hub: Hub, amber: str, online: Settings) -> None:
    def cancel_at_the_weights() -> None:
        if hub.downloads("model.safetensors"):
            raise ScanCancelled("told to")

    pinned = resolve(f"hf:{AMBER}", online)
    with pytest.raises(ScanCancelled):
        fetch(pinned, online, cancel_at_the_weights)
    assert not hub_module.place_of(HubReference(AMBER, amber), online).exists()


FETCHER = """
import json, sys
from app.core.registries.reference import HubReference
from app.core.registries.resolving import Pinned, fetch
from app.core.settings import Settings
print(fetch(Pinned.model_validate_json(sys.argv[1]), Settings(**json.loads(sys.argv[2]))), flush=True)
"""


@contextmanager
def fetcher(pinned: Pinned, settings: Settings, offline: str = "1") -> Iterator[subprocess.Popen[str]]:
    """Another process that fetches."""
    known = {"hub_enabled": True, "hub_endpoint": settings.hub_endpoint, "cache_dir": str(settings.cache_dir)}
    command = [sys.executable, "-c", FETCHER, pinned.model_dump_json(), json.dumps(known)]
    environment = dict(os.environ) | {"HF_HUB_OFFLINE": offline}
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, env=environment) as child:
        try:
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize("offline", ["1", "0"])
def test_the_offline_mode_of_the_environment_does_not_decide(
    offline: str, hub: Hub, amber: str, online: Settings
) -> None:
    with fetcher(resolve(f"hf:{AMBER}", online), online, offline) as child:
        place, _ = child.communicate(timeout=60)
    assert {file.name for file in Path(place.strip()).iterdir()} == set(FILES)


def test_two_processes_that_want_the_same_fetch_it_once(hub: Hub, amber: str, online: Settings) -> None:
    pinned, waits = resolve(f"hf:{AMBER}", online), threading.Event()
    second: list[Path] = []
    with held(hub, "/large/") as hold, fetcher(pinned, online) as child:
        assert hold.came.wait(60)
        thread = threading.Thread(target=lambda: second.append(fetch(pinned, online, waits.set)))
        thread.start()
        assert waits.wait(60)
        assert not second
        hold.release.set()
        place, _ = child.communicate(timeout=60)
        thread.join(60)
    assert second == [Path(place.strip())]
    assert hub.downloads("model.safetensors") == 1


def test_whoever_waits_can_be_cancelled(hub: Hub, amber: str, online: Settings) -> None:
    pinned = resolve(f"hf:{AMBER}", online)

    def cancel() -> None:
        raise ScanCancelled("told to")

    with held(hub, "/large/") as hold, fetcher(pinned, online) as child:
        assert hold.came.wait(60)
        with pytest.raises(ScanCancelled):
            fetch(pinned, online, cancel)
        assert child.poll() is None


def test_what_a_killed_process_had_fetched_is_kept(hub: Hub, amber: str, online: Settings) -> None:
    pinned = resolve(f"hf:{AMBER}", online)
    with held(hub, "/large/") as hold, fetcher(pinned, online) as child:
        assert hold.came.wait(60)
        child.kill()
        child.wait()
    before = hub.downloads("config.json")
    assert {file.name: file.read_bytes() for file in fetch(pinned, online).iterdir()} == FILES
    assert hub.downloads("config.json") == before == 1


def test_what_was_kept_of_a_killed_process_is_checked(hub: Hub, amber: str, online: Settings) -> None:
    pinned = resolve(f"hf:{AMBER}", online)
    with held(hub, "/large/") as hold, fetcher(pinned, online) as child:
        assert hold.came.wait(60)
        child.kill()
        child.wait()
    (kept,) = online.cache_dir.rglob("config.json")
    kept.write_bytes(b"[]")
    with pytest.raises(HubUnavailable, match="damaged"):
        fetch(pinned, online)
    assert (fetch(pinned, online) / "config.json").read_bytes() == FILES["config.json"]


def test_models_with_confusable_names_lie_apart(hub: Hub, online: Settings) -> None:
    names = ("a/b-c", "a-b/c", "a/b_c")
    for name in names:
        hub.push(name, FILES)
    assert len({fetch(resolve(f"hf:{name}", online), online) for name in names}) == len(names)


class Reserved:
    """A port that nobody listens on and nobody else can take."""

    def __enter__(self) -> int:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        port: int = self._socket.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._socket.close()
