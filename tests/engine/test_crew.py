"""Workers side by side: order, threads, gradients, and what a failed job leaves."""

from __future__ import annotations

import threading

import pytest
import torch

from detectors.engine.crew import Crew, default_size

SECONDS = 20


def test_as_many_as_its_size_run_at_once() -> None:
    together = threading.Barrier(3)
    crew = Crew(3)
    jobs = [crew.submit(together.wait, SECONDS) for _ in range(3)]
    assert sorted(job.result() for job in jobs) == [0, 1, 2]


def test_a_job_may_wait_for_one_submitted_before_it() -> None:
    crew = Crew(1)
    first = crew.submit(lambda: 7)
    assert crew.submit(first.result).result(SECONDS) == 7


def test_each_worker_has_one_thread_and_the_caller_keeps_its_own() -> None:
    mine = torch.get_num_threads()
    assert default_size(torch.device("cpu")) == mine
    assert {Crew(2).submit(torch.get_num_threads).result() for _ in range(2)} == {1}
    assert torch.get_num_threads() == mine


def test_what_is_not_the_processors_work_has_one_worker() -> None:
    assert default_size(torch.device("meta")) == 1


def test_nothing_is_recorded_for_gradients() -> None:
    weight = torch.ones(2, requires_grad=True)
    assert not Crew(1).submit(lambda: weight * 2).result().requires_grad


def test_a_failed_job_tells_its_own_error_and_the_next_runs() -> None:
    crew = Crew(1)

    def fail() -> None:
        raise ValueError("this one")

    failed, after = crew.submit(fail), crew.submit(lambda: 1)
    with pytest.raises(ValueError, match="this one"):
        failed.result()
    assert after.result() == 1
