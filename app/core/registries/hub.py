"""Models of a Hugging Face hub: a revision is resolved to a commit once; a commit's files are fetched whole or not.

Off unless `hub_enabled` is set. Only the settings speak: address and token are given to the library with every call, a
token that lies about on the machine is not sent, and `HF_HUB_OFFLINE` in the environment, which is there to keep model
libraries quiet, does not decide. Nothing is told to the hub of this machine but the name of this program.

What the hub says is not believed: file names are checked before one becomes a path, a file may not send more than it
declared, and every file is compared with the hash that the listing gives for it (SHA-256 of large files, git's blob id
of small ones). That the listing belongs to the commit is the hub's word. Only files that a scan reads are fetched;
pickles and Python files never are.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import httpx2
from filelock import FileLock
from huggingface_hub import HfApi, hf_hub_download, set_client_factory
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]  # exported, unseen by mypy
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.core.registries.reference import COMMIT, HubReference, quoted
from app.core.settings import Settings
from detectors.errors import (
    AccessDenied,
    HubUnavailable,
    IncompleteModelError,
    MachineError,
    ModelReferenceError,
    ModelTooLarge,
    ReferenceNotSupported,
    TouchstoneError,
    UnsafeFileError,
)

WANTED = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "vocab.txt", "merges.txt", "README.md")
"""Files at the top of a repository that are fetched; what lies in its folders no loader reads."""

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
CONNECT_S = 30.0
"""Seconds for requests of the library that name no limit themselves."""

OVERHEAD = 3
"""How many times its size a file may send, over all of the library's attempts, before it is given up."""

SPARE_BYTES = 2**28
"""Disk that must stay free beside what is fetched."""

CHUNK = 2**20


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class HubFile(_Answer):
    """A file of a commit.

    Attributes:
        size: bytes.
        blob_id: SHA-1 that git names it by.
        sha256: of its bytes, where it is kept outside of git.
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    size: Annotated[int, Field(ge=0)]
    blob_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None


class Snapshot(_Answer):
    """What a revision is at this moment: a commit, and all files of it."""

    commit: Annotated[str, StringConstraints(pattern=f"^{COMMIT.pattern}$")]
    files: tuple[HubFile, ...]

    @property
    def wanted(self) -> tuple[HubFile, ...]:
        """The files that a scan reads."""
        return tuple(
            file for file in self.files if "/" not in file.name and any(fnmatch(file.name, one) for one in WANTED)
        )

    @property
    def size(self) -> int:
        """Bytes of the wanted files."""
        return sum(file.size for file in self.wanted)


def look_up(reference: HubReference, settings: Settings) -> Snapshot:
    """Asks the hub for the commit that a revision is now.

    Raises:
        ReferenceNotSupported: if hubs are switched off.
        ModelReferenceError: if the hub has no such model or revision.
        AccessDenied: if it does not give the model to our token.
        UnsafeFileError: if the weights are pickles only, or a file name is a trick.
        IncompleteModelError: if there are no weights.
        ModelTooLarge: if there is more to fetch than `fetch_cap_bytes`.
        HubUnavailable: if the hub is out of reach, hangs or answers nonsense.
    """
    api = _api(settings)
    with _translated(reference, settings):
        info = api.model_info(
            reference.repo, revision=reference.revision, files_metadata=True, timeout=settings.hub_timeout_s
        )
        snapshot = Snapshot(commit=str(info.sha), files=tuple(_file(it) for it in info.siblings or ()))
        if reference.immovable and snapshot.commit != reference.revision:
            raise ValueError(f"asked for commit {reference.revision}, got {snapshot.commit}")
        if info.gated:
            api.auth_check(reference.repo)
    _check_names(snapshot, reference)
    _check_weights(snapshot, reference)
    _check_size(snapshot, reference, settings)
    return snapshot


def download(reference: HubReference, settings: Settings, watch: Callable[[], None]) -> Path:
    """The directory of a commit's files, fetched unless it is there.

    A second process that wants the same commit waits for the first. What a process that died had fetched whole is
    kept for the next one.

    Args:
        reference: with a commit as its revision.
        watch: called between chunks and while it waits; what it raises stops the download.

    Raises:
        MachineError: if the disk does not take it.
        TouchstoneError: as `look_up` does.
    """
    place = place_of(reference, settings)
    if place.is_dir():
        return place
    with _translated(reference, settings):
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place, watch):
            if not place.is_dir():
                partial = place.with_name(f".{place.name}.partial")
                _fill(partial, reference, settings, watch)
                partial.rename(place)
    return place


@contextmanager
def _alone(place: Path, watch: Callable[[], None]) -> Iterator[None]:
    """Keeps other processes from fetching the same; a process that dies lets go."""

    def give_up() -> bool:
        watch()
        return False

    with FileLock(place.with_name(f".{place.name}.lock")).acquire(cancel_check=give_up):
        yield


def place_of(reference: HubReference, settings: Settings) -> Path:
    """Where a commit's files lie, or will. The layout is that of a Hugging Face cache: its names tell the model."""
    model = "models--" + reference.repo.replace("/", "--")
    return settings.fetched_dir / model / "snapshots" / str(reference.revision)


