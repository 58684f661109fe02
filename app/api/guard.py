"""Around every request: an id, careful headers, a count, and one answer for whatever nobody foresaw."""

from __future__ import annotations

import logging
import time
import uuid

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import REQUEST_ID, internal
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
    """

    def __init__(self, inner: ASGIApp, traffic: Traffic) -> None:
        self._inner = inner
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        scope[REQUEST_ID] = uuid.uuid4().hex
        answering = _Answering(scope, send, self._traffic)
        try:
            await self._inner(scope, receive, answering.send)
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
        route = getattr(self._scope.get("route"), "path", None)
        self._traffic.count(self._scope["method"], route, status, time.perf_counter() - self._started)
