"""What the API's image does, done without an engine, in a fresh environment. Minutes long: `make check-docker`."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from tests.ops.test_docker import DOCKER, ROOT, arguments

pytestmark = [pytest.mark.slow, pytest.mark.images]

INSTALL_S, START_S = 1200, 120


def environment_of(root: Path, binaries: Path) -> dict[str, str]:
    """Of the API's image, on SQLite instead of PostgreSQL."""
    places = {"TOUCHSTONE_DATA_DIR": str(root / "data"), "TOUCHSTONE_CACHE_DIR": str(root / "cache")}
    return places | {"PATH": f"{binaries}:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of programs that the API's build stage leaves: its RUN line, in a copy of what is copied there."""
    root = tmp_path_factory.mktemp("image")
    names = [name for line in arguments(DOCKER / "api.Dockerfile", "COPY") for name in line.split()[:-1]]
    tracked = [name for name in names if not name.startswith(("--from", "/"))]
    (root / "source").mkdir()
    archive = subprocess.run(["git", "ls-files", "-z", *tracked], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(
        ["cp", "--parents", *filter(None, archive.decode().split("\0")), root / "source"], cwd=ROOT, check=True
    )
    (run,) = [line for line in arguments(DOCKER / "api.Dockerfile", "RUN") if "pip install" in line]
    script = run.replace("/opt/touchstone", str(root / "venv")).replace("python -m venv", f"{sys.executable} -m venv")
    done = subprocess.run(
        ["sh", "-ec", script], cwd=root / "source", capture_output=True, text=True, timeout=INSTALL_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return root / "venv" / "bin"


def test_the_api_starts_without_torch(built: Path, tmp_path: Path) -> None:
    environment = environment_of(tmp_path, built)
    for package in ("torch", "transformers", "peft", "safetensors"):
        probe = subprocess.run(
            [built / "python", "-c", f"import {package}"], cwd=tmp_path, capture_output=True, text=True
        )
        assert "ModuleNotFoundError" in probe.stderr
    migrated = subprocess.run(
        [built / "touchstone", "migrate"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=START_S,
    )
    assert migrated.returncode == 0, migrated.stderr
    assert re.search(r"^first admin key, shown this once: ts_", migrated.stdout)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    (command,) = arguments(DOCKER / "api.Dockerfile", "CMD")
    program, *options = [port if part == "8765" else part for part in json.loads(command)]
    with (tmp_path / "log").open("w") as log:
        api = subprocess.Popen([built / program, *options], cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            assert answers(f"http://127.0.0.1:{port}/livez", api), (tmp_path / "log").read_text()
            assert httpx2.get(f"http://127.0.0.1:{port}/v1/scans").status_code == 401
        finally:
            api.terminate()
            assert api.wait(START_S) == -signal.SIGTERM  # uvicorn ends by the signal once it has shut down
    assert "Application shutdown complete" in (tmp_path / "log").read_text()


def answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return httpx2.get(url, timeout=5).is_success
        except httpx2.HTTPError:
            time.sleep(0.1)
    return False
