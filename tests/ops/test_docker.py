"""Images and compose files, checked as far as that goes without an engine."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import validators

from app import up
from app.core.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
OURS = ("migrate", "api", "ticker", "worker")
SETTINGS = {f"TOUCHSTONE_{name.upper()}" for name in Settings.model_fields} | {"TOUCHSTONE_SECRETS_DIR"}

Composed = dict[str, Any]


def compose(*names: str) -> Composed:
    """Compose files, laid one over the other as far as ours need it: mappings are joined, the rest is replaced."""
    found: Composed = {}
    for name in names:
        found = joined(found, yaml.safe_load((DOCKER / name).read_text()))
    return found


def joined(below: Composed, above: Composed) -> Composed:
    both = {key: joined(below[key], above[key]) for key in below.keys() & above.keys() if isinstance(above[key], dict)}
    return below | above | both


SERVICES: dict[str, Composed] = compose("compose.yaml")["services"]


def commands(file: Path) -> list[str]:
    """A Dockerfile's instructions, one a line."""
    text = re.sub(r"\\\n", " ", file.read_text())
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def arguments(file: Path, instruction: str) -> list[str]:
    return [line.partition(" ")[2].strip() for line in commands(file) if line.startswith(f"{instruction} ")]


# Compose.


@pytest.mark.parametrize("names", [["compose.yaml"], ["compose.gpu.yaml"], ["compose.yaml", "compose.gpu.yaml"]])
def test_compose_files_are_what_the_specification_wants(names: list[str]) -> None:
    schema = json.loads((files("check_jsonschema.builtin_schemas.vendor") / "compose-spec.json").read_text("utf-8"))
    validators.validator_for(schema)(schema).validate(compose(*names))


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].split(":")[0] not in ("root", "0")
    assert service["mem_limit"]
    assert service["pids_limit"]


def test_only_the_api_is_reached_and_only_from_this_machine() -> None:
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"api"}
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["api"]["ports"])
    networks = compose("compose.yaml")["networks"]
    assert networks["backend"] == {"internal": True}
    assert {name: service["networks"] for name, service in SERVICES.items() if service["networks"] != ["backend"]} == {
        "api": ["backend", "frontend"]
    }


def test_what_can_be_asked_is_asked_for_its_health() -> None:
    watched = {name for name, service in SERVICES.items() if "test" in service.get("healthcheck", {})}
    assert watched == {"api", "worker", "valkey", "postgres"}
    for service in SERVICES.values():
        for name, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert name in watched


def test_models_are_only_read() -> None:
    mounts = [mount for name in OURS for mount in SERVICES[name].get("volumes", []) if ":/models" in mount]
    assert len(mounts) == 2
    assert all(mount.endswith(":ro") for mount in mounts)


@pytest.mark.parametrize("name", OURS)
def test_the_environment_is_of_settings_and_holds_no_secret(name: str) -> None:
    environment = SERVICES[name]["environment"]
    assert set(environment) <= SETTINGS
    assert not {"TOUCHSTONE_DATABASE_URL", "TOUCHSTONE_BROKER_URL", "TOUCHSTONE_KEY"} & set(environment)


def test_the_accelerator_is_added_to_the_worker_alone() -> None:
    both = compose("compose.yaml", "compose.gpu.yaml")["services"]
    assert {name for name in both if both[name] != SERVICES[name]} == {"worker"}
    assert both["worker"]["environment"] == SERVICES["worker"]["environment"] | {"TOUCHSTONE_DEVICE": "cuda"}
    assert both["worker"]["read_only"] is True


def test_images_are_built_of_files_that_are_there() -> None:
    for service in compose("compose.yaml", "compose.gpu.yaml")["services"].values():
        if "build" in service:
            assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


# Secrets.


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    made = subprocess.run(
        ["sh", DOCKER / "secrets.sh", tmp_path / "secrets"], capture_output=True, text=True, timeout=60, check=False
    )
    assert made.returncode == 0, made.stderr
    return tmp_path / "secrets"


