"""Celery: carries doorbells, and nothing that may not be lost.

    celery -A workers.celery_app worker --concurrency 1 --queues people,schedules

JSON only. A message is acknowledged when its chunk was worked on, and delivered again when its worker died; whoever
gets it a second time finds the chunk claimed or done, and drops it. A worker that is told to stop gives its chunk back.
"""

from __future__ import annotations

import billiard
from celery import Celery
from celery.signals import worker_shutting_down

from app.core.settings import Settings

stopping = billiard.Event()
"""Set in the parent by SIGTERM; the child that works sees it, because it was made before the fork."""


def make_celery(settings: Settings) -> Celery:
    """The configured Celery application, with its one task registered."""
    found = Celery("touchstone", broker=settings.broker_url.get_secret_value(), include=["workers.tasks"])
    found.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_default_queue="people",
        worker_prefetch_multiplier=1,
        worker_concurrency=1,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # "sorted" looks into `people` before `schedules`; "priority" takes queues in the order of a set, which is none
        broker_transport_options={"visibility_timeout": 24 * 3600, "queue_order_strategy": "sorted"},
    )
    return found


celery_app = make_celery(Settings())


@worker_shutting_down.connect  # type: ignore[untyped-decorator]  # Celery ships no types
def _stop(**_: object) -> None:
    stopping.set()
