"""Every setting of Touchstone, read from the environment (`TOUCHSTONE_...`) in this one place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)


class Settings(BaseSettings):
    """Settings with their units in the name or type; docs/reference/settings.md explains each.

    Attributes:
        cache_dir: prepared models, the observation store and banks of one's own live below it.
        store_cap_bytes: size at which the observation store starts to evict what was used longest ago.
        memory_budget_bytes: how much memory one model host may use for activations and caches of a batch.
        memory_limit_bytes: address space of a model host; 0 sets no limit.
        threads: threads of a model host; 0 lets torch choose.
        message_tokens: tokens that a host computes between two savings: what a killed worker loses at most, and the
            piece of work that workers share. About twenty seconds on two cores for a model of 135M parameters.

    Where models come from (docs/reference/references.md); everything is closed unless it is opened here:

    Attributes:
        roots: absolute directories below which local models may lie, in the environment separated by `:`.
        hub_enabled: whether models are fetched from a Hugging Face hub; without it no request leaves this machine.
        hub_endpoint: address of the hub, without a slash at its end; None is the library's own.
        hub_token: sent to the hub; None sends none, not even one that lies about on this machine.
        hub_timeout_s: seconds that the hub may take to begin an answer.
        fetch_cap_bytes: size above which a model is not fetched.

    The service (docs/reference/settings.md):

    Attributes:
        data_dir: the database and the reports of one machine live below it.
        database_url: `sqlite:///PATH` or `postgresql://…`; None is SQLite below `data_dir`.
        broker_url: Redis or Valkey (`redis://…`), or RabbitMQ (`amqp://…`).
        blob_url: where reports are kept, anything that fsspec can write; None is a directory below `data_dir`.
        lease_s: seconds that a worker's claim on a piece of work lasts unless it is renewed.
        tick_s: seconds between two looks for lost work and lost messages.
        body_limit_bytes: size of a request's body above which it is refused.
        requests_per_second: how many requests one API key may make.
        failures_per_minute: how many failed authentications an address may make; valid keys are never locked out.
        views_per_minute: how many share links an address may open, or try to.
        open_scans_per_key: how many scans of one API key may wait or run.
        metrics_open: whether `/metrics` is given out without a key.
        device, dtype: of scans by this worker: `auto`, `cpu` or `cuda`; `auto`, `float32` or `bfloat16`.

    Commands that ask a service:

    Attributes:
        url: address of the service.
        key: API key that it is asked with.
    """

    model_config = SettingsConfigDict(env_prefix="TOUCHSTONE_", frozen=True)

    cache_dir: Path = Path.home() / ".cache" / "touchstone"
    store_cap_bytes: int = Field(default=4 * 2**30, ge=2**20)
    memory_budget_bytes: int = Field(default=2**30, ge=2**24)
    memory_limit_bytes: int = Field(default=0, ge=0)
    threads: int = Field(default=0, ge=0)
    message_tokens: int = Field(default=16_000, ge=1)

    roots: Annotated[tuple[Path, ...], NoDecode] = ()
    hub_enabled: bool = False
    hub_endpoint: str | None = Field(default=None, pattern=r"^https?://[^/\s@]+(/[^/\s]+)*$")
    hub_token: SecretStr | None = None
    hub_timeout_s: float = Field(default=20.0, gt=0)
    fetch_cap_bytes: int = Field(default=256 * 2**30, ge=1)

    data_dir: Path = Path.home() / ".local" / "share" / "touchstone"
    database_url: SecretStr | None = None
    broker_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    blob_url: str | None = None
    lease_s: float = Field(default=30.0, gt=0)
    tick_s: float = Field(default=10.0, gt=0)
    body_limit_bytes: int = Field(default=2**20, ge=2**10)
    requests_per_second: int = Field(default=500, ge=1)
    failures_per_minute: int = Field(default=30, ge=1)
    views_per_minute: int = Field(default=60, ge=1)
    open_scans_per_key: int = Field(default=200, ge=1)
    metrics_open: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"

    url: str = "http://127.0.0.1:8765"
    key: SecretStr | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, then files: in `TOUCHSTONE_SECRETS_DIR`, one a setting, named as its variable in small."""
        directory = os.environ.get("TOUCHSTONE_SECRETS_DIR")
        if not directory:
            return init_settings, env_settings
        return init_settings, env_settings, SecretsSettingsSource(settings_cls, secrets_dir=directory)

    @field_validator("roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        return tuple(filter(None, value.split(os.pathsep))) if isinstance(value, str) else value

    @field_validator("roots")
    @classmethod
    def _absolute_roots(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        relative = [str(root) for root in value if not root.is_absolute()]
        if relative:
            raise ValueError(f"roots must be absolute paths, got {relative}")
        return value

    @property
    def database(self) -> str:
        """The database's URL, password and all."""
        if self.database_url is None:
            return f"sqlite:///{self.data_dir / 'touchstone.sqlite'}"
        return self.database_url.get_secret_value()

    @property
    def blobs(self) -> str:
        """Where reports are kept."""
        return self.blob_url or str(self.data_dir / "blobs")

    @property
    def store_path(self) -> Path:
        """The observation store of this machine."""
        return self.cache_dir / "observations.sqlite"

    @property
    def banks_dir(self) -> Path:
        """Where banks of one's own are looked for, and written unless another place is named."""
        return self.cache_dir / "banks"

    @property
    def fetched_dir(self) -> Path:
        """Where models from a hub are kept, in the layout of a Hugging Face cache."""
        return self.cache_dir / "hub"


OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def child_environment() -> dict[str, str]:
    """The environment of a scan: this process's own, with every model library told to stay offline."""
    return dict(os.environ) | OFFLINE


def service_environment(import_path: str, **changed: str) -> dict[str, str]:
    """The environment of a part of the service that this machine runs: our own, without the key of our commands.

    Args:
        import_path: where `app`, `workers` and `detectors` lie.
        changed: settings by name that are not as this process has them.
    """
    ours = {name: value for name, value in os.environ.items() if name != "TOUCHSTONE_KEY"}
    python = {"PYTHONPATH": import_path, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
    return ours | python | {f"TOUCHSTONE_{name.upper()}": value for name, value in changed.items()}


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
