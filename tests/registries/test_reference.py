"""References as text: what is one, what is none, and what the error says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.registries.hub import WANTED
from app.core.registries.reference import MAX_LENGTH, DirectoryReference, HubReference, parse
from app.core.scanning import PROJECT
from app.core.settings import Settings
from detectors.errors import InputError, ModelReferenceError, ReferenceNotSupported, ReferenceOutsideRoots

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("/models/amber", "/models/amber"),
        ("amber", "amber"),
        ("team/amber v2", "team/amber v2"),
        ("./amber", "amber"),
        ("/models/ökonomie@home", "/models/ökonomie@home"),
        ("file:///models/amber", "/models/amber"),
        ("FILE:///models/a%20b", "/models/a b"),
    ],
)
def test_directories(reference: str, path: str) -> None:
    assert parse(reference) == DirectoryReference(Path(path))


@pytest.mark.parametrize(
    ("reference", "named"),
    [
        ("hf:acme/amber", HubReference("acme/amber")),
        ("hf:acme/amber@main", HubReference("acme/amber", "main")),
        ("hf:acme/amber@refs/pr/3", HubReference("acme/amber", "refs/pr/3")),
        ("HF:a.c-me_/Am.b-er_1@v1.0+x", HubReference("a.c-me_/Am.b-er_1", "v1.0+x")),
    ],
)
def test_models_of_a_hub(reference: str, named: HubReference) -> None:
    assert parse(reference) == named
    assert parse(str(named)) == named


@pytest.mark.parametrize(
    ("revision", "immovable"), [(None, False), ("main", False), (COMMIT, True), (COMMIT[:39], False), ("a" * 41, False)]
)
def test_only_a_whole_commit_does_not_move(revision: str | None, immovable: bool) -> None:
    assert HubReference("acme/amber", revision).immovable is immovable


@pytest.mark.parametrize(
    "reference",
    ["", " ", " amber", "amber\n", "a\0b", "a\tb", "a\u202eb", "a\u200bb", "a\ud800b", "a\u00a0b", "a" * 1025],
)
def test_what_is_no_plain_text_is_refused_and_made_visible(reference: str) -> None:
    with pytest.raises(ModelReferenceError, match="1 to 1024 printable characters") as refused:
        parse(reference)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "reference",
    [
        *("hf:amber", "hf:", "hf:/", "hf:a/b/c", "hf://acme/amber", "hf:../amber", "hf:acme/..", "hf:acme/.hidden"),
        *("hf:acme/a--b", "hf:acme/a.git", "hf:acme/a b", "hf:-acme/a", "hf:acme/ä", f"hf:acme/{'a' * 97}", "hf:@main"),
    ],
)
def test_names_that_no_hub_has(reference: str) -> None:
    with pytest.raises(ModelReferenceError, match=r"must be hf:org/name\[@revision\]"):
        parse(reference)


@pytest.mark.parametrize(
    "revision", ["", "a..b", "../main", "/main", "main/", "a//b", "-x", ".x", "a b", "a@b", "a?b", "a#b", "a" * 256]
)
def test_revisions_that_git_or_an_address_would_misread(revision: str) -> None:
    with pytest.raises(ModelReferenceError, match="the revision must be"):
        parse(f"hf:acme/amber@{revision}")


@pytest.mark.parametrize(
    "reference", ["..", "../amber", "/models/../etc", "amber/..", "a/../b", "file:///a/../b", "file:///a/%2e%2e/b"]
)
def test_climbing_is_refused(reference: str) -> None:
    with pytest.raises(ReferenceOutsideRoots, match="climbs"):
        parse(reference)


@pytest.mark.parametrize(
    "reference",
    [
        *("file:amber", "file://host/models/amber", "file:///a?b", "file:///a#b", "file:///a%00b", "file:///a%0Ab"),
        *("file:///a%ff", "file:///a%ed%a0%80", "file://[", "file:"),
    ],
)
def test_file_references_that_name_no_plain_path(reference: str) -> None:
    with pytest.raises(ModelReferenceError, match="file:///absolute/path"):
        parse(reference)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("models:/amber/3", "MLflow, which is not supported yet"),
        ("models:/amber@champion", "MLflow, which is not supported yet"),
        ("s3://bucket/amber", "S3, which is not supported yet"),
        ("https://hub/acme/amber", "unknown scheme `https`"),
        ("C:\\models\\amber", "unknown scheme `c`"),
    ],
)
def test_other_registries_are_refused_by_name(reference: str, says: str) -> None:
    with pytest.raises(ReferenceNotSupported, match=says) as refused:
        parse(reference)
    assert "hf:org/name" in str(refused.value)


@given(st.text(max_size=40) | st.from_regex(r"(hf:|file:///|/)?[a-z./@%]{0,30}", fullmatch=True))
def test_every_text_is_a_reference_that_stays_put_or_an_error_of_the_callers(text: str) -> None:
    try:
        named = parse(text)
    except InputError:
        return
    assert isinstance(named, HubReference) or ".." not in named.path.parts


@pytest.mark.parametrize(
    "field", ["roots", *(name for name in Settings.model_fields if name.startswith(("hub_", "fetch_")))]
)
def test_every_setting_is_on_the_page(field: str) -> None:
    page = (PROJECT / "docs" / "reference" / "references.md").read_text(encoding="utf-8")
    assert f"\n| `TOUCHSTONE_{field.upper()}` |" in page


def test_what_the_page_says_of_limits_is_so() -> None:
    page = (PROJECT / "docs" / "reference" / "references.md").read_text(encoding="utf-8")
    assert f"up to {MAX_LENGTH:,} printable characters" in page
    assert all(f"`{pattern}`" in page for pattern in WANTED)
    settings = Settings()
    assert f"| {settings.hub_timeout_s:g} | seconds" in page
    assert f"| {settings.fetch_cap_bytes // 2**30} GiB | size" in page
