"""Commands that ask a service: submit, wait, gate, cancel; and how it is reached."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.text import Text

from app.cli.common import (
    EXIT_INPUT,
    EXIT_RUNNING,
    EXIT_UNFINISHED,
    Failed,
    duration,
    fail_on_option,
    json_option,
    read_file,
    shown,
    verdict_exit_code,
)
from app.client import CallRefused, Client, ScanStatus
from app.core.render.words import VERDICT_WORDS
from app.core.settings import Settings
from app.gate_client import NoAnswer, understood
from detectors.errors import ServiceUnreachable

_url_option = click.option("--url", help="Address of the service.  [default: TOUCHSTONE_URL]")
_key_file_option = click.option(
    "--key-file", type=click.Path(path_type=Path), help="File with the API key.  [default: the key in TOUCHSTONE_KEY]"
)
_timeout_option = click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer than that.  [default: no limit]"
)


def service_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say which service is asked, and with which key; never the key itself, which others could read."""
    return _url_option(_key_file_option(command))


@contextmanager
def service(url: str | None, key_file: Path | None) -> Iterator[Client]:
    """The service that the options or the settings name; its refusals become messages and exit codes."""
    settings = Settings()
    with Client(_address(url or settings.url), _key(settings, key_file)) as client:
        try:
            yield client
        except CallRefused as refused:
            raise Failed(f"{refused.code}: {refused}", refused.exit_code) from None
        except ServiceUnreachable as error:
            raise Failed(f"{error.code}: {error}", EXIT_UNFINISHED) from None


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
    except ValueError:
        fine = False
    if not fine:
        raise Failed(f"`--url` must be an address such as https://touchstone.example, got {url}", EXIT_INPUT)
    return url


def _key(settings: Settings, key_file: Path | None) -> str:
    if key_file is not None:
        key = read_file(key_file, "--key-file").decode("utf-8", "replace").strip()
    else:
        key = settings.key.get_secret_value() if settings.key else ""
    if not key or not all("!" <= letter <= "~" for letter in key):
        wanted = "one line of letters and signs"
        found = "none" if not key else "something else"
        raise Failed(
            f"the service wants an API key: {wanted} in `--key-file FILE` or TOUCHSTONE_KEY, got {found}", EXIT_INPUT
        )
    return key


@click.command()
@click.argument("model")
@click.option("--base", help="Reference of the base.  [default: what the model says it was tuned from]")
@click.option("--suite", help="How deeply to test.  [default: the service's]")
@click.option("--policy", help="Name of a policy of the service.  [default: the service's]")
@click.option("--label", "labels", multiple=True, help="A label to find the scan by; may be given again.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of every draw.  [default: the service's]")
@click.option("--wait", "waits", is_flag=True, help="Wait for the verdict.")
@_timeout_option
@fail_on_option
@json_option
@service_options
@click.pass_context
def submit(
    context: click.Context,
    model: str,
    base: str | None,
    suite: str | None,
    policy: str | None,
    labels: tuple[str, ...],
    seed: int | None,
    waits: bool,
    timeout: float | None,
    fail_on: str,
    as_json: bool,
    url: str | None,
    key_file: Path | None,
) -> None:
    """Ask a service to scan MODEL, a reference as the service reads it; prints the scan's id.

    Exit codes with --wait: 0 below --fail-on, 1 at or above it, 3 inconclusive or not finished, 4 still running when
    --timeout was over. 2 wherever the call or the key is wrong.
    """
    wish = {"model": model, "base": base, "suite": suite, "policy": policy, "labels": list(labels), "seed": seed}
    with service(url, key_file) as client:
        status = client.submit({name: value for name, value in wish.items() if value is not None})
        if waits:
            click.echo(f"scan {shown(status.id)}", err=True)
            status = _followed(client, status.id, timeout)
    if waits:
        context.exit(_tell_end(status, fail_on, as_json))
    click.echo(status.model_dump_json() if as_json else shown(status.id))


