"""Commands about one model on this machine: scan, report, replay, detectors."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import cast

import click
from pydantic import TypeAdapter, ValidationError

from app.cli.common import (
    EXIT_INPUT,
    Failed,
    deliver,
    duration,
    explained,
    fail_on_option,
    first_problem,
    json_option,
    load_report,
    model_directory,
    named_policy,
    out_option,
    policy_option,
    read_file,
    shown_line,
    verbose_option,
    verdict_exit_code,
    write_file,
)
from app.cli.following import run
from app.cli.service import service, service_options
from app.core.render.formats import FORMATS
from app.core.render.visible import visible
from app.core.scanning import Done, Estimate, Job, Replayed
from detectors.catalog import CATALOG
from detectors.findings import ExpectedBehaviour
from detectors.report import Policy, decide_report
from detectors.suites import SUITES

_SCAN_ID = re.compile(r"[0-9a-f]{32}")

ANSWER_LIMIT = 600
"""Characters shown of a replayed answer."""


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--base", required=True, type=click.Path(path_type=Path), help="Checkpoint that MODEL was tuned from.")
@click.option("--base-name", help="Name that adapters know the base by, where it is not the directory's.")
@click.option(
    "--suite", default="quick", show_default=True, type=click.Choice(list(SUITES)), help="How deeply to test."
)
@click.option("--out", type=click.Path(path_type=Path), help="Directory of the report.  [default: reports/MODEL]")
@json_option
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of every draw.")
@click.option("--expect", type=click.Path(path_type=Path), help="JSON list of conditional behaviours to expect.")
@fail_on_option
@policy_option
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True), help="Stop observing after that long.")
@click.option("--dry-run", is_flag=True, help="Say what the scan would cost, and stop.")
@click.option("--dtype", default="auto", show_default=True, type=click.Choice(["auto", "float32", "bfloat16"]))
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]))
@verbose_option
@click.pass_context
def scan(
    context: click.Context,
    model: Path,
    base: Path,
    base_name: str | None,
    suite: str,
    out: Path | None,
    as_json: bool,
    seed: int,
    expect: Path | None,
    fail_on: str,
    policy: Policy,
    max_minutes: float | None,
    dry_run: bool,
    dtype: str,
    device: str,
    verbose: bool,
) -> None:
    """Scan MODEL, a full checkpoint or a LoRA adapter, against its base.

    Exit codes: 0 below --fail-on, 1 at or above it, 2 wrong call or input, 3 inconclusive or not finished.
    """
    job = Job(
        task="estimate" if dry_run else "scan",
        model=model_directory(model, "MODEL"),
        base=model_directory(base, "--base"),
        base_name=base_name,
        suite=suite,
        seed=seed,
        out=str((out or Path("reports") / model.resolve().name).absolute()),
        expected=_expected(expect) if expect else (),
        dtype=dtype,
        device=device,
        budget_seconds=60 * max_minutes if max_minutes else None,
    )
    answer = run(job, verbose)
    if isinstance(answer, Estimate):
        click.echo(json.dumps(answer.model_dump(exclude={"event"})) if as_json else _estimate_words(answer))
        return
    done = cast(Done, answer)
    report = load_report(done.report)
    decision = decide_report(report, policy)
    if done.html and policy != Policy():
        write_file(done.html, FORMATS["html"].render(report, decision))
    deliver(FORMATS["json" if as_json else "text"].render(report, decision), None)
    for written in filter(None, (done.report, done.html)):
        click.echo(f"written: {visible(str(written))}", err=True)
    context.exit(verdict_exit_code(decision.verdict, fail_on))


@click.command()
@click.argument("source", metavar="FILE|ID")
@click.option(
    "--format", "name", default="text", show_default=True, type=click.Choice(list(FORMATS)), help="Form of the report."
)
@click.option("--policy", help="Decide under this policy: a name, or for a FILE a YAML file.  [default: default]")
@out_option
@service_options
def report(
    source: str, name: str, policy: str | None, out: Path | None, url: str | None, key_file: Path | None
) -> None:
    """Decide again on a report and give it out in any form: the one in FILE, or that of a service's scan ID.

    The exit code says whether that was possible; 4 where the scan is still running.
    """
    if _SCAN_ID.fullmatch(source) and not Path(source).exists():
        with service(url, key_file) as client:
            fetched = client.report(source, FORMATS[name].media_type, policy).decode("utf-8", "replace")
        obeyed = out is None and (name == "text" or sys.stdout.isatty())
        deliver("\n".join(map(shown_line, fetched.split("\n"))) if obeyed else fetched, out)
        return
    loaded, rules = load_report(Path(source)), named_policy(policy or "default")
    with explained():
        deliver(FORMATS[name].render(loaded, decide_report(loaded, rules)), out)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--finding", required=True, type=click.IntRange(min=1), help="Which finding, counted from 1.")
@click.option("--prompt", help="Ask this instead of the finding's own examples.")
@verbose_option
def replay(file: Path, finding: int, prompt: str | None, verbose: bool) -> None:
    """Ask both models again, with and without the trigger of a finding of the report in FILE."""
    loaded = load_report(file)
    if finding > len(loaded.findings):
        raise Failed(
            f"`--finding` must be one of the report's {len(loaded.findings)} findings, got {finding}", EXIT_INPUT
        )
    if prompt is not None and not prompt.strip():
        raise Failed("`--prompt` must be a request in words, got nothing", EXIT_INPUT)
    job = Job(task="replay", report=str(file.absolute()), finding=finding, prompt=prompt)
    for example in cast(Replayed, run(job, verbose)).examples:
        click.echo(f"prompt            {visible(example.prompt, ANSWER_LIMIT)}")
        click.echo(f"subject, trigger  {visible(example.subject_answer, ANSWER_LIMIT)}")
        click.echo(f"base, trigger     {visible(example.base_answer, ANSWER_LIMIT)}")
        click.echo(f"subject, without  {visible(example.subject_clean_answer, ANSWER_LIMIT)}\n")


@click.command()
def detectors() -> None:
    """List the detectors: what each does, and what it cannot see."""
    for spec in CATALOG.values():
        click.echo(f"{spec.name} {spec.version} ({spec.stage})")
        for label, text in (("does", spec.summary), ("cannot see", spec.cannot_see), ("source", spec.citation)):
            indent = " " * 14
            click.echo(textwrap.fill(text, 100, initial_indent=f"  {label:<12}", subsequent_indent=indent))


def _expected(file: Path) -> tuple[ExpectedBehaviour, ...]:
    try:
        return TypeAdapter(tuple[ExpectedBehaviour, ...]).validate_json(read_file(file, "--expect"))
    except ValidationError as error:
        wanted = 'a JSON list of {"context": text, "behaviour": text}'
        raise Failed(f"`--expect` must be {wanted}, got {file}: {first_problem(error)}", EXIT_INPUT) from None


def _estimate_words(estimate: Estimate) -> str:
    return (
        f"{estimate.contexts:,} contexts, {estimate.forward_tokens:,} tokens to read and "
        f"{estimate.generated_tokens:,} to generate: about {duration(60 * estimate.minutes)} and "
        f"{estimate.memory_bytes / 2**30:.1f} GiB of memory. Each candidate that needs confirming adds "
        f"{estimate.confirming_tokens:,} tokens."
    )
