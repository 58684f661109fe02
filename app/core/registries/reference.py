"""How a caller names a model. Parsing touches neither the disk nor the network.

    /models/amber, file:///models/amber, amber, team/amber    a directory below a configured root
    hf:org/name, hf:org/name@revision                         a model of a Hugging Face hub

A reference is an attacker's text: it is bounded, printable, and of one of these forms, or it is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # exported, unseen by mypy

from app.core.render.visible import visible
from detectors.errors import ModelReferenceError, ReferenceNotSupported, ReferenceOutsideRoots

MAX_LENGTH = 1024
SUPPORTED = "give a directory (/models/name, or a name below a configured root) or hf:org/name[@revision]"
LATER = {"models": "MLflow", "s3": "S3"}
"""Schemes that are planned, by what they stand for."""

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)")
REVISION = re.compile(r"(?!.*(\.\.|//|/$))[A-Za-z0-9][A-Za-z0-9._/+-]{0,254}")
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class DirectoryReference:
    """A directory: absolute, or relative to a configured root."""

    path: Path


@dataclass(frozen=True)
class HubReference:
    """A model of a hub; without a revision the head of its default branch."""

    repo: str
    revision: str | None = None

    @property
    def immovable(self) -> bool:
        """Whether the revision is a whole commit hash, which no push can move."""
        return self.revision is not None and COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        return f"hf:{self.repo}" + (f"@{self.revision}" if self.revision else "")


Reference = DirectoryReference | HubReference


def quoted(text: str) -> str:
    """A caller's or a model's text as it may stand in a message."""
    return f"`{visible(text, 200)}`"


def parse(reference: str) -> Reference:
    """Reads a reference.

    Raises:
        ModelReferenceError: if it is no reference at all.
        ReferenceNotSupported: if it names a registry that is not read.
        ReferenceOutsideRoots: if it climbs with `..`.
    """
    if not 0 < len(reference) <= MAX_LENGTH or not reference.isprintable() or reference != reference.strip():
        raise ModelReferenceError(
            f"a model reference must be 1 to {MAX_LENGTH} printable characters without blanks around them, got "
            f"{quoted(reference)} of {len(reference)}; {SUPPORTED}"
        )
    found = SCHEME.fullmatch(reference)
    if found is None:
        return _directory(reference, reference)
    scheme, rest = found[1].lower(), found[2]
    if scheme == "hf":
        return _hub(rest, reference)
    if scheme == "file":
        return _directory(_path_of_uri(reference), reference)
    raise _not_supported(scheme, reference)


def _directory(path: str, reference: str) -> DirectoryReference:
    if ".." in PurePosixPath(path).parts:
        raise ReferenceOutsideRoots(
            f"the reference {quoted(reference)} climbs with `..`, wanted the path of the model itself; "
            "write the path out"
        )
    return DirectoryReference(Path(path))


def _path_of_uri(reference: str) -> str:
    """The path of a `file:` URI. Percent signs can hide what a plain path must not hold, so it is looked at again."""
    try:
        uri = urlsplit(reference)
        path = unquote(uri.path, errors="strict")
    except ValueError:  # no URI, or bytes that are not UTF-8
        uri, path = urlsplit(""), ""
    if uri.netloc or uri.query or uri.fragment or not path.startswith("/") or not path.isprintable():
        raise ModelReferenceError(
            f"a file reference must be file:///absolute/path in UTF-8, got {quoted(reference)}; give the plain path"
        )
    return path


def _hub(rest: str, reference: str) -> HubReference:
    repo, at, revision = rest.partition("@")
    try:
        validate_repo_id(repo)
    except HFValidationError:
        repo = ""
    if repo.count("/") != 1:
        raise ModelReferenceError(
            f"a model of a hub must be hf:org/name[@revision], both names of up to 96 letters, digits, '-', '_' and "
            f"'.', got {quoted(reference)}; copy the name from the model's page"
        )
    if at and not REVISION.fullmatch(revision):
        raise ModelReferenceError(
            f"the revision must be a branch, a tag or a commit in letters, digits and '._/+-', got "
            f"{quoted(reference)}; correct what follows the '@', or leave it out for the default branch"
        )
    return HubReference(repo, revision or None)


def _not_supported(scheme: str, reference: str) -> ReferenceNotSupported:
    if scheme in LATER:
        return ReferenceNotSupported(
            f"{quoted(reference)} is a model in {LATER[scheme]}, which is not supported yet; {SUPPORTED}"
        )
    return ReferenceNotSupported(f"{quoted(reference)} has the unknown scheme {quoted(scheme)}; {SUPPORTED}")
