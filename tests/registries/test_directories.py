"""Local models: only below the roots, and noticed when they change."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.core.registries import directories
from app.core.registries.resolving import Pinned, fetch, resolve
from app.core.settings import Settings
from detectors.errors import ModelReferenceError, ReferenceMoved, ReferenceOutsideRoots
from tests.registries.conftest import FILES, make_model


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A model that no caller may name."""
    return make_model(tmp_path / "outside" / "secret")


@pytest.mark.parametrize("form", ["{}", "file://{}", "amber"])
def test_three_ways_to_name_a_directory(form: str, model: Path, local: Settings) -> None:
    pinned = resolve(form.format(model), local)
    assert (pinned.kind, pinned.reference, pinned.pinned) == ("directory", form.format(model), str(model))
    assert fetch(pinned, local) == model


def test_pinned_survives_the_database(model: Path, local: Settings) -> None:
    pinned = resolve("amber", local)
    assert Pinned.model_validate_json(pinned.model_dump_json()) == pinned
    with pytest.raises(ValidationError):
        Pinned.model_validate(pinned.model_dump() | {"more": 1})
    with pytest.raises(ValidationError):
        pinned.revision = "other"  # type: ignore[misc]


def test_a_name_may_have_folders(root: Path, local: Settings) -> None:
    made = make_model(root / "team" / "amber")
    assert resolve("team/amber", local).pinned == str(made)


def test_a_name_below_two_roots_must_be_unique(model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    settings = Settings(roots=(model.parent, other))
    assert resolve("amber", settings).pinned == str(model)
    make_model(other / "amber")
    with pytest.raises(ModelReferenceError, match=f"more than once: `{model}`, `{other / 'amber'}`"):
        resolve("amber", settings)
    assert resolve(str(other / "amber"), settings).pinned == str(other / "amber")


def test_the_same_directory_below_two_roots_is_one(model: Path) -> None:
    (model.parent.parent / "alias").symlink_to(model.parent)
    settings = Settings(roots=(model.parent, model.parent.parent / "alias"))
    assert resolve("amber", settings).pinned == str(model)
    assert resolve(str(model.parent.parent / "alias" / "amber"), settings).pinned == str(model)


def test_without_roots_the_error_says_how_to_configure_them(model: Path) -> None:
    with pytest.raises(ReferenceOutsideRoots, match="TOUCHSTONE_ROOTS"):
        resolve(str(model), Settings(roots=()))


def test_outside_of_the_roots_nobody_learns_what_exists(outside: Path, local: Settings) -> None:
    said = []
    for path in (outside, outside.parent / "nothing-here"):
        with pytest.raises(ReferenceOutsideRoots, match="does not lie below") as refused:
            resolve(str(path), local)
        said.append(str(refused.value).replace(str(path), "PATH"))
    assert said[0] == said[1]


@pytest.mark.parametrize("reference", ["/", "/etc", "{root}", "file://{root}", "{root}x", "/{root}/amber", "."])
def test_neither_a_root_nor_what_looks_like_one(reference: str, model: Path, local: Settings) -> None:
    make_model(model.parent.with_name("rootx"))
    with pytest.raises(ReferenceOutsideRoots):
        resolve(reference.format(root=model.parent), local)


@pytest.mark.parametrize("reference", ["link", "{root}/link", "folder/secret", "{root}/folder/secret"])
def test_a_link_out_of_the_root_is_refused(reference: str, root: Path, outside: Path, local: Settings) -> None:
    (root / "link").symlink_to(outside)
    (root / "folder").symlink_to(outside.parent)
    with pytest.raises(ReferenceOutsideRoots, match="a link leads out"):
        resolve(reference.format(root=root), local)


def test_a_link_within_the_root_is_pinned_to_what_it_leads_to(root: Path, model: Path, local: Settings) -> None:
    (root / "latest").symlink_to(model)
    pinned = resolve("latest", local)
    (root / "latest").unlink()
    (root / "latest").symlink_to(make_model(root / "beryl"))
    assert fetch(pinned, local) == model


@pytest.mark.parametrize("place", ["model.safetensors", "README.md", "folder", "deep/down/tokenizer.json"])
def test_a_file_that_is_a_link_out_of_the_root_is_refused(
    place: str, model: Path, outside: Path, local: Settings
) -> None:
    (model / place).unlink(missing_ok=True)
    (model / place).parent.mkdir(parents=True, exist_ok=True)
    (model / place).symlink_to(outside if place == "folder" else outside / "config.json")
    with pytest.raises(ReferenceOutsideRoots, match="leads out"):
        resolve("amber", local)


def test_a_link_that_is_put_in_while_the_scan_waits_is_refused(model: Path, outside: Path, local: Settings) -> None:
    pinned = resolve("amber", local)
    (model / "config.json").unlink()
    (model / "config.json").symlink_to(outside / "config.json")
    with pytest.raises(ReferenceOutsideRoots):
        fetch(pinned, local)


def test_a_cache_of_the_hub_can_be_a_root(root: Path, local: Settings) -> None:
    snapshot = make_model(root / "models--acme--amber" / "snapshots" / ("0" * 40))
    blobs = root / "models--acme--amber" / "blobs"
    blobs.mkdir()
    (snapshot / "model.safetensors").rename(blobs / ("a" * 64))
    (snapshot / "model.safetensors").symlink_to(Path("../../blobs") / ("a" * 64))
    pinned = resolve(str(snapshot), local)
    with (blobs / ("a" * 64)).open("ab") as blob:
        blob.write(b"more")
    with pytest.raises(ReferenceMoved):
        fetch(pinned, local)


def test_what_is_no_directory(root: Path, model: Path, local: Settings) -> None:
    (root / "loop").symlink_to(root / "loop")
    for name in ("nothing", "amber/config.json", "loop", "n" * 300):
        with pytest.raises(ModelReferenceError, match="is no directory below"):
            resolve(name, local)


def test_an_empty_directory(root: Path, local: Settings) -> None:
    (root / "empty" / ".git").mkdir(parents=True)
    (root / "empty" / ".gitignore").write_text("")
    with pytest.raises(ModelReferenceError, match="is empty"):
        resolve("empty", local)


def test_a_link_to_nothing(model: Path, local: Settings) -> None:
    (model / "gone").symlink_to("nowhere")
    with pytest.raises(ModelReferenceError, match="link to nothing"):
        resolve("amber", local)


def test_a_heap_of_files_is_no_model(model: Path, local: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directories, "MAX_ENTRIES", len(FILES))
    assert resolve("amber", local)
    (model / "folder").mkdir()
    with pytest.raises(ModelReferenceError, match="more than 5 files"):
        resolve("amber", local)


def test_a_directory_with_a_name_that_no_reference_can_have(root: Path, local: Settings) -> None:
    make_model(root / "evil\n\x1b[31m")
    (root / "fine").symlink_to(root / "evil\n\x1b[31m")
    with pytest.raises(ModelReferenceError, match="printable") as refused:
        resolve("fine", local)
    assert str(refused.value).isprintable()


def test_a_directory_that_vanishes_while_it_is_read(root: Path) -> None:
    with pytest.raises(ModelReferenceError, match="cannot be read"):
        directories.fingerprint(root / "gone", (root,))


def append(model: Path) -> None:
    with (model / "README.md").open("ab") as file:
        file.write(b"x")


def rewrite(model: Path) -> None:
    """The same size, another time."""
    facts = (model / "config.json").stat()
    (model / "config.json").write_bytes(b"[]")
    os.utime(model / "config.json", ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))


