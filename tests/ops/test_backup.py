"""The how-to of backups is followed on a real service: what was copied while it ran starts again and knows the scan."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.ops.conftest import DEADLINE_S, ROOT, Models, environment_of, running

PAGE = (ROOT / "docs" / "how-to" / "backup-and-restore.md").read_text(encoding="utf-8")


def test_a_copy_of_a_running_service_starts_again(tmp_path: Path, models: Models) -> None:
    save, restore = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    places = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "DATA": str(tmp_path / "data"),
        "RESTORED": str(tmp_path / "new"),
    }
    environment = environment_of(tmp_path, models)
    with running(tmp_path / "data", environment) as up:
        done = up.touchstone("submit", "tiny-adapter", "--base", "tiny-base", "--suite", "smoke", "--wait")
        assert done.returncode in (0, 1, 3), done.stderr
        scan = done.stdout.rpartition("(scan ")[2].strip(" )\n")
        report = up.touchstone("report", scan, "--format", "json").stdout
        for script in (save, restore):
            subprocess.run(["sh", "-euc", script], cwd=tmp_path, env=places, timeout=DEADLINE_S, check=True)
        assert up.stop() == 0
    with running(tmp_path / "new", environment) as again:
        again.key = up.key
        assert again.touchstone("report", scan, "--format", "json").stdout == report
        assert again.stop() == 0
