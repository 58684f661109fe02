"""The command that checks what a scan needs of this machine."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple, cast

import click
import psutil

from app.cli.common import EXIT_OK, EXIT_STOPPED, EXIT_UNFINISHED, MESSAGE_LIMIT, Failed, verbose_option
from app.cli.following import run
from app.core.render.visible import visible
from app.core.scanning import Diagnosis, Job
from app.core.settings import Settings


@click.command()
@verbose_option
@click.pass_context
def doctor(context: click.Context, verbose: bool) -> None:
    """Check what a scan needs of this machine."""
    checks = [*_software(), *_hardware(), *_storage(Settings()), _namespaces(), *_child_facts(verbose)]
    for check in checks:
        sign = {True: "ok", False: "NO", None: ""}[check.fine]
        click.echo(f"{sign:<3}{check.name:<18}{visible(check.says, MESSAGE_LIMIT)}")
    context.exit(EXIT_UNFINISHED if any(check.fine is False for check in checks) else EXIT_OK)


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
        diagnosis = cast(Diagnosis, run(Job(task="doctor"), verbose))
    except Failed as failed:
        if failed.exit_code == EXIT_STOPPED:
            raise
        yield _Check("scanning process", failed.message, False)
        return
    yield _Check("scanning process", "starts", True)
    for name, value in diagnosis.facts().items():
        yield _Check(f"  {visible(name)}", value if isinstance(value, str) else json.dumps(value))
