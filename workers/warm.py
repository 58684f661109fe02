"""Hosts between scans: a base's host stays warm for the next scan of the same base, a subject's dies with its scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from detectors.engine.observations import Role
from workers.hosts import Host, HostSpec
from workers.scan import start_host


@dataclass(frozen=True)
class Loaded:
    """What a host holds: `content` as well, since other files may come to lie in the same directory."""

    spec: HostSpec
    content: str


class WarmBase:
    """At most one host of a base that no scan uses right now."""

    def __init__(self) -> None:
        self._kept: tuple[Loaded, Host] | None = None

    def keep_only(self, wanted: Loaded | None) -> None:
        """Ends the kept host unless it is the wanted one: a scan begins, and memory is for its own models."""
        if self._kept and (self._kept[0] != wanted or not self._kept[1].sound):
            self.end()

    def start(self, wanted: Loaded, role: Role, watch: Callable[[], None]) -> Host:
        """The warm host, where it is one of this; else a fresh one."""
        if role == "base" and self._kept and self._kept[0] == wanted:
            host = self._kept[1]
            self._kept = None
            host.watch_with(watch)
            return host
        return start_host(wanted.spec, watch)

    def give_back(self, loaded: Loaded, role: Role, host: Host) -> None:
        """Keeps a base's sound host, ends any other."""
        if role == "subject" or not host.sound:
            host.end()
            return
        self.end()
        self._kept = loaded, host

    def end(self) -> None:
        """Ends the host that is kept."""
        if self._kept:
            self._kept[1].end()
            self._kept = None
