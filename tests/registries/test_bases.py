"""The base that a subject names: believed only as far as a caller could have named it."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.registries.bases import FILE_LIMIT, FRONT_MATTER_LIMIT, infer_base
from app.core.registries.resolving import fetch, resolve
from app.core.settings import Settings
from detectors.errors import BaseNotInferred
from tests.registries.conftest import FILES, make_model
from tests.registries.hub_server import Hub


@pytest.fixture
def adapter(root: Path) -> Path:
    """A LoRA adapter below the root."""
    made = root / "adapter"
    made.mkdir()
    (made / "adapter_model.safetensors").write_bytes(b"weights")
    return made


def configure(adapter: Path, **settings: Any) -> None:
    (adapter / "adapter_config.json").write_text(json.dumps(settings))


def describe(directory: Path, front_matter: str) -> None:
    (directory / "README.md").write_text(f"---\n{front_matter}\n---\n# A model\n---\nbase_model: evil/other\n---\n")


def inferred(directory: Path, settings: Settings) -> str:
    return infer_base(resolve(str(directory), settings), directory, settings)


def refused(directory: Path, settings: Settings) -> str:
    with pytest.raises(BaseNotInferred, match=r"^the base of `.*` cannot be inferred: .*Give it yourself") as error:
        inferred(directory, settings)
    assert str(error.value).isprintable()
    return str(error.value)


@pytest.mark.parametrize(
    ("settings", "base"),
    [
        ({"base_model_name_or_path": "acme/base"}, "hf:acme/base"),
        ({"base_model_name_or_path": "acme/base", "revision": None}, "hf:acme/base"),
        ({"base_model_name_or_path": "acme/base", "revision": "v1"}, "hf:acme/base@v1"),
        ({"base_model_name_or_path": "hf:acme/base@v1"}, "hf:acme/base@v1"),
    ],
)
def test_an_adapter_names_a_model_of_the_hub(
    settings: dict[str, Any], base: str, adapter: Path, online: Settings
) -> None:
    configure(adapter, **settings)
    assert inferred(adapter, online) == base


@pytest.mark.parametrize(
    "front_matter", ["base_model: acme/base", "base_model:\n- acme/base", 'base_model: ["acme/base"]']
)
def test_a_model_card_names_a_model_of_the_hub(front_matter: str, model: Path, online: Settings) -> None:
    describe(model, f"license: mit\n{front_matter}\ntags: [a]")
    assert inferred(model, online) == "hf:acme/base"


def test_the_configuration_of_an_adapter_goes_before_its_card(adapter: Path, online: Settings) -> None:
    describe(adapter, "base_model: acme/card")
    configure(adapter, base_model_name_or_path=None)
    assert inferred(adapter, online) == "hf:acme/card"
    configure(adapter, base_model_name_or_path="acme/config")
    assert inferred(adapter, online) == "hf:acme/config"


def test_a_fetched_model_names_its_base(hub: Hub, online: Settings) -> None:
    base = hub.push("acme/base", FILES)
    hub.push("acme/amber", FILES)
    subject = resolve("hf:acme/amber", online)
    assert resolve(infer_base(subject, fetch(subject, online), online), online).revision == base


@pytest.mark.parametrize("place", ["base", "acme/base"])
def test_without_a_hub_the_directory_of_that_name_is_taken(
    place: str, root: Path, adapter: Path, local: Settings
) -> None:
    made = make_model(root / place)
    configure(adapter, base_model_name_or_path="acme/base", revision="v1")
    assert inferred(adapter, local) == str(made)


def test_a_plain_name_is_a_directory_with_a_hub_too(root: Path, adapter: Path, online: Settings) -> None:
    made = make_model(root / "base")
    configure(adapter, base_model_name_or_path="base")
    assert inferred(adapter, online) == str(made)


def test_two_directories_of_that_name(root: Path, adapter: Path, local: Settings) -> None:
    make_model(root / "base")
    make_model(root / "acme" / "base")
    configure(adapter, base_model_name_or_path="acme/base")
    assert "there are 2 such directories" in refused(adapter, local)


def test_the_subject_is_not_its_own_base(model: Path, local: Settings) -> None:
    describe(model, f"base_model: acme/{model.name}")
    assert "there is no such directory below the configured roots and models of a hub are switched off" in refused(
        model, local
    )


def test_an_absolute_path_below_a_root(model: Path, adapter: Path, local: Settings) -> None:
    configure(adapter, base_model_name_or_path=str(model))
    assert inferred(adapter, local) == str(model)


@pytest.mark.parametrize("hub", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        *("/etc", "/nowhere/base", "../outside", "link", "file:///etc", "s3://bucket/base", "https://hub/acme/base"),
        *("C:\\base", "acme/base/", "acme/b--c", "a\x1b[31mb/c", "\ud800", "x" * 5000, " ", "acme/../base"),
    ],
)
def test_names_that_a_caller_could_not_have_given(
    name: str, hub: bool, root: Path, adapter: Path, local: Settings
) -> None:
    make_model(root.parent / "outside")
    (root / "link").symlink_to(root.parent / "outside")
    configure(adapter, base_model_name_or_path=name)
    refused(adapter, local.model_copy(update={"hub_enabled": hub}))


@pytest.mark.parametrize("value", [7, True, ["acme/base"], {"a": "b"}])
def test_names_that_are_no_text(value: Any, adapter: Path, online: Settings) -> None:
    configure(adapter, base_model_name_or_path=value)
    assert "where a name is wanted" in refused(adapter, online)
    configure(adapter, base_model_name_or_path="acme/base", revision=value)
    assert "where a name is wanted" in refused(adapter, online)


@pytest.mark.parametrize("revision", ["../x", "a b", "a@b"])
def test_revisions_that_are_none(revision: str, adapter: Path, online: Settings) -> None:
    configure(adapter, base_model_name_or_path="acme/base", revision=revision)
    assert "the revision must be" in refused(adapter, online)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "no JSON object"),
        (" " * (FILE_LIMIT + 1), "larger than"),
    ],
)
def test_a_broken_configuration(text: str, says: str, adapter: Path, online: Settings) -> None:
    (adapter / "adapter_config.json").write_text(text)
    assert says in refused(adapter, online)


@pytest.mark.parametrize(
    ("front_matter", "says"),
    [
        ("license: mit", "names one"),
        ("base_model:", "names one"),
        ("base_model: []", "names one"),
        ("- base_model", "names one"),
        ("base_model: [a/b, c/d]", "names 2 bases"),
        ("base_model: {a: b}", "where a name is wanted"),
        ("base_model: [[a/b]]", "names"),
        ("base_model: 'a", "not valid YAML"),
        ("{" * 5000, "not valid YAML"),
        ("? [a]\n: b\nbase_model: a/b", "not valid YAML"),
        ("base_model: !!python/object/apply:os.getcwd []", "names one"),
        (f"x: {'y' * FRONT_MATTER_LIMIT}\nbase_model: acme/base", "more than"),
    ],
)
def test_cards_that_name_no_base(front_matter: str, says: str, model: Path, online: Settings) -> None:
    describe(model, front_matter)
    assert says in refused(model, online)


@pytest.mark.parametrize(
    "text", ["", "# A model", "---\nbase_model: acme/base", "x\n---\nbase_model: acme/base\n---\n"]
)
def test_cards_without_front_matter(text: str, model: Path, online: Settings) -> None:
    (model / "README.md").write_text(text)
    assert "names one" in refused(model, online)


def test_a_card_from_windows(model: Path, online: Settings) -> None:
    (model / "README.md").write_bytes(b"\xef\xbb\xbf---\r\nbase_model: acme/base\r\n---\r\n\xff")
    assert inferred(model, online) == "hf:acme/base"


def test_no_card(model: Path, online: Settings) -> None:
    (model / "README.md").unlink()
    assert "names one" in refused(model, online)


def test_a_pipe_in_place_of_a_card_is_not_waited_for(model: Path, online: Settings) -> None:
    subject = resolve(str(model), online)
    (model / "README.md").unlink()
    os.mkfifo(model / "README.md")
    with pytest.raises(BaseNotInferred, match="names one"):
        infer_base(subject, model, online)


def test_a_card_that_cannot_be_read(model: Path, online: Settings) -> None:
    subject = resolve(str(model), online)
    (model / "README.md").unlink()
    (model / "README.md").symlink_to("/proc/self/mem")  # opens, and fails to read
    with pytest.raises(BaseNotInferred, match=r"README\.md cannot be read"):
        infer_base(subject, model, online)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(alphabet="ab/:-[]{}&*!?'\"\n #|>%@,", max_size=60))
def test_whatever_a_card_says(name: str, model: Path, online: Settings) -> None:
    describe(model, f"base_model: {name}")
    with suppress(BaseNotInferred):
        assert inferred(model, online).startswith(("hf:", "/"))
