"""The command that is a service."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import click

from app.cli.common import EXIT_INPUT, MESSAGE_LIMIT, Failed, explained
from app.core.render.visible import visible
from app.core.settings import Settings


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 takes a free one."
)
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Database and reports.  [default: TOUCHSTONE_DATA_DIR]"
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Scans at the same time.")
def up(host: str, port: int, data_dir: Path | None, workers: int) -> None:
    """Run the whole service on this machine: API, workers, ticker and an embedded Valkey.

    Prints its address and, the first time, a key for its administrator. Ctrl-C or SIGTERM stop it.
    """
    settings = Settings() if data_dir is None else Settings(data_dir=data_dir.absolute())
    service = _service()
    with explained():
        service.serve(settings, service.Place(host, port), workers, _say, _log)


@click.command()
def migrate() -> None:
    """Make or upgrade the tables of the database that TOUCHSTONE_DATABASE_URL names; `up` does so by itself.

    Prints, the first time, a key for the service's administrator.
    """
    with explained():
        _service().prepare(Settings(), _say)


def _service() -> ModuleType:
    """What runs a service; a machine that only scans or asks has not its packages."""
    try:
        return import_module("app.up")
    except ModuleNotFoundError as missing:
        raise Failed(
            f"this needs the package {missing.name}: install Touchstone with its extras engine and service", EXIT_INPUT
        ) from None


def _say(line: str) -> None:
    click.echo(visible(line, MESSAGE_LIMIT))


def _log(line: str) -> None:
    click.echo(line, err=True)
