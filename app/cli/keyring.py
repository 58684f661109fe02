"""Commands that make keys: those that sign reports, and those that a service lets in."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from app.cli.common import explained, json_option, shown
from app.cli.service import service, service_options
from app.client import KeyGiven
from app.core import signing
from app.core.render.visible import visible

SCOPES = ("scan:write", "report:read", "admin")
"""What a service's key may be for; `admin` implies the others."""

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Span(click.ParamType[timedelta]):
    """A length of time such as 90d, 12h, 30m or 45s."""

    name = "span"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """The length of time that was given."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d{1,6})([smhd])", value)
        if found is None:
            self.fail(f"{value!r} is not a length of time such as 90d, 12h, 30m or 45s", param, ctx)
        return timedelta(**{UNITS[found[2]]: int(found[1])})


@click.group()
def keys() -> None:
    """Make, list and end keys of a service; make a key that signs."""


@keys.command("signing-init")
@click.argument("file", type=click.Path(path_type=Path))
def signing_init(file: Path) -> None:
    """Make a key that signs: the private one in FILE, for its owner only, the public one beside it."""
    with explained():
        public = signing.create_key(file)
        identifier = signing.key_id(signing.load_public_key(public))
    click.echo(f"private  {visible(str(file))}\npublic   {visible(str(public))}\nkey id   {identifier}")


@keys.command("list")
@json_option
@service_options
def list_keys(as_json: bool, url: str | None, key_file: Path | None) -> None:
    """List a service's keys, the newest first; those that have ended too."""
    with service(url, key_file) as client:
        found = client.keys()
    if as_json:
        click.echo(json.dumps([key.model_dump(mode="json", exclude={"key"}) for key in found]))
        return
    for key in found:
        scopes = ", ".join(map(shown, key.scopes))
        click.echo(f"{shown(key.id)}  {shown(key.prefix)}  {_lives(key):<24}{scopes:<26}{shown(key.name)}")


@keys.command("create")
@click.argument("name")
@click.option("--scope", "scopes", required=True, multiple=True, type=click.Choice(SCOPES), help="May be given again.")
@click.option("--expires", type=Span(), metavar="AGE", help="How long it is valid, such as 90d.  [default: no limit]")
@service_options
def create_key(
    name: str, scopes: tuple[str, ...], expires: timedelta | None, url: str | None, key_file: Path | None
) -> None:
    """Make a key of a service; standard output is the key, which cannot be shown again."""
    ends = {} if expires is None else {"expires": (datetime.now(UTC) + expires).isoformat()}
    with service(url, key_file) as client:
        _tell_new(client.create_key({"name": name, "scopes": list(scopes)} | ends))


@keys.command("rotate")
@click.argument("key_id", metavar="ID")
@click.option("--grace", type=Span(), default="1d", show_default=True, help="How long the old key stays valid.")
@service_options
def rotate_key(key_id: str, grace: timedelta, url: str | None, key_file: Path | None) -> None:
    """Make a key with name, scopes and end of an old one; standard output is the new key."""
    with service(url, key_file) as client:
        _tell_new(client.rotate_key(key_id, int(grace.total_seconds())))


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@service_options
def revoke_key(key_id: str, url: str | None, key_file: Path | None) -> None:
    """End a key of a service now, and the share links that it made."""
    with service(url, key_file) as client:
        client.revoke_key(key_id)
    click.echo(f"key {shown(key_id)} is valid no more", err=True)


def _tell_new(key: KeyGiven) -> None:
    click.echo(shown(key.key or ""))
    click.echo(f"key {shown(key.id)} for {', '.join(map(shown, key.scopes))}, {_lives(key)}", err=True)


def _lives(key: KeyGiven) -> str:
    if key.revoked is not None:
        return f"revoked {key.revoked:%Y-%m-%d}"
    return f"until {key.expires:%Y-%m-%d %H:%M}" if key.expires else "without end"
