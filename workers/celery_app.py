"""Celery: carries doorbells, and nothing that may not be lost.

    celery -A workers.celery_app worker --concurrency 1 --queues people,schedules

JSON only. A message is acknowledged when its chunk was worked on, and delivered again when its worker died; whoever
gets it a second time finds the chunk claimed or done, and drops it.
"""

from __future__ import annotations

from celery import Celery

from app.core.settings import Settings


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
        broker_connection_retry_on_startup=True,
        broker_transport_options={"visibility_timeout": 24 * 3600, "queue_order_strategy": "priority"},
    )
    return found


celery_app = make_celery(Settings())
