"""Around every request: an id, careful headers, a limit, a count, and one answer for whatever nobody foresaw."""

from __future__ import annotations

import logging
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import REQUEST_ID, internal, template_of
from app.api.traffic import Traffic

log = logging.getLogger("touchstone.api")

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Unless a route says otherwise."""


class Guard:
    """ASGI middleware.

    Args:
        inner: what it guards.
        traffic: where requests are counted.
        body_limit: bytes that a request's body may have.
    """

    def __init__(self, inner: ASGIApp, traffic: Traffic, body_limit: int) -> None:
        self._inner = inner
        self._traffic = traffic
        self._body_limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        scope[REQUEST_ID] = uuid.uuid4().hex
        answering = _Answering(scope, send, self._traffic)
        try:
            await self._inner(scope, _Asking(scope, receive, self._body_limit).receive, answering.send)
        except Exception:
            log.exception("request %s failed", scope[REQUEST_ID])
            if answering.begun:
                raise
            await internal(Request(scope))(scope, receive, answering.send)


class _Answering:
    """The way back: headers are added and the answer is counted when it begins."""

    def __init__(self, scope: Scope, send: Send, traffic: Traffic) -> None:
        self.begun = False
        self._scope = scope
        self._send = send
        self._traffic = traffic
        self._started = time.perf_counter()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self._scope[REQUEST_ID]
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            self._count(message["status"])
        await self._send(message)

    def _count(self, status: int) -> None:
        route = template_of(self._scope)
        self._traffic.count(self._scope["method"], route, status, time.perf_counter() - self._started)


class _Asking:
    """The way in: a body is counted as it comes, whatever length was announced."""

    def __init__(self, scope: Scope, receive: Receive, limit: int) -> None:
        announced = Headers(scope=scope).get("Content-Length", "")
        self._announced = int(announced) if announced.isdecimal() else 0
        self._receive = receive
        self._limit = limit
        self._got = 0

    async def receive(self) -> Message:
        message = {} if self._announced > self._limit else await self._receive()
        self._got += len(message.get("body", b""))
        if max(self._announced, self._got) > self._limit:
            raise HTTPException(413, f"the body has more than the {self._limit} bytes that are taken")
        return message
