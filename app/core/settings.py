"""Every setting of Touchstone, read from the environment (`TOUCHSTONE_...`) in this one place."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings with their units in the name or type.

    Attributes:
        cache_dir: prepared models and the observation store live below it.
        store_cap_bytes: size at which the observation store starts to evict what was used longest ago.
        memory_budget_bytes: how much memory one model host may use for activations and caches of a batch.
        memory_limit_bytes: address space of a model host; 0 sets no limit.
        threads: threads of a model host; 0 lets torch choose.
    """

    model_config = SettingsConfigDict(env_prefix="TOUCHSTONE_", frozen=True)

    cache_dir: Path = Path.home() / ".cache" / "touchstone"
    store_cap_bytes: int = Field(default=4 * 2**30, ge=2**20)
    memory_budget_bytes: int = Field(default=2**30, ge=2**24)
    memory_limit_bytes: int = Field(default=0, ge=0)
    threads: int = Field(default=0, ge=0)

    @property
    def store_path(self) -> Path:
        """The observation store of this machine."""
        return self.cache_dir / "observations.sqlite"


OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def child_environment() -> dict[str, str]:
    """The environment of a scan: this process's own, with every model library told to stay offline."""
    return dict(os.environ) | OFFLINE


def host_environment(import_path: str) -> dict[str, str]:
    """The whole environment of a model host: no secrets, no home, no caches.

    Args:
        import_path: where `workers` and `detectors` lie.
    """
    return OFFLINE | {
        "PYTHONPATH": import_path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
    }