def check_switched_on(settings: Settings) -> None:
    """Asks nobody.

    Raises:
        ReferenceNotSupported: if hubs are switched off.
    """
    if not settings.hub_enabled:
        raise ReferenceNotSupported(
            "models of a hub are switched off on this service, so no request leaves it; give a local directory, or let "
            "the operator set TOUCHSTONE_HUB_ENABLED=true"
        )


def _api(settings: Settings) -> HfApi:
    check_switched_on(settings)
    _own_client()
    return HfApi(endpoint=settings.hub_endpoint, token=_token(settings))


def _token(settings: Settings) -> str | bool:
    """The configured token, or False, which keeps the library from looking for one."""
    return settings.hub_token.get_secret_value() if settings.hub_token else False


@cache
def _own_client() -> None:
    """Lets the library use our client in this process: its own one obeys HF_HUB_OFFLINE and waits without limit."""
    set_client_factory(
        lambda: httpx2.Client(follow_redirects=True, timeout=CONNECT_S, event_hooks={"request": [_anonymous]})
    )


def _anonymous(request: httpx2.Request) -> None:
    """The library's name for itself lists what is installed here."""
    request.headers["user-agent"] = "touchstone"


def _file(sibling: Any) -> HubFile:
    return HubFile(
        name=sibling.rfilename,
        size=sibling.size,
        blob_id=sibling.blob_id,
        sha256=sibling.lfs.sha256 if sibling.lfs else None,
    )


def _check_names(snapshot: Snapshot, reference: HubReference) -> None:
    for file in snapshot.files:
        path = PurePosixPath(file.name)
        if path.is_absolute() or ".." in path.parts or "\\" in file.name or not file.name.isprintable():
            raise UnsafeFileError(
                f"{quoted(str(reference))} has a file called {quoted(file.name)}, which leads out of a directory; "
                "nothing is fetched from such a repository: have the file renamed"
            )


def _check_weights(snapshot: Snapshot, reference: HubReference) -> None:
    if any(file.name.endswith(".safetensors") for file in snapshot.wanted):
        return
    pickles = sorted(file.name for file in snapshot.files if file.name.endswith(PICKLES))
    if pickles:
        raise UnsafeFileError(
            f"{quoted(str(reference))} has its weights in {quoted(pickles[0])} and no safetensors; such files are "
            "pickles, which run code when they are opened, so they are never fetched: have it converted to safetensors"
        )
    raise IncompleteModelError(
        f"{quoted(str(reference))} has no weights in safetensors beside its README; give a repository that holds them "
        "at its top"
    )


def _check_size(snapshot: Snapshot, reference: HubReference, settings: Settings) -> None:
    if snapshot.size > settings.fetch_cap_bytes:
        raise ModelTooLarge(
            f"{quoted(str(reference))} has {snapshot.size} bytes to fetch, this service fetches models of up to "
            f"{settings.fetch_cap_bytes}; its operator can raise TOUCHSTONE_FETCH_CAP_BYTES"
        )


