"""The `touchstone` command: reads arguments, shows progress, and turns the outcome into an exit code to trust.

    0  the verdict is below --fail-on
    1  the verdict is at or above --fail-on, or the gate is closed by a verdict
    2  the call or its input is wrong, or the service does not accept the key
    3  inconclusive, or the scan could not be finished, or no answer, or a statement does not prove what was asked
    4  the scan was still running when the wait ended
    130  stopped by Ctrl-C or SIGTERM

Nothing but a verdict ever exits with 1. Standard output carries the result, everything else goes to standard error.
`scans`, `calibrating`, `attesting` and `checkup` work on this machine alone; `service` and `keyring` ask a service,
`serving` is one.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import click

from app.cli.attesting import sign, verify
from app.cli.calibrating import calibrate
from app.cli.checkup import doctor
from app.cli.common import EXIT_STOPPED, EXIT_UNFINISHED, Failed
from app.cli.keyring import keys
from app.cli.scans import detectors, replay, report, scan
from app.cli.service import cancel, gate, submit, wait
from app.cli.serving import migrate, up
from app.core.scanning import PROJECT


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command and exits with its code; a defect of our own exits with 3, never with a verdict's code."""
    try:
        _require_own_packages()
        code = touchstone.main(arguments, prog_name="touchstone", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = EXIT_STOPPED
    except Exception:  # the last net: Python would exit with 1, which means a verdict here
        traceback.print_exc()
        code = EXIT_UNFINISHED
    sys.exit(code)


def _require_own_packages() -> None:
    """`detectors` and `workers` exist as packages of other people; theirs must never be run in place of ours."""
    for name in ("detectors", "workers"):
        spec = find_spec(name)
        if spec is None or spec.origin is None or not Path(spec.origin).resolve().is_relative_to(PROJECT):
            where = spec.origin if spec else "nowhere"
            raise Failed(f"package `{name}` must be Touchstone's own, below {PROJECT}, found {where}", EXIT_UNFINISHED)


@click.group()
@click.version_option(package_name="touchstone", prog_name="touchstone")
def touchstone() -> None:
    """Scan a fine-tuned language model against its base for backdoors."""


_LOCAL = (scan, report, sign, verify, replay, calibrate, detectors, doctor)
_SERVICE = (up, migrate, submit, wait, gate, cancel, keys)
for _command in (*_LOCAL, *_SERVICE):
    touchstone.add_command(_command)
