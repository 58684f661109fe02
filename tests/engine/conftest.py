"""Tiny models, made once, and copies of them to spoil."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from detectors.engine.checkpoint import Inspected
from detectors.engine.gate import inspect_model
from tests.engine.tiny import make_tiny_adapter, make_tiny_model


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny-base")


@pytest.fixture(scope="session")
def tiny_base(tiny_dir: Path) -> Inspected:
    return inspect_model(tiny_dir)


@pytest.fixture(scope="session")
def tiny_adapter_dir(tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_adapter(tiny_dir, tmp_path_factory.mktemp("models") / "tiny-adapter")


@pytest.fixture
def model(tiny_dir: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may spoil."""
    return Path(shutil.copytree(tiny_dir, tmp_path / "subject"))


@pytest.fixture
def adapter(tiny_adapter_dir: Path, tmp_path: Path) -> Path:
    """A copy of the tiny adapter that a test may spoil."""
    return Path(shutil.copytree(tiny_adapter_dir, tmp_path / "adapter"))