def _fill(partial: Path, reference: HubReference, settings: Settings, watch: Callable[[], None]) -> None:
    """Fetches what is not there yet, file by file.

    The library's `snapshot_download` takes a directory that is not empty for whole when it cannot reach the hub.
    """
    snapshot = look_up(reference, settings)
    partial.mkdir(exist_ok=True)
    _check_disk(partial, snapshot.size)
    for file in snapshot.wanted:
        watch()
        hf_hub_download(
            reference.repo,
            file.name,
            revision=snapshot.commit,
            local_dir=partial,
            cache_dir=partial / ".cache" / "none",  # else a copy in the user's own cache is taken
            endpoint=settings.hub_endpoint,
            token=_token(settings),
            etag_timeout=settings.hub_timeout_s,
            tqdm_class=_meter(file, watch),
        )
        _verify(partial / file.name, file)
    shutil.rmtree(partial / ".cache", ignore_errors=True)


def _check_disk(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed + SPARE_BYTES:
        raise MachineError(
            f"{quoted(str(directory))} has {free} bytes free, wanted {needed} for the model and {SPARE_BYTES} to "
            "spare; free some space, then try again"
        )


def _meter(file: HubFile, watch: Callable[[], None]) -> type[tqdm]:
    """A progress bar that shows nothing: it stops a file that sends more than it should, and lets `watch` look."""

    class Meter(tqdm):
        received = 0

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"disable": True})  # type: ignore[no-untyped-call]  # tqdm has no types

        def update(self, n: float | None = 1) -> None:
            watch()
            self.received += max(0, int(n or 0))
            if self.received > OVERHEAD * file.size + CHUNK:
                raise HubUnavailable(
                    f"{quoted(file.name)} should have {file.size} bytes and the hub sent more than {self.received}; "
                    "try again later"
                )

    return Meter


def _verify(path: Path, file: HubFile) -> None:
    """Whether a fetched file is the one that was listed; what is not is removed. Also puts it on the disk for good.

    Raises:
        HubUnavailable: if it is another.
    """
    digest = hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
        os.fsync(stream.fileno())
    if digest.hexdigest() != (file.sha256 or file.blob_id):
        path.unlink()
        raise HubUnavailable(f"{quoted(file.name)} arrived damaged: its hash is not the one listed; try again")


@contextmanager
def _translated(reference: HubReference, settings: Settings) -> Iterator[None]:
    """Turns what the library raises, at an answer that is no hub's too, into an error of ours."""
    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _meaning(error, reference, settings) from error


def _meaning(error: Exception, reference: HubReference, settings: Settings) -> TouchstoneError:
    cause = error if isinstance(error, HfHubHTTPError) else error.__cause__ or error
    status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
    hub = quoted(settings.hub_endpoint or "the hub")
    if isinstance(cause, GatedRepoError):
        return _denied(reference, hub, "is gated")
    if isinstance(cause, RevisionNotFoundError):
        return ModelReferenceError(
            f"{hub} has no revision {quoted(reference.revision or 'main')} of {quoted(reference.repo)}; give a branch, "
            "a tag or a commit that it has"
        )
    if isinstance(cause, RepositoryNotFoundError) or status == 404:
        return ModelReferenceError(
            f"{hub} has no model {quoted(reference.repo)}, or does not show it to this service's token; check the name"
        )
    if status in (401, 403):
        return _denied(reference, hub, f"was refused with status {status}")
    if isinstance(cause, OSError) and cause.errno is not None:
        return MachineError(
            f"{quoted(str(settings.fetched_dir))} cannot be written ({cause.strerror}); free space or correct its "
            "permissions, then try again"
        )
    said = f"status {status}" if status else f"{type(cause).__name__}: {cause}"
    return HubUnavailable(
        f"{hub} could not be asked for {quoted(str(reference))} ({quoted(said)}); see that it is up and in reach, then "
        "try again"
    )


def _denied(reference: HubReference, hub: str, why: str) -> AccessDenied:
    return AccessDenied(
        f"{quoted(str(reference))} {why} by {hub}; let the operator ask for access and set TOUCHSTONE_HUB_TOKEN to a "
        "token that has it"
    )
