"""What is told of the machine, and what follows from it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from workers import machine
from workers.machine import describe_machine, preferred_dtype
from workers.scan import PROJECT


def test_a_machine_is_described() -> None:
    told = describe_machine(device="cpu", dtype="float32", isolation=("no network",))
    assert told.cores >= 1
    assert told.memory_bytes > 2**28
    assert told.processor
    assert (told.device, told.dtype, told.isolation) == ("cpu", "float32", ("no network",))
    assert set(machine.PACKAGES) < told.versions.keys()
    assert "not installed" not in told.versions.values()


@pytest.mark.parametrize(
    ("device", "flags", "dtype"),
    [
        ("cpu", {"avx2"}, "float32"),
        ("cpu", {"avx512_bf16"}, "bfloat16"),
        ("cpu", {"amx_bf16"}, "bfloat16"),
        ("cpu", set(), "float32"),
        ("cuda", set(), "bfloat16"),
    ],
)
def test_dtype_follows_the_processor(device: str, flags: set[str], dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "processor_flags", lambda: frozenset(flags))
    assert preferred_dtype(device) == dtype


def test_a_package_that_is_missing_is_said_to_be() -> None:
    assert machine._version("no-such-package-anywhere") == "not installed"


def test_the_parent_of_hosts_imports_no_torch() -> None:
    heavy = ("torch", "transformers")
    code = f"import sys, workers.local; print([name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert told.stdout.strip() == "[]"
