"""Roots with models, and a hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.settings import Settings
from tests.registries.hub_server import Hub, serving

WEIGHTS = b"not looked at here, only carried" * 1000
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "model.safetensors": WEIGHTS,
    "chat_template.jinja": b"{{ messages }}",
    "README.md": b"---\nbase_model: acme/base\n---\n",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub()) as served:
        yield served


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def model(root: Path) -> Path:
    """A directory with files, below the root."""
    return make_model(root / "amber")


def make_model(directory: Path) -> Path:
    directory.mkdir(parents=True)
    for name, content in FILES.items():
        (directory / name).write_bytes(content)
    return directory


@pytest.fixture
def local(root: Path, tmp_path: Path) -> Settings:
    """Settings that know the root and no hub."""
    return Settings(roots=(root,), cache_dir=tmp_path / "cache")


@pytest.fixture
def online(hub: Hub, root: Path, tmp_path: Path) -> Settings:
    """Settings that know the root and the hub."""
    return hub_settings(hub, tmp_path, roots=(root,))


def hub_settings(hub: Hub, tmp_path: Path, **changes: Any) -> Settings:
    known: dict[str, Any] = {"hub_enabled": True, "hub_endpoint": hub.endpoint, "cache_dir": tmp_path / "cache"}
    return Settings(**known | changes)
