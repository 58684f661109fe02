"""What holds for every test: no network but the loopback, nothing looked up on a hub, no flaky time limits."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports transformers
os.environ["TOKENIZERS_PARALLELISM"] = "false"

settings.register_profile("touchstone", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("touchstone")


@pytest.fixture(scope="session", autouse=True)
def loopback_only() -> Iterator[None]:
    """Connecting anywhere but to this machine is an error."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise AssertionError(f"a test must stay on this machine, it tried to connect to {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
