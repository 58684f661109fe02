"""What the commands share: exit codes, errors as a person reads them, options, and files read and written whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from app.core.files import write_atomically
from app.core.policies import find_policy
from app.core.render.visible import visible
from detectors.errors import InputError, ModelReferenceError, PolicyError, TouchstoneError
from detectors.report import READABLE, Policy, Report, Verdict

EXIT_OK, EXIT_VERDICT, EXIT_INPUT, EXIT_UNFINISHED, EXIT_RUNNING, EXIT_STOPPED = 0, 1, 2, 3, 4, 130

FAILS: dict[str, tuple[Verdict, ...]] = {
    "strong_evidence": ("strong_evidence",),
    "suspicious": ("strong_evidence", "suspicious"),
    "never": (),
}
"""What --fail-on takes, and the verdicts that it turns into exit code 1."""

MESSAGE_LIMIT = 2_000
"""Characters shown of an error message or a line of a log."""


class Failed(click.ClickException):
    """An error for the person who typed the command. The message may hold an attacker's text."""

    def __init__(self, message: str, exit_code: int, log: Sequence[str] = ()) -> None:
        super().__init__(visible(message, MESSAGE_LIMIT))
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance
        self.log = log

    def show(self, file: Any = None) -> None:
        """Writes the message, after the log where there is one."""
        for line in self.log:
            click.echo(f"  | {visible(line, MESSAGE_LIMIT)}", err=True)
        super().show(file)


def shown(text: str) -> str:
    """A text that was made visible already as it is, for again would spell out its marks; any other one visible."""
    return text if text.isprintable() and len(text) <= MESSAGE_LIMIT else visible(text, MESSAGE_LIMIT)


def shown_line(line: str) -> str:
    """A line of a document that a service rendered: as it is, unless a terminal would obey or hide some of it."""
    return line if line.replace("\t", "").isprintable() else visible(line, len(line))


verbose_option = click.option("-v", "--verbose", is_flag=True, help="Show the log of the scanning process.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
fail_on_option = click.option("--fail-on", default="suspicious", show_default=True, type=click.Choice(list(FAILS)))
out_option = click.option(
    "--out", type=click.Path(path_type=Path), help="Write it to this file instead of printing it."
)


def named_policy(given: str) -> Policy:
    """The policy of a name or a file."""
    try:
        return find_policy(given)
    except PolicyError as error:
        raise Failed(f"{error.code}: `--policy`: {error}", EXIT_INPUT) from None


policy_option = click.option(
    "--policy",
    default="default",
    show_default=True,
    callback=lambda context, parameter, given: named_policy(given),
    help="Decide under this policy: its name (default, strict) or its YAML file.",
)


def model_directory(path: Path, name: str) -> str:
    """The absolute path of a model, looked at before anything heavy starts."""
    if not path.is_dir():
        problem = "is not a directory" if path.exists() else "does not exist"
        raise Failed(
            f"{ModelReferenceError.code}: `{name}` must be a model's directory, got {path}, which {problem}", EXIT_INPUT
        )
    return str(path.absolute())


def load_report(file: Path) -> Report:
    """The report in a file."""
    data = read_file(file, "FILE")
    with suppress(ValueError, AttributeError):
        schema = json.loads(data).get("schema_version")
        if schema is not None and schema not in READABLE:
            raise Failed(f"{file} has report schema {schema}, this Touchstone reads {', '.join(READABLE)}", EXIT_INPUT)
    try:
        return Report.model_validate_json(data)
    except ValidationError as error:
        raise Failed(f"{file} must be a Touchstone report: {first_problem(error)}", EXIT_INPUT) from None


def read_file(file: Path, name: str) -> bytes:
    """What is in a file that the argument `name` names."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise Failed(f"`{name}` must be a readable file, got {file}: {error.strerror}", EXIT_INPUT) from None


def first_problem(error: ValidationError) -> str:
    """Where the first problem is and what it is, and how many follow."""
    problems = error.errors(include_url=False, include_context=False)
    place = ".".join(str(part) for part in problems[0]["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{f'at {place}: ' if place else ''}{problems[0]['msg']}{more}"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def verdict_exit_code(verdict: Verdict, fail_on: str) -> int:
    """What a pipeline is told of a verdict."""
    if verdict in FAILS[fail_on]:
        return EXIT_VERDICT
    return EXIT_UNFINISHED if verdict == "inconclusive" else EXIT_OK


@contextmanager
def explained() -> Iterator[None]:
    """An error of ours with its code, as a message and an exit code."""
    try:
        yield
    except TouchstoneError as error:
        raise Failed(
            f"{error.code}: {error}", EXIT_INPUT if isinstance(error, InputError) else EXIT_UNFINISHED
        ) from None


def deliver(document: str, out: Path | None) -> None:
    """Prints a document, or writes it whole."""
    if out is None:
        click.echo(document, nl=not document.endswith("\n"))
        return
    write_file(out, document)
    click.echo(f"written: {visible(str(out))}", err=True)


def write_file(path: Path, document: str) -> None:
    """Writes a document whole, or not at all."""
    try:
        write_atomically(path, document)
    except OSError as error:
        raise Failed(f"`--out` must be a writable file, got {path}: {error.strerror}", EXIT_INPUT) from None
