"""Commands that make keys: those that sign reports, and those that a service lets in."""

from __future__ import annotations

from pathlib import Path

import click

from app.cli.common import explained
from app.core import signing
from app.core.render.visible import visible

SCOPES = ("scan:write", "report:read", "admin")


@click.group()
def keys() -> None:
    """Make, list and end keys: of a service, and for signatures."""


@keys.command("signing-init")
@click.argument("file", type=click.Path(path_type=Path))
def signing_init(file: Path) -> None:
    """Make a key that signs: the private one in FILE, for its owner only, the public one beside it."""
    with explained():
        public = signing.create_key(file)
        identifier = signing.key_id(signing.load_public_key(public))
    click.echo(f"private  {visible(str(file))}\npublic   {visible(str(public))}\nkey id   {identifier}")
