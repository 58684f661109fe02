"""How often one may ask, counted in this process: a key's requests, an address's failures and views of share links."""

from __future__ import annotations

import math
import time

from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from app.core.settings import Settings
from detectors.errors import TooManyRequests


class Limiter:
    """Counts, and refuses what is too much.

    Args:
        settings: how much is.
    """

    def __init__(self, settings: Settings) -> None:
        self._counts = FixedWindowRateLimiter(MemoryStorage())
        self._requests = RateLimitItemPerSecond(settings.requests_per_second)
        self._failures = RateLimitItemPerMinute(settings.failures_per_minute)
        self._views = RateLimitItemPerMinute(settings.views_per_minute)

    def request(self, key_id: str) -> None:
        """Counts a request of a key.

        Raises:
            TooManyRequests: if it is one too many.
        """
        self._hit(self._requests, "key", key_id, f"this key has made {self._requests.amount} requests this second")

    def failure(self, address: str) -> None:
        """Counts a failed authentication from an address.

        Raises:
            TooManyRequests: if it is one too many. A valid key is served from there all the same.
        """
        said = f"{self._failures.amount} authentications failed from this address this minute"
        self._hit(self._failures, "address", address, said)

    def view(self, address: str) -> None:
        """Counts an attempt from an address to open a share link.

        Raises:
            TooManyRequests: if it is one too many.
        """
        said = f"{self._views.amount} share links were opened from this address this minute"
        self._hit(self._views, "viewer", address, said)

    def _hit(self, limit: RateLimitItem, kind: str, who: str, said: str) -> None:
        if not self._counts.hit(limit, kind, who):
            left = self._counts.get_window_stats(limit, kind, who).reset_time - time.time()
            wait = max(1, math.ceil(left))
            raise TooManyRequests(f"{said}, which is the limit; try again in {wait} s", retry_after_s=wait)
