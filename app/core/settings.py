"""Every setting of Touchstone, read from the environment (`TOUCHSTONE_...`) in this one place."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings with their units in the name or type.

    Attributes:
        cache_dir: prepared models and the observation store live below it.
        store_cap_bytes: size at which the observation store starts to evict what was used longest ago.
        memory_budget_bytes: how much memory one model host may use for activations and caches of a batch.
        threads: threads of a model host; 0 lets torch choose.
    """

    model_config = SettingsConfigDict(env_prefix="TOUCHSTONE_", frozen=True)

    cache_dir: Path = Path.home() / ".cache" / "touchstone"
    store_cap_bytes: int = Field(default=4 * 2**30, ge=2**20)
    memory_budget_bytes: int = Field(default=2**30, ge=2**24)
    threads: int = Field(default=0, ge=0)
