"""Passes side by side on one network: as many workers as there are threads, each with one thread of its own.

Two passes of one thread each take less time than one pass of two threads after the other: the element-wise work between
the multiplications and Python's own are never waited for. `make bench-throughput` compares both.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class Crew:
    """Runs jobs in the order they are submitted, so a job may wait for one that was submitted before it.

    Args:
        size: how many run at once.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="pass", initializer=_take_one_thread)

    def submit(self, job: Callable[..., T], *arguments: Any) -> Future[T]:
        """`job(*arguments)` in a worker, where nothing is recorded for gradients."""
        return self._pool.submit(_without_gradients, job, *arguments)


def default_size(device: torch.device) -> int:
    """As many workers as torch has threads; one where the work is not the processor's."""
    threads = torch.get_num_threads()  # asked first: what a worker sets would else become the default of this thread
    return threads if device.type == "cpu" else 1


def _take_one_thread() -> None:
    """Of torch and of the library that multiplies; both count by calling thread."""
    torch.set_num_threads(1)


@torch.inference_mode()
def _without_gradients(job: Callable[..., T], *arguments: Any) -> T:
    return job(*arguments)
