"""Workers and local scans that know the suite `small` as well.

celery -A tests.service.small_app worker ...
echo '{"task": "scan", "suite": "small", ...}' | python -m tests.service.small_app
"""

from __future__ import annotations

import sys

from detectors.suites import SUITES
from tests.service.small_suite import SMALL
from workers.celery_app import celery_app
from workers.local import main

__all__ = ["celery_app"]

SUITES[SMALL.name] = SMALL

if __name__ == "__main__":
    sys.exit(main())
