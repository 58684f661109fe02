"""Hosts between scans: a base's host stays warm for the next scan of the same base, a subject's dies with its scan."""

from __future__ import annotations

from collections.abc import Callable

from detectors.engine.observations import Role
from workers.hosts import Host, HostSpec
from workers.scan import start_host


class WarmBase:
    """At most one host of a base that no scan uses right now."""

    def __init__(self) -> None:
        self._kept: tuple[HostSpec, Host] | None = None
        self._specs: dict[int, HostSpec] = {}

    def start(self, spec: HostSpec, role: Role, watch: Callable[[], None]) -> Host:
        """The warm host, where it is one of this; else a fresh one."""
        if role == "base" and self._kept and self._kept[0] == spec:
            host = self._kept[1]
            host.watch_with(watch)
            self._kept = None
        else:
            if role == "base":
                self.end()
            host = start_host(spec, watch)
        self._specs[id(host)] = spec
        return host

    def give_back(self, role: Role, host: Host) -> None:
        """Keeps a base's host, ends a subject's."""
        spec = self._specs.pop(id(host))
        if role == "subject":
            host.end()
            return
        self.end()
        self._kept = spec, host

    def end(self) -> None:
        """Ends the host that is kept."""
        if self._kept:
            self._kept[1].end()
            self._kept = None
