"""What machine this is, told without torch: a scan's parent process never imports it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from detectors.report import Machine

NATIVE_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "peft", "numpy")


def processor_flags() -> frozenset[str]:
    """What the processor says it can do; empty where the system does not tell."""
    return frozenset(_processor("flags", "Features").split())


def preferred_device() -> str:
    """`cuda` where an NVIDIA device is there, else `cpu`."""
    return "cuda" if Path("/dev/nvidia0").exists() else "cpu"


def preferred_dtype(device: str) -> str:
    """bfloat16 on a GPU and where the processor multiplies it natively, else float32.

    Without such instructions bfloat16 is emulated and slower than float32; `touchstone doctor` shows what is there.
    """
    native = device == "cuda" or processor_flags() & set(NATIVE_BFLOAT16)
    return "bfloat16" if native else "float32"


def describe_machine(*, device: str, dtype: str, isolation: tuple[str, ...]) -> Machine:
    """The machine as a report tells it."""
    return Machine(
        processor=_processor("model name") or platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        device=device,
        dtype=dtype,
        isolation=isolation,
        versions={"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    )


def _processor(*fields: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() in fields), "")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
