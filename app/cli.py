"""The `touchstone` command.

Scans run in a child process (`app.core.scanning`); this module reads arguments, shows progress, and turns the outcome
into an exit code that a pipeline can trust:

    0  the verdict is below --fail-on
    1  the verdict is at or above --fail-on
    2  the call or its input is wrong
    3  inconclusive, or the scan could not be finished, or a signed statement does not prove what was asked
    130  stopped by Ctrl-C or SIGTERM

Nothing but a verdict ever exits with 1. Standard output carries the result, everything else goes to standard error.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import click
import psutil
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as ProgressBar

from app.core import signing
from app.core.files import write_atomically
from app.core.policies import find_policy
from app.core.render.formats import FORMATS
from app.core.render.statement import ResourceDescriptor, Statement, build_statement
from app.core.render.visible import visible
from app.core.render.words import VERDICT_WORDS
from app.core.scanning import (
    PROJECT,
    Answer,
    Diagnosis,
    Digested,
    Done,
    Estimate,
    Event,
    Job,
    JobFailed,
    Phase,
    Progress,
    Replayed,
    run_job,
)
from app.core.settings import Settings
from detectors.catalog import CATALOG
from detectors.errors import InputError, ModelReferenceError, PolicyError, TouchstoneError
from detectors.findings import ExpectedBehaviour
from detectors.report import SCHEMA_VERSION, Policy, Report, Verdict, decide_report
from detectors.suites import SUITES

EXIT_OK, EXIT_VERDICT, EXIT_INPUT, EXIT_UNFINISHED, EXIT_STOPPED = 0, 1, 2, 3, 130

FAILS: dict[str, tuple[Verdict, ...]] = {
    "strong_evidence": ("strong_evidence",),
    "suspicious": ("strong_evidence", "suspicious"),
    "never": (),
}
"""What --fail-on takes, and the verdicts that it turns into exit code 1."""

MESSAGE_LIMIT = 2_000
"""Characters shown of an error message or a line of a log."""

ANSWER_LIMIT = 600
"""Characters shown of a replayed answer."""


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


_verbose = click.option("-v", "--verbose", is_flag=True, help="Show the log of the scanning process.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
_fail_on = click.option("--fail-on", default="suspicious", show_default=True, type=click.Choice(list(FAILS)))
_out = click.option("--out", type=click.Path(path_type=Path), help="Write it to this file instead of printing it.")


def _find_policy(context: click.Context, parameter: click.Parameter, given: str) -> Policy:
    try:
        return find_policy(given)
    except PolicyError as error:
        raise Failed(f"{error.code}: `--policy`: {error}", EXIT_INPUT) from None


_policy = click.option(
    "--policy",
    default="default",
    show_default=True,
    callback=_find_policy,
    help="Decide under this policy: its name (default, strict) or its YAML file.",
)


@touchstone.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--base", required=True, type=click.Path(path_type=Path), help="Checkpoint that MODEL was tuned from.")
@click.option("--base-name", help="Name that adapters know the base by, where it is not the directory's.")
@click.option(
    "--suite", default="quick", show_default=True, type=click.Choice(list(SUITES)), help="How deeply to test."
)
@click.option("--out", type=click.Path(path_type=Path), help="Directory of the report.  [default: reports/MODEL]")
@_json
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of every draw.")
@click.option("--expect", type=click.Path(path_type=Path), help="JSON list of conditional behaviours to expect.")
@_fail_on
@_policy
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True), help="Stop observing after that long.")
@click.option("--dry-run", is_flag=True, help="Say what the scan would cost, and stop.")
@click.option("--dtype", default="auto", show_default=True, type=click.Choice(["auto", "float32", "bfloat16"]))
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]))
@_verbose
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
        model=_directory(model, "MODEL"),
        base=_directory(base, "--base"),
        base_name=base_name,
        suite=suite,
        seed=seed,
        out=str((out or Path("reports") / model.resolve().name).absolute()),
        expected=_expected(expect) if expect else (),
        dtype=dtype,
        device=device,
        budget_seconds=60 * max_minutes if max_minutes else None,
    )
    answer = _run(job, verbose)
    if isinstance(answer, Estimate):
        click.echo(json.dumps(answer.model_dump(exclude={"event"})) if as_json else _estimate_words(answer))
        return
    done = cast(Done, answer)
    report = _load_report(done.report)
    decision = decide_report(report, policy)
    if done.html and policy != Policy():
        _write(done.html, FORMATS["html"].render(report, decision))
    _deliver(FORMATS["json" if as_json else "text"].render(report, decision), None)
    for written in filter(None, (done.report, done.html)):
        click.echo(f"written: {visible(str(written))}", err=True)
    context.exit(_exit_code(decision.verdict, fail_on))


@touchstone.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format", "name", default="text", show_default=True, type=click.Choice(list(FORMATS)), help="Form of the report."
)
@_policy
@_out
def report(file: Path, name: str, policy: Policy, out: Path | None) -> None:
    """Decide again on the report in FILE and give it out in any form. The exit code says whether that was possible."""
    loaded = _load_report(file)
    with _explained():
        _deliver(FORMATS[name].render(loaded, decide_report(loaded, policy)), out)


@touchstone.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key", required=True, type=click.Path(path_type=Path), help="Private key that signs, in PEM.")
@_policy
@_out
def sign(file: Path, key: Path, policy: Policy, out: Path | None) -> None:
    """Decide again on the report in FILE and sign what it attests. The exit code says whether that was possible."""
    loaded = _load_report(file)
    with _explained():
        statement = build_statement(loaded, decide_report(loaded, policy))
        _deliver(signing.sign(statement, signing.load_private_key(key)), out)


@touchstone.command()
@click.argument("envelope", type=click.Path(path_type=Path))
@click.option(
    "--key", "keys", required=True, multiple=True, type=click.Path(path_type=Path), help="Public key that is trusted."
)
@click.option("--digest", help="SHA-256 of the model that the statement must be about, of its files or its content.")
@click.option("--model", type=click.Path(path_type=Path), help="The same, computed from the files of this directory.")
@_fail_on
@_json
@_verbose
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
    data = _read(envelope, "ENVELOPE")
    with _explained():
        verified = signing.verify(data, [signing.load_public_key(key) for key in keys])
        if model is not None:
            job = Job(task="digest", model=_directory(model, "--model"))
            digest = cast(Digested, _run(job, verbose)).file_digest
        if digest is not None:
            signing.require_subject(verified.statement, digest)
    _print_attested(verified, digest, as_json)
    context.exit(_exit_code(verified.statement.verdict, fail_on))


@touchstone.group()
def keys() -> None:
    """Make keys."""


@keys.command("signing-init")
@click.argument("file", type=click.Path(path_type=Path))
def signing_init(file: Path) -> None:
    """Make a key that signs: the private one in FILE, for its owner only, the public one beside it."""
    with _explained():
        public = signing.create_key(file)
        identifier = signing.key_id(signing.load_public_key(public))
    click.echo(f"private  {visible(str(file))}\npublic   {visible(str(public))}\nkey id   {identifier}")


@touchstone.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--finding", required=True, type=click.IntRange(min=1), help="Which finding, counted from 1.")
@click.option("--prompt", help="Ask this instead of the finding's own examples.")
@_verbose
def replay(file: Path, finding: int, prompt: str | None, verbose: bool) -> None:
    """Ask both models again, with and without the trigger of a finding of the report in FILE."""
    loaded = _load_report(file)
    if finding > len(loaded.findings):
        raise Failed(
            f"`--finding` must be one of the report's {len(loaded.findings)} findings, got {finding}", EXIT_INPUT
        )
    if prompt is not None and not prompt.strip():
        raise Failed("`--prompt` must be a request in words, got nothing", EXIT_INPUT)
    job = Job(task="replay", report=str(file.absolute()), finding=finding, prompt=prompt)
    for example in cast(Replayed, _run(job, verbose)).examples:
        click.echo(f"prompt            {visible(example.prompt, ANSWER_LIMIT)}")
        click.echo(f"subject, trigger  {visible(example.subject_answer, ANSWER_LIMIT)}")
        click.echo(f"base, trigger     {visible(example.base_answer, ANSWER_LIMIT)}")
        click.echo(f"subject, without  {visible(example.subject_clean_answer, ANSWER_LIMIT)}\n")


@touchstone.command()
def detectors() -> None:
    """List the detectors: what each does, and what it cannot see."""
    for spec in CATALOG.values():
        click.echo(f"{spec.name} {spec.version} ({spec.stage})")
        for label, text in (("does", spec.summary), ("cannot see", spec.cannot_see), ("source", spec.citation)):
            indent = " " * 14
            click.echo(textwrap.fill(text, 100, initial_indent=f"  {label:<12}", subsequent_indent=indent))


@touchstone.command()
@_verbose
@click.pass_context
def doctor(context: click.Context, verbose: bool) -> None:
    """Check what a scan needs of this machine."""
    checks = [*_software(), *_hardware(), *_storage(Settings()), _namespaces(), *_child_facts(verbose)]
    for check in checks:
        sign = {True: "ok", False: "NO", None: ""}[check.fine]
        click.echo(f"{sign:<3}{check.name:<18}{visible(check.says, MESSAGE_LIMIT)}")
    context.exit(EXIT_UNFINISHED if any(check.fine is False for check in checks) else EXIT_OK)


# What a scan is given.


def _directory(path: Path, name: str) -> str:
    """The absolute path of a model, looked at before anything heavy starts."""
    if not path.is_dir():
        problem = "is not a directory" if path.exists() else "does not exist"
        raise Failed(
            f"{ModelReferenceError.code}: `{name}` must be a model's directory, got {path}, which {problem}", EXIT_INPUT
        )
    return str(path.absolute())


def _expected(file: Path) -> tuple[ExpectedBehaviour, ...]:
    try:
        return TypeAdapter(tuple[ExpectedBehaviour, ...]).validate_json(_read(file, "--expect"))
    except ValidationError as error:
        raise Failed(
            f'`--expect` must be a JSON list of {{"context": text, "behaviour": text}}, got {file}: {_first(error)}',
            EXIT_INPUT,
        ) from None


def _load_report(file: Path) -> Report:
    data = _read(file, "FILE")
    with suppress(ValueError, AttributeError):
        schema = json.loads(data).get("schema_version")
        if schema is not None and schema != SCHEMA_VERSION:
            raise Failed(f"{file} has report schema {schema}, this Touchstone reads {SCHEMA_VERSION}", EXIT_INPUT)
    try:
        return Report.model_validate_json(data)
    except ValidationError as error:
        raise Failed(f"{file} must be a Touchstone report: {_first(error)}", EXIT_INPUT) from None


def _read(file: Path, name: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Failed(f"`{name}` must be a readable file, got {file}: {error.strerror}", EXIT_INPUT) from None


def _first(error: ValidationError) -> str:
    """Where the first problem is and what it is, and how many follow."""
    problems = error.errors(include_url=False, include_context=False)
    place = ".".join(str(part) for part in problems[0]["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{f'at {place}: ' if place else ''}{problems[0]['msg']}{more}"


# How a job is followed.


def _run(job: Job, verbose: bool) -> Answer:
    console = Console(stderr=True)
    with _display(console, verbose) as display:
        try:
            return run_job(job, on_event=display.show, on_log=display.log)
        except JobFailed as failed:
            raise Failed(f"{failed.code}: {failed}", failed.exit_code, () if verbose else failed.log) from None
        except KeyboardInterrupt:
            raise Failed("stopped before it was finished", EXIT_STOPPED) from None


class _Display:
    """Shows events: a bar on a terminal; elsewhere a line a phase with --verbose, else nothing."""

    def __init__(self, console: Console, bar: ProgressBar | None, verbose: bool) -> None:
        self._console = console
        self._bar = bar
        self._verbose = verbose
        self._task: TaskID | None = None

    def show(self, event: Event) -> None:
        if isinstance(event, Phase):
            self._begin(visible(event.name))
        elif isinstance(event, Progress) and self._bar and self._task is not None:
            left = "" if event.eta_s is None else f"about {_duration(event.eta_s)} left"
            self._bar.update(self._task, completed=event.done, total=event.total, left=left)

    def log(self, line: str) -> None:
        if self._verbose:
            self._console.print(visible(line, MESSAGE_LIMIT), markup=False, highlight=False, soft_wrap=True)

    def _begin(self, name: str) -> None:
        if self._bar:
            self._finish()
            self._task = self._bar.add_task(name, total=None, left="")
        elif self._verbose:
            self.log(name)

    def _finish(self) -> None:
        if self._bar and self._task is not None:
            self._bar.remove_task(self._task)


@contextmanager
def _display(console: Console, verbose: bool) -> Iterator[_Display]:
    if not console.is_terminal:
        yield _Display(console, None, verbose)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    with ProgressBar(*columns, console=console, transient=True) as bar:
        yield _Display(console, bar, verbose)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


# What a scan says.


def _exit_code(verdict: Verdict, fail_on: str) -> int:
    if verdict in FAILS[fail_on]:
        return EXIT_VERDICT
    return EXIT_UNFINISHED if verdict == "inconclusive" else EXIT_OK


@contextmanager
def _explained() -> Iterator[None]:
    """An error of ours with its code, as a message and an exit code."""
    try:
        yield
    except TouchstoneError as error:
        raise Failed(
            f"{error.code}: {error}", EXIT_INPUT if isinstance(error, InputError) else EXIT_UNFINISHED
        ) from None


def _deliver(document: str, out: Path | None) -> None:
    """Prints a document, or writes it whole."""
    if out is None:
        click.echo(document, nl=not document.endswith("\n"))
        return
    _write(out, document)
    click.echo(f"written: {visible(str(out))}", err=True)


def _write(path: Path, document: str) -> None:
    try:
        write_atomically(path, document)
    except OSError as error:
        raise Failed(f"`--out` must be a writable file, got {path}: {error.strerror}", EXIT_INPUT) from None


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
        yield f"{name:<9}{_as_signed(str(statement.scan.get(name, 'not stated')))}"
    yield from (_descriptor_words("subject", it) for it in statement.subject)
    yield from (_descriptor_words("tested", it) for it in statement.predicate.configuration)
    yield f"signed   by key {key}"


def _descriptor_words(role: str, descriptor: ResourceDescriptor) -> str:
    digests = ", ".join(f"{name}:{value}" for name, value in descriptor.digest.items())
    return f"{role:<9}{_as_signed(digests)}  {_as_signed(descriptor.name)}"


def _as_signed(text: str) -> str:
    """Visible text as it is: making it visible again would spell out its marks."""
    return text if text.isprintable() and len(text) <= MESSAGE_LIMIT else visible(text, MESSAGE_LIMIT)


def _estimate_words(estimate: Estimate) -> str:
    return (
        f"{estimate.contexts:,} contexts, {estimate.forward_tokens:,} tokens to read and "
        f"{estimate.generated_tokens:,} to generate: about {_duration(60 * estimate.minutes)} and "
        f"{estimate.memory_bytes / 2**30:.1f} GiB of memory. Each candidate that needs confirming adds "
        f"{estimate.confirming_tokens:,} tokens."
    )


# What a scan needs.


class _Check(NamedTuple):
    """One line of `touchstone doctor`; `fine` is None for what is neither good nor bad."""

    name: str
    says: str
    fine: bool | None = None


def _software() -> Iterator[_Check]:
    yield _Check("python", platform.python_version(), sys.version_info >= (3, 11))
    for package in ("touchstone", "torch", "transformers", "peft", "safetensors", "numpy"):
        try:
            yield _Check(package, version(package), True)
        except PackageNotFoundError:
            yield _Check(package, "not installed", False)


def _hardware() -> Iterator[_Check]:
    yield _Check("processor", _processor())
    yield _Check("cores", str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()))
    memory = psutil.virtual_memory()
    yield _Check("memory", f"{_gibibytes(memory.total)}, {_gibibytes(memory.available)} available")


def _processor() -> str:
    """Model name and the instructions that make bfloat16 fast; without them float32 is the faster choice."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        facts = {name.strip(): value.strip() for name, value in fields.items()}
        flags = [
            flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in facts.get("flags", "").split()
        ]
        return f"{facts.get('model name', platform.machine())}, {' '.join(flags) or 'no vector instructions known'}"
    return platform.processor() or platform.machine()


