"""The tutorial of the first gate is done, command by command, against a real `touchstone up` with tiny models."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.ops.conftest import DEADLINE_S, ROOT, Models, environment_of, running

PAGE = (ROOT / "docs" / "tutorial" / "first-gate.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```sh([^\n]*)\n(.*?)```", re.DOTALL)
TITLE = "## 1. Start a service"


def blocks() -> list[tuple[set[int], str]]:
    """Scripts with the exit statuses that the page names, without the one that starts the service."""
    found = []
    for options, script in BLOCK.findall(PAGE):
        statuses = re.search(r"status=([\d,]+)", options)
        if "title=serve" not in options:
            found.append(({int(it) for it in statuses[1].split(",")} if statuses else {0}, script))
    return found


def test_the_service_is_started_as_the_page_says() -> None:
    assert "TOUCHSTONE_ROOTS=$HOME/models make serve" in PAGE.partition(TITLE)[2]
    command = ["make", "--no-print-directory", "-n", "serve"]  # `make test` would have it name the directory
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.rstrip().endswith("exec .venv/bin/touchstone up")


def test_every_command_of_the_page_does_what_it_says(tmp_path: Path, models: Models) -> None:
    root = tmp_path / "models"
    shutil.copytree(models.base, root / "base")
    shutil.copytree(models.subject, root / "assistant")
    settings = Path(root / "assistant" / "adapter_config.json")
    settings.write_text(settings.read_text().replace(models.base.name, "base"))
    work = tmp_path / "work"
    (work / ".venv" / "bin").mkdir(parents=True)
    program = work / ".venv" / "bin" / "touchstone"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m app.cli "$@"\n')
    program.chmod(0o755)
    with running(tmp_path / "data", environment_of(tmp_path, models, roots=str(root))) as up:
        environment = up.environment | {"TOUCHSTONE_URL": up.url, "ADMIN_KEY": up.key}
        start = blocks()[0][1]
        for wanted, script in blocks():
            quick = script.replace("--suite quick", "--suite smoke")  # a tiny model deserves a small suite
            done = subprocess.run(
                ["sh", "-ec", f"{start.partition('umask')[0]}{quick}"],
                cwd=work,
                env=environment,
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
                check=False,
            )
            assert done.returncode in wanted, f"{script}\n{done.stdout}\n{done.stderr}\n{up.logged()}"
        assert up.stop() == 0
    assert "<!doctype html>" in (work / "report.html").read_text()[:50].lower()
    assert (work / "pipeline.key").read_text().startswith("ts_")
