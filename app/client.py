"""A client of a Touchstone service, for the command line.

The service is not trusted with this machine: an answer is read up to a limit, redirects are not followed, for the key
would travel along, and whoever shows a text of an answer makes it visible first.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from detectors.errors import NotReady, ServiceUnreachable, TouchstoneError
from detectors.report import Verdict

EXIT_INPUT, EXIT_RUNNING = 2, 4

CONNECT_S = 10.0
ANSWER_S = 60.0
"""How long the service may be silent within an answer: a write waits for a locked database."""
LISTEN_S = 10.0
"""How long nothing may come over a stream of events before the scan itself is asked for."""
POLL_S = 2.0
"""How long to wait between two looks at a scan whose events cannot be had."""
PATIENCE_S = 120.0
"""How long a service may be away before a wait gives up: it may be restarting."""
ANSWER_LIMIT = 256 * 2**20
"""Bytes read of an answer; reports of deep suites are large."""
TRY_AGAIN = (408, 425, 429)
"""Statuses below 500 at which the call is not at fault."""

T = TypeVar("T", bound=BaseModel)


class _Given(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ScanProgress(_Given):
    """How far a scan is; `eta_s` is what is left of it, in seconds."""

    done: float = 0.0
    total: float = 0.0
    phase: str = ""
    eta_s: float | None = None


class ScanError(_Given):
    """Why a scan failed."""

    code: str
    message: str


class ScanStatus(_Given):
    """What the service says of a scan, with all that this client has no name for; texts are somebody else's."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str
    state: str
    verdict: Verdict | None = None
    progress: ScanProgress = ScanProgress()
    error: ScanError | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ("succeeded", "failed", "canceled")


class KeyGiven(_Given):
    """An API key, as lists show it; its text, `key`, is there once, when it was made."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None
    key: str | None = None


class _KeyPage(_Given):
    items: tuple[KeyGiven, ...]
    next: str | None = None


class CallRefused(TouchstoneError):
    """The service will not do what was asked, and trying again does not help.

    Attributes:
        code: the service's own, or that of the HTTP status.
        exit_code: 4 where it is too early, 2 where the call or its key is at fault.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = EXIT_RUNNING if code == NotReady.code else EXIT_INPUT


