"""A reference is resolved once, to something that cannot move; workers fetch that, whatever the reference says by then.

    reference ──resolve──► Pinned, kept with the scan ──fetch──► files of exactly that ──gate──► digest of the files

A branch that moves while a scan waits changes nothing: the commit was pinned. A directory has no commits, so what is
pinned is a fingerprint, and a directory that no longer has it is refused. Both functions block, for as long as a hub
and a disk take; nothing is created where they raise.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from app.core.registries import hub
from app.core.registries.directories import fingerprint, locate
from app.core.registries.reference import DirectoryReference, HubReference, parse, quoted
from app.core.settings import Settings
from detectors.errors import ModelReferenceError, ReferenceMoved


class Pinned(BaseModel):
    """A reference that was resolved. Its JSON is kept with the scan.

    Attributes:
        reference: as the caller gave it.
        pinned: a reference to the same that does not move: an absolute directory, or `hf:org/name@commit`.
        revision: a directory's fingerprint, or the commit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["directory", "hub"]
    reference: str
    pinned: str
    revision: str


def resolve(reference: str, settings: Settings) -> Pinned:
    """Pins what a reference names now.

    Raises:
        InputError: if it names nothing that this service can scan; the classes of detectors/errors.py say why.
        HubUnavailable: if the hub could not be asked.
    """
    named = parse(reference)
    if isinstance(named, DirectoryReference):
        directory = locate(named.path, settings.roots)
        parse(str(directory))  # where links lead to a name that is no reference, it could not be fetched
        revision = fingerprint(directory, settings.roots)
        return Pinned(kind="directory", reference=reference, pinned=str(directory), revision=revision)
    commit = hub.look_up(named, settings).commit
    return Pinned(kind="hub", reference=reference, pinned=str(HubReference(named.repo, commit)), revision=commit)


def check(reference: str, settings: Settings) -> None:
    """Refuses what could never be resolved, as far as can be said without a hub and without reading a file.

    Raises:
        InputError: as `resolve` does, for the form of a reference, for a directory, and for hubs that are off.
    """
    named = parse(reference)
    if isinstance(named, DirectoryReference):
        locate(named.path, settings.roots)
    else:
        hub.check_switched_on(settings)


def fetch(pinned: Pinned, settings: Settings, watch: Callable[[], None] = lambda: None) -> Path:
    """The directory with the files of what was pinned. A local one is read where it lies; a hub's is downloaded once.

    Args:
        watch: called now and then while files arrive; what it raises stops the download.

    Raises:
        ReferenceMoved: if the directory is not what it was.
        InputError: if the hub, or a change of settings, no longer gives it.
        MachineError: if the hub or the disk fails; what was fetched whole is kept for the next attempt.
    """
    named = parse(pinned.pinned)
    if isinstance(named, HubReference):
        return hub.download(named, settings, watch)
    try:
        directory = locate(named.path, settings.roots)
        now = fingerprint(directory, settings.roots)
    except ModelReferenceError as error:
        raise _moved(pinned, f"it cannot be read any more: {error}") from error
    if now != pinned.revision:
        raise _moved(pinned, "a file came, went, or has another size or time")
    return directory


def _moved(pinned: Pinned, why: str) -> ReferenceMoved:
    return ReferenceMoved(
        f"{quoted(pinned.pinned)} changed while the scan waited ({why}); "
        "submit it again once nothing writes to the directory"
    )
