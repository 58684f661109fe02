"""A job in its child process, followed on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as ProgressBar

from app.cli.common import EXIT_STOPPED, MESSAGE_LIMIT, Failed, duration
from app.core.render.visible import visible
from app.core.scanning import Answer, Event, Job, JobFailed, Phase, Progress, run_job


def run(job: Job, verbose: bool) -> Answer:
    """The answer to a job, with its progress on the way."""
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
            left = "" if event.eta_s is None else f"about {duration(event.eta_s)} left"
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
