"""The real host's `main`, as a process: what it cannot do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.core.settings import host_environment
from tests.workers.conftest import StartHost, start_host
from workers.scan import PROJECT

SECRET = "hunter2-and-a-half"
LONG_S = 30.0


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a host says of its attempts."""
    directory = tmp_path_factory.mktemp("forbidden")
    (directory / "there").write_text("kept")
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as listening:
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        host = start_host("real")
        try:
            answer: dict[str, Any] = host._ask(op="try", chats=[listening.getsockname()[1], str(directory)])
            listening.setblocking(False)
            with pytest.raises(BlockingIOError):
                listening.accept()
            answer["isolation"] = host.isolation
            answer["directory"] = directory
        finally:
            host.end()
        answer["last_words"] = b"".join(host._last_words).decode()  # read by another thread, until the end
    return answer


def test_it_has_no_network(told: dict[str, Any]) -> None:
    assert told["trials"]["network"].startswith("refused")
    assert "no network" in told["isolation"]


def test_it_cannot_write_files(told: dict[str, Any]) -> None:
    assert told["trials"]["write"].startswith("refused")
    assert told["trials"]["append"].startswith("refused")
    assert "cannot write files" in told["isolation"]
    written = Path(told["directory"], "written")
    assert not written.exists() or written.read_bytes() == b""
    assert Path(told["directory"], "there").read_text() == "kept"


def test_it_has_nothing_of_its_parents_environment(told: dict[str, Any]) -> None:
    assert SECRET not in str(told["environment"])
    allowed = host_environment(str(PROJECT)).keys() | {"LC_CTYPE"}
    assert told["environment"].keys() <= allowed


def test_what_libraries_print_is_no_answer(told: dict[str, Any]) -> None:
    assert "a library prints" in told["last_words"]


def test_the_memory_limit_is_told(start: StartHost) -> None:
    assert "no core dumps" in start("real").isolation


def test_it_dies_with_its_parent() -> None:
    """The parent is killed, so it can end nothing itself."""
    code = (
        "import sys, time\n"
        "from tests.workers.conftest import start_host\n"
        "host = start_host('real')\nhost.greet()\n"
        "print(host._process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=PROJECT) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    deadline = time.monotonic() + LONG_S
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the host outlives its parent"
        time.sleep(0.05)


def test_it_dies_with_its_parent_while_it_computes() -> None:
    """A host that reads nothing sees no closed pipe; only the kernel can end it."""
    code = (
        "import os, signal, subprocess, sys, time\n"
        "from workers.isolation import isolate\n"
        "isolate(0)\n"
        "print(os.getpid(), flush=True)\n"
        "time.sleep(600)\n"
    )
    start = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {code!r}], start_new_session=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", start], stdout=subprocess.PIPE, cwd=PROJECT) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + LONG_S
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the host outlives its parent"
        time.sleep(0.05)


def test_a_memory_limit_holds() -> None:
    code = "from workers.isolation import isolate; print(isolate(2**28)); bytearray(2**29)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=False)
    assert "address space at most 256 MiB" in found.stdout
    assert found.returncode == 1
    assert "MemoryError" in found.stderr