@click.command()
@click.argument("scan_id", metavar="ID")
@_timeout_option
@fail_on_option
@json_option
@service_options
@click.pass_context
def wait(
    context: click.Context,
    scan_id: str,
    timeout: float | None,
    fail_on: str,
    as_json: bool,
    url: str | None,
    key_file: Path | None,
) -> None:
    """Wait until a service's scan has ended.

    Exit codes: 0 below --fail-on, 1 at or above it, 2 wrong call or key, 3 inconclusive, failed, or no answer, 4 still
    running when --timeout was over.
    """
    with service(url, key_file) as client:
        status = _followed(client, scan_id, timeout)
    context.exit(_tell_end(status, fail_on, as_json))


@click.command()
@click.argument("model")
@click.option("--base", help="Reference of the base that the model must have been compared with.")
@click.option("--policy", help="Name of the policy to decide under.  [default: the service's]")
@click.option("--max-age", metavar="AGE", help="How old the report may be, such as 30d or 12h.")
@json_option
@service_options
@click.pass_context
def gate(
    context: click.Context,
    model: str,
    base: str | None,
    policy: str | None,
    max_age: str | None,
    as_json: bool,
    url: str | None,
    key_file: Path | None,
) -> None:
    """Ask a service whether MODEL may pass, on the strength of a report it has.

    Exit codes: 0 allowed, 1 not allowed by the verdict, 2 wrong call or key, 3 not allowed for want of a valid report,
    or no answer, 4 not allowed while the scan is still running.
    """
    with service(url, key_file) as client:
        body = client.gate(model, base, policy, max_age)
    try:
        answer = understood(body)
    except NoAnswer as error:
        raise Failed(f"{ServiceUnreachable.code}: {error}", EXIT_UNFINISHED) from None
    if as_json:
        click.echo(json.dumps(json.loads(body)))
    else:
        click.echo(f"{'allowed' if answer.allow else 'not allowed'}: {shown(answer.reason)}")
        for name, value in (("verdict", answer.verdict), ("scan", answer.scan_id), ("files", answer.digest)):
            click.echo(f"{name:<8} {value or 'none'}")
    context.exit(answer.exit_code)


@click.command()
@click.argument("scan_id", metavar="ID")
@service_options
def cancel(scan_id: str, url: str | None, key_file: Path | None) -> None:
    """Ask a service to end a scan. The exit code says whether it will."""
    with service(url, key_file) as client:
        client.cancel(scan_id)
    click.echo(f"scan {shown(scan_id)} is being cancelled", err=True)


def _followed(client: Client, scan_id: str, timeout: float | None) -> ScanStatus:
    """How a scan stands at its end or after `timeout` seconds, with its progress on the way."""
    until = time.monotonic() + (float("inf") if timeout is None else timeout)
    console = Console(stderr=True)
    if not console.is_terminal:
        return client.follow(scan_id, until, _Changes().tell)
    with console.status("") as line:
        return client.follow(scan_id, until, lambda status: line.update(_progress(status)))


class _Changes:
    """Tells a log of a scan's states, each once."""

    def __init__(self) -> None:
        self._told = ""

    def tell(self, status: ScanStatus) -> None:
        words = f"{status.state} {status.progress.phase}".strip()
        if words != self._told:
            self._told = words
            click.echo(shown(words), err=True)


def _progress(status: ScanStatus) -> Text:
    """One line; a `Text`, for markup in what the service says would be obeyed."""
    words = [status.state, status.progress.phase]
    if status.progress.total > 0:
        words.append(f"{min(1.0, status.progress.done / status.progress.total):.0%}")
    if status.progress.eta_s is not None:
        words.append(f"about {duration(status.progress.eta_s)} left")
    return Text(" ".join(shown(word) for word in words if word))


def _tell_end(status: ScanStatus, fail_on: str, as_json: bool) -> int:
    """Says how a scan stands; the exit code."""
    if as_json:
        click.echo(status.model_dump_json())
    else:
        click.echo(f"{_headline(status)}  (scan {shown(status.id)})")
    if not status.ended:
        return EXIT_RUNNING
    if status.state != "succeeded" or status.verdict is None:
        return EXIT_UNFINISHED
    return verdict_exit_code(status.verdict, fail_on)


def _headline(status: ScanStatus) -> str:
    if not status.ended:
        return f"STILL {shown(status.state).upper()}"
    if status.state == "succeeded" and status.verdict is not None:
        return VERDICT_WORDS[status.verdict].headline.upper()
    reason = f": {shown(status.error.code)}: {shown(status.error.message)}" if status.error else ""
    return f"{shown(status.state).upper()}{reason}"