CHANGES: dict[str, Callable[[Path], object]] = {
    "a longer file": append,
    "a file rewritten": rewrite,
    "a file more": lambda model: (model / "added_tokens.json").write_text("{}"),
    "a file less": lambda model: (model / "README.md").unlink(),
    "a file renamed": lambda model: (model / "README.md").rename(model / "README.txt"),
    "a file in a folder": lambda model: make_model(model / "checkpoint-1"),
    "all gone": lambda model: model.rename(model.with_name("elsewhere")),
    "emptied": lambda model: [file.unlink() for file in model.iterdir()],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_directory_that_changes_while_the_scan_waits(change: str, model: Path, local: Settings) -> None:
    pinned = resolve("amber", local)
    CHANGES[change](model)
    with pytest.raises(ReferenceMoved, match="changed while the scan waited"):
        fetch(pinned, local)


def test_hidden_files_are_no_part_of_a_model(model: Path, local: Settings) -> None:
    pinned = resolve("amber", local)
    make_model(model / ".git")
    (model / ".lock").write_text("")
    assert fetch(pinned, local) == model


def test_a_root_that_is_closed_closes_what_waits(model: Path, local: Settings, tmp_path: Path) -> None:
    pinned = resolve("amber", local)
    with pytest.raises(ReferenceOutsideRoots):
        fetch(pinned, Settings(roots=(tmp_path / "other",)))


def test_roots_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOUCHSTONE_ROOTS", "/models:/more models:")
    assert Settings().roots == (Path("/models"), Path("/more models"))
    monkeypatch.setenv("TOUCHSTONE_ROOTS", "models")
    with pytest.raises(ValidationError, match="absolute"):
        Settings()


def test_everything_is_closed_by_default() -> None:
    settings = Settings()
    assert (settings.roots, settings.hub_enabled, settings.hub_token) == ((), False, None)


def test_the_token_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOUCHSTONE_HUB_TOKEN", "hf_secret")
    assert Settings().hub_token is not None
    assert "hf_secret" not in repr(Settings()) + Settings().model_dump_json()


@pytest.mark.parametrize(
    "endpoint", ["hub.acme", "ftp://hub", "https://", "https://hub/", "https://me:word@hub", "https://a b"]
)
def test_endpoints_that_are_none(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="hub_endpoint"):
        Settings(hub_endpoint=endpoint)


@pytest.mark.parametrize("endpoint", ["https://hub.acme", "http://127.0.0.1:8080", "https://acme/mirror/hub"])
def test_endpoints(endpoint: str) -> None:
    assert Settings(hub_endpoint=endpoint).hub_endpoint == endpoint