class Client:
    """A service, and the key it is asked with; use it in a `with` statement.

    Args:
        url: address of the service, http or https.
        key: API key.
    """

    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx2.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx2.Timeout(ANSWER_S, connect=CONNECT_S),
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def submit(self, wish: Mapping[str, Any]) -> ScanStatus:
        """The scan that was accepted.

        Args:
            wish: the body of `POST /v1/scans`.

        Raises:
            CallRefused: if the service will not.
            ServiceUnreachable: if there is no answer that can be understood. So do all methods.
        """
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        return self._ask(ScanStatus, "POST", "/v1/scans", json=dict(wish), headers=headers)

    def scan(self, scan_id: str) -> ScanStatus:
        """How a scan stands."""
        return self._ask(ScanStatus, "GET", f"/v1/scans/{_part(scan_id)}")

    def cancel(self, scan_id: str) -> None:
        """Asks for the end of a scan."""
        self._send("POST", f"/v1/scans/{_part(scan_id)}/cancel")

    def report(self, scan_id: str, media_type: str, policy: str | None = None) -> bytes:
        """A scan's report in a form of `app.core.render.formats`."""
        path = f"/v1/scans/{_part(scan_id)}/report"
        return self._send("GET", path, headers={"Accept": media_type}, params=_present(policy=policy))

    def gate(self, model: str, base: str | None, policy: str | None, max_age: str | None) -> bytes:
        """The service's decision, as `app.gate_client.understood` reads it."""
        params = _present(model=model, base=base, policy=policy, max_age=max_age)
        return self._send("GET", "/v1/gate", params=params)

    def keys(self) -> tuple[KeyGiven, ...]:
        """All API keys."""
        page = self._ask(_KeyPage, "GET", "/v1/keys")
        found = page.items
        while page.next:
            page = self._ask(_KeyPage, "GET", "/v1/keys", params={"cursor": page.next})
            found += page.items
        return found

    def create_key(self, wish: Mapping[str, Any]) -> KeyGiven:
        """A new API key, shown this once.

        Args:
            wish: the body of `POST /v1/keys`.
        """
        return self._ask(KeyGiven, "POST", "/v1/keys", json=dict(wish))

    def revoke_key(self, key_id: str) -> None:
        """Lets a key in no more."""
        self._send("DELETE", f"/v1/keys/{_part(key_id)}")

    def rotate_key(self, key_id: str, grace_s: int) -> KeyGiven:
        """A new key in place of an old one, shown this once; the old one stays valid for `grace_s` seconds."""
        return self._ask(KeyGiven, "POST", f"/v1/keys/{_part(key_id)}/rotate", json={"grace_s": grace_s})

    def follow(self, scan_id: str, until: float, tell: Callable[[ScanStatus], None]) -> ScanStatus:
        """Waits until a scan has ended, or until `until` on the monotonic clock; how it stands then.

        Events only say when to look: what counts is the scan itself. A service that is away is waited for.

        Args:
            tell: called with how the scan stands, whenever that may have changed.
        """
        patience = time.monotonic() + PATIENCE_S
        while True:
            try:
                status = self.scan(scan_id)
            except ServiceUnreachable:
                if time.monotonic() >= min(patience, until):
                    raise
            else:
                tell(status)
                if status.ended or time.monotonic() >= until:
                    return status
                patience = time.monotonic() + PATIENCE_S
            self._listen(scan_id, until, tell)

    def _listen(self, scan_id: str, until: float, tell: Callable[[ScanStatus], None]) -> None:
        """Follows a scan's events until they end or stay away; at least for `POLL_S`, unless the scan ends."""
        began = time.monotonic()
        if self._heard_end(scan_id, until, tell):
            return
        rest = min(began + POLL_S, until) - time.monotonic()
        if rest > 0:
            time.sleep(rest)

    def _heard_end(self, scan_id: str, until: float, tell: Callable[[ScanStatus], None]) -> bool:
        """Whether an event said that the scan has ended."""
        silence = max(0.1, min(LISTEN_S, until - time.monotonic()))
        timeout = httpx2.Timeout(silence, connect=CONNECT_S)
        with (
            suppress(httpx2.HTTPError),
            self._http.sse(f"/v1/scans/{_part(scan_id)}/events", timeout=timeout) as events,
        ):
            for event in events:
                status = _status_in(event.data)
                if status:
                    tell(status)
                if status and status.ended:
                    return True
                if time.monotonic() >= until:
                    break
        return False

    def _ask(self, kind: type[T], method: str, path: str, **options: Any) -> T:
        """An answer that is of this kind."""
        body = self._send(method, path, **options)
        try:
            return kind.model_validate_json(body)
        except ValidationError:
            raise ServiceUnreachable(
                f"the service at {self.url} answered {method} {path} with something that this client does not know; "
                "check the address, or update either"
            ) from None

    def _send(self, method: str, path: str, **options: Any) -> bytes:
        """The body of a successful answer."""
        try:
            with self._http.stream(method, path, **options) as response:
                body = _bounded(response)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            said = str(error) or type(error).__name__
            raise ServiceUnreachable(
                f"the service at {self.url} does not answer: {said}; check the address, and that it runs"
            ) from None
        if response.is_success:
            return body
        raise _refusal(response.status_code, body)


def _bounded(response: httpx2.Response) -> bytes:
    parts, left = [], ANSWER_LIMIT
    for part in response.iter_bytes():
        left -= len(part)
        if left < 0:
            raise ServiceUnreachable(f"the service answered with more than {ANSWER_LIMIT:,} bytes")
        parts.append(part)
    return b"".join(parts)


def _refusal(status: int, body: bytes) -> TouchstoneError:
    """The problem that the service names (RFC 9457), or the bare status."""
    code, detail = f"HTTP {status}", "it says no more"
    with suppress(ValueError, AttributeError):
        problem = json.loads(body)
        code = str(problem.get("code") or code)
        detail = str(problem.get("detail") or problem.get("title") or detail)
    said = f"the service answered {status}: {detail}"
    if status == HTTPStatus.UNAUTHORIZED:
        said += "; give a valid key by `--key-file` or TOUCHSTONE_KEY"
    if 400 <= status < 500 and status not in TRY_AGAIN:
        return CallRefused(code, said)
    return ServiceUnreachable(said)


def _status_in(data: str) -> ScanStatus | None:
    """How the scan stands, where an event says it."""
    try:
        return ScanStatus.model_validate_json(data)
    except ValidationError:
        return None


def _part(text: str) -> str:
    """A caller's text as one part of an address."""
    return quote(text, safe="")


def _present(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}