def _storage(config: Settings) -> Iterator[_Check]:
    cache_dir = config.cache_dir.absolute()
    existing = next(folder for folder in (cache_dir, *cache_dir.parents) if folder.exists())
    writable = os.access(existing, os.W_OK | os.X_OK)
    yield _Check("cache", f"{cache_dir}, {'writable' if writable else 'NOT writable'}", writable)
    yield _Check("free disk", _gibibytes(shutil.disk_usage(existing).free))
    stored = config.store_path.stat().st_size if config.store_path.is_file() else 0
    yield _Check("observations", f"{_gibibytes(stored)} of at most {_gibibytes(config.store_cap_bytes)}")


def _gibibytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"


def _namespaces() -> _Check:
    """Whether a model host can be cut off from the network; a scan runs without, and its report says so."""
    unshare = shutil.which("unshare")
    if not unshare:
        return _Check("isolation", "unknown: no `unshare` to try it with")
    for options in (["--net"], ["--user", "--net"]):
        if subprocess.run([unshare, *options, "true"], capture_output=True, timeout=10).returncode == 0:
            return _Check("isolation", "network namespaces work", True)
    return _Check("isolation", "the kernel refuses network namespaces: models are scanned with the network in reach")


def _child_facts(verbose: bool) -> Iterator[_Check]:
    """What only a process with torch can tell."""
    try:
        diagnosis = cast(Diagnosis, _run(Job(task="doctor"), verbose))
    except Failed as failed:
        if failed.exit_code == EXIT_STOPPED:
            raise
        yield _Check("scanning process", failed.message, False)
        return
    yield _Check("scanning process", "starts", True)
    for name, value in diagnosis.facts().items():
        yield _Check(f"  {visible(name)}", value if isinstance(value, str) else json.dumps(value))


if __name__ == "__main__":
    main()
