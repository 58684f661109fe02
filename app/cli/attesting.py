"""Commands that sign what a report attests, and verify it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import click

from app.cli.common import (
    EXIT_INPUT,
    Failed,
    deliver,
    explained,
    fail_on_option,
    json_option,
    load_report,
    model_directory,
    out_option,
    policy_option,
    read_file,
    shown,
    verbose_option,
    verdict_exit_code,
)
from app.cli.following import run
from app.core import signing
from app.core.render.statement import ResourceDescriptor, Statement, build_statement
from app.core.render.words import VERDICT_WORDS
from app.core.scanning import Digested, Job
from detectors.report import Policy, decide_report


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key", required=True, type=click.Path(path_type=Path), help="Private key that signs, in PEM.")
@policy_option
@out_option
def sign(file: Path, key: Path, policy: Policy, out: Path | None) -> None:
    """Decide again on the report in FILE and sign what it attests. The exit code says whether that was possible."""
    loaded = load_report(file)
    with explained():
        statement = build_statement(loaded, decide_report(loaded, policy))
        deliver(signing.sign(statement, signing.load_private_key(key)), out)


@click.command()
@click.argument("envelope", type=click.Path(path_type=Path))
@click.option(
    "--key", "keys", required=True, multiple=True, type=click.Path(path_type=Path), help="Public key that is trusted."
)
@click.option("--digest", help="SHA-256 of the model that the statement must be about, of its files or its content.")
@click.option("--model", type=click.Path(path_type=Path), help="The same, computed from the files of this directory.")
@fail_on_option
@json_option
@verbose_option
@click.pass_context
def verify(
    context: click.Context,
    envelope: Path,
    keys: tuple[Path, ...],
    digest: str | None,
    model: Path | None,
    fail_on: str,
    as_json: bool,
    verbose: bool,
) -> None:
    """Check the signed statement in ENVELOPE and show what it attests.

    Exit codes: 0 attested and below --fail-on, 1 attested and at or above it, 2 wrong call or input, 3 the signature
    does not hold, the statement is about another model, or the attested scan was inconclusive.
    """
    if digest is not None and model is not None:
        raise Failed("`--digest` and `--model` both name the model; give one of them", EXIT_INPUT)
    data = read_file(envelope, "ENVELOPE")
    with explained():
        verified = signing.verify(data, [signing.load_public_key(key) for key in keys])
        if model is not None:
            job = Job(task="digest", model=model_directory(model, "--model"))
            digest = cast(Digested, run(job, verbose)).file_digest
        if digest is not None:
            signing.require_subject(verified.statement, digest)
    _print_attested(verified, digest, as_json)
    context.exit(verdict_exit_code(verified.statement.verdict, fail_on))


def _print_attested(verified: signing.Verified, digest: str | None, as_json: bool) -> None:
    statement = verified.statement
    if as_json:
        document = json.loads(statement.model_dump_json(by_alias=True))
        click.echo(json.dumps({"verdict": statement.verdict, "key_id": verified.key_id, "statement": document}))
    else:
        click.echo("\n".join(_attested_words(statement, verified.key_id)))
    if digest is None:
        click.echo("no model was given: compare the digest, or give --digest or --model", err=True)


def _attested_words(statement: Statement, key: str) -> Iterator[str]:
    """What a statement attests. Its texts were made visible before they were signed."""
    yield f"{VERDICT_WORDS[statement.verdict].headline.upper()}  (in-toto result {statement.predicate.result})"
    for name in ("reason", "policy", "suite", "created"):
        yield f"{name:<9}{shown(str(statement.scan.get(name, 'not stated')))}"
    yield from (_descriptor_words("subject", it) for it in statement.subject)
    yield from (_descriptor_words("tested", it) for it in statement.predicate.configuration)
    yield f"signed   by key {key}"


def _descriptor_words(role: str, descriptor: ResourceDescriptor) -> str:
    digests = ", ".join(f"{name}:{value}" for name, value in descriptor.digest.items())
    return f"{role:<9}{shown(digests)}  {shown(descriptor.name)}"
