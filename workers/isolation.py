"""What a model host gives up before it opens a model: network, writing files, new privileges, outliving its parent.

Each step that the kernel refuses is reported, not hidden: the list ends up in the report.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import tempfile

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38


def isolate(memory_bytes: int) -> list[str]:
    """Drops what a host does not need; returns what was achieved, one phrase each.

    Args:
        memory_bytes: address space the host may take; 0 sets no limit.
    """
    tempfile.tempdir = os.sep  # libraries ask for a place to write when they are imported; they are never given one
    achieved = [
        _limit(resource.RLIMIT_FSIZE, 0, "cannot write files"),
        _limit(resource.RLIMIT_CORE, 0, "no core dumps"),
    ]
    if memory_bytes:
        achieved.append(_limit(resource.RLIMIT_AS, memory_bytes, f"address space at most {memory_bytes >> 20} MiB"))
    if sys.platform == "linux":
        achieved += _linux()
    return achieved


def _limit(which: int, value: int, says: str) -> str:
    resource.setrlimit(which, (value, value))
    return says


def _linux() -> list[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    privileges = libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    network = libc.unshare(CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0
    return [
        "no network" if network else "NETWORK NOT ISOLATED (the kernel refused a network namespace)",
        "no new privileges" if privileges else "NEW PRIVILEGES NOT BLOCKED",
    ]
