"""Rules of the repository that no linter knows: see the architecture's "Rooms" and "Directions"."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel

ROOT = Path(__file__).parents[1]
SOURCES = ("app", "workers", "detectors")

READS_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}
MAY_READ_ENVIRONMENT = {"app/core/settings.py"}

LABELS = {"poisoned", "is_poisoned", "planted", "backdoored", "is_backdoored", "label", "labels", "ground_truth"}

APP_READS = ("findings", "report", "catalog", "errors", "stats", "suites", "contexts.context")
"""What `app` may import of `detectors`: results and plain data."""

REGISTRY_HOSTS = ("pypi" + ".org", "python" + "hosted", "npmjs" + ".org", "debian" + ".org")
"""Where packages come from is the business of the machine that installs, not of this repository."""


def modules(*packages: str) -> list[Path]:
    return sorted(file for package in packages for file in (ROOT / package).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names that a module imports: `import a.b` as a.b, `from a.b import c` as a.b.c."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_only_settings_reads_the_environment() -> None:
    readers = set()
    for file in modules(*SOURCES):
        tree = ast.parse(file.read_text())
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names = {name.rpartition(".")[2] for name in imported(tree) if name.startswith("os.")}
        if READS_ENVIRONMENT & (attributes | names):
            readers.add(str(file.relative_to(ROOT)))
    assert readers <= MAY_READ_ENVIRONMENT


def test_app_reads_only_results_and_plain_data_of_detectors() -> None:
    allowed = tuple(f"detectors.{name}" for name in APP_READS)
    for file in modules("app"):
        for name in imported(ast.parse(file.read_text())):
            if name.split(".")[0] == "detectors":
                assert any(name == one or name.startswith(f"{one}.") for one in allowed), f"{file}: {name}"


def test_imports_are_absolute() -> None:
    for file in modules(*SOURCES, "benchmarks"):
        relative = [node for node in ast.walk(ast.parse(file.read_text())) if getattr(node, "level", 0)]
        assert not relative, f"{file} imports relatively"


def detector_types() -> Iterator[type]:
    package = importlib.import_module("detectors")
    for info in pkgutil.walk_packages(package.__path__, "detectors."):
        module = importlib.import_module(info.name)
        yield from (item for item in vars(module).values() if isinstance(item, type) and item.__module__ == info.name)


def field_names(kind: type) -> set[str]:
    if issubclass(kind, BaseModel):
        return set(kind.model_fields)
    declared = set(getattr(kind, "__annotations__", {}))
    return declared | ({field.name for field in fields(kind)} if is_dataclass(kind) else set())


def test_no_detector_can_be_told_what_is_planted() -> None:
    found = {f"{kind.__module__}.{kind.__qualname__}": field_names(kind) & LABELS for kind in detector_types()}
    assert len(found) > 10
    assert not {name: labels for name, labels in found.items() if labels}


@pytest.mark.parametrize(
    "module",
    ["app.cli", "app.core.scanning", "app.core.registries.bases", "detectors.report", "detectors.stats"],
)
def test_the_command_line_starts_without_torch(module: str) -> None:
    program = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=120).returncode == 0


def tracked_files() -> list[Path]:
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files are tracked")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_no_file_names_a_package_registry() -> None:
    named = []
    for file in tracked_files():
        content = file.read_bytes() if file.is_file() else b""
        named += [f"{file.relative_to(ROOT)}: {host}" for host in REGISTRY_HOSTS if host.encode() in content]
    assert not named


def test_docker_holds_no_python() -> None:
    assert not list((ROOT / "docker").rglob("*.py"))