def test_every_secret_is_made_and_mounted(secrets: Path) -> None:
    declared = compose("compose.yaml")["secrets"]
    assert {Path(one["file"]).name for one in declared.values()} == {file.name for file in secrets.iterdir()}
    used = {secret for service in SERVICES.values() for secret in service["secrets"]}
    assert used == set(declared)


def test_passwords_are_fresh_and_agree(secrets: Path) -> None:
    postgres = (secrets / "postgres_password").read_text()
    valkey = re.findall(r"^requirepass (\S+)$", (secrets / "valkey.conf").read_text(), re.MULTILINE)[0]
    assert len({postgres, valkey}) == 2
    assert min(len(postgres), len(valkey)) == 64
    assert (secrets / "database_url").read_text() == f"postgresql://touchstone:{postgres}@postgres:5432/touchstone"
    assert (secrets / "broker_url").read_text() == f"redis://:{valkey}@valkey:6379/0"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700


def test_secrets_are_never_overwritten(secrets: Path) -> None:
    before = {file.name: file.read_text() for file in secrets.iterdir()}
    again = subprocess.run(["sh", DOCKER / "secrets.sh", secrets], capture_output=True, text=True, timeout=60)
    assert again.returncode == 2
    assert "must not be there yet" in again.stderr
    assert {file.name: file.read_text() for file in secrets.iterdir()} == before


def test_settings_read_the_files_that_are_mounted(
    secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for name in SERVICES["worker"]["secrets"]:
        file = Path(compose("compose.yaml")["secrets"][name]["file"]).name
        (mounted / name).write_text((secrets / file).read_text())
    monkeypatch.setenv("TOUCHSTONE_SECRETS_DIR", str(mounted))
    settings = Settings()
    assert settings.database == (secrets / "database_url").read_text()
    assert settings.broker_url.get_secret_value() == (secrets / "broker_url").read_text()
    monkeypatch.setenv("TOUCHSTONE_BROKER_URL", "redis://elsewhere/0")
    assert Settings().broker_url.get_secret_value() == "redis://elsewhere/0"


def test_valkey_takes_the_configuration_that_is_made(secrets: Path, tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    told = f"{(secrets / 'valkey.conf').read_text()}port 0\nunixsocket {socket}\n"
    server = subprocess.Popen([up.get_binary_path(), "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin is not None
    assert server.stdout is not None
    with server, server.stdin as stdin:
        stdin.write(told)
        stdin.close()
        assert any("Ready to accept connections" in line for line in server.stdout)
        server.terminate()


# Dockerfiles.


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_dockerfiles_pass_the_linter(file: Path) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, "--no-color", file], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_images_run_as_nobody_special(file: Path) -> None:
    assert arguments(file, "USER") == ["10001:10001"]
    assert all(image.startswith("python:3.11-slim") for image in arguments(file, "FROM"))


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_what_is_copied_is_there_and_not_ignored(file: Path) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [name for line in arguments(file, "COPY") if not line.startswith("--from") for name in line.split()[:-1]]
    assert len(sources) == 8
    for name in sources:
        assert (ROOT / name).exists()
        assert any(fnmatch(name, pattern) for pattern in allowed)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_the_environment_of_images_is_of_settings(file: Path) -> None:
    (environment,) = arguments(file, "ENV")
    names = re.findall(r"\b(TOUCHSTONE_\w+)=", environment)
    assert {"TOUCHSTONE_DATA_DIR", "TOUCHSTONE_CACHE_DIR", "TOUCHSTONE_SECRETS_DIR"} <= set(names) <= SETTINGS


def test_the_api_has_no_engine_and_workers_have() -> None:
    extras = {file.stem: re.findall(r"'\.\[([a-z,]+)\]'", file.read_text()) for file in DOCKERFILES}
    assert extras == {"api": ["service"], "worker": ["engine,service"], "worker-gpu": ["engine,service"]}


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_a_worker_is_started_as_on_one_machine(name: str) -> None:
    """What `touchstone up` starts is tested with real scans."""
    (command,) = arguments(DOCKER / f"{name}.Dockerfile", "CMD")
    here = list(up.worker_command("worker-1@%h"))
    assert sorted(json.loads(command)) == sorted(it for it in here if it not in ("--hostname", "worker-1@%h"))
