"""Local directories: only below the configured roots, and noticed when they change.

What confines a reference is the path with every link resolved, compared with the root with every link resolved. A path
that is outside as it is written is refused before the disk is asked, so that nobody learns what lies elsewhere.

A directory cannot be pinned as a commit can. Its fingerprint covers path, size and time of change of every file, which
costs no reading; what was scanned is told by the digest over the files' bytes that the worker's gate takes
(docs/reference/models.md). Whoever can write below a root can forge times, not that digest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from app.core.registries.reference import quoted
from detectors.errors import ModelReferenceError, ReferenceOutsideRoots

MAX_ENTRIES = 10_000


def locate(path: Path, roots: Sequence[Path]) -> Path:
    """The one directory below a root that a path names, with all links resolved.

    Args:
        path: absolute, or relative to whichever root holds it.
        roots: absolute directories.

    Raises:
        ReferenceOutsideRoots: if no root is configured, or the path or a link in it leads out of all of them.
        ModelReferenceError: if there is no such directory, or a relative path is there below several roots.
    """
    if not roots:
        raise ReferenceOutsideRoots(
            f"{quoted(str(path))} is a local directory, and this service has no root below which models may lie; "
            "its operator sets TOUCHSTONE_ROOTS to the directories that hold models"
        )
    found = candidates(path, roots)
    if len(found) > 1:
        raise ModelReferenceError(
            f"{quoted(str(path))} is there more than once: {', '.join(quoted(str(it)) for it in found)}; "
            "give the absolute path of the one that is meant"
        )
    if not found:
        raise ModelReferenceError(
            f"{quoted(str(path))} is no directory below {_shown(roots)}; give a directory that is, or hf:org/name for "
            "a model of a hub"
        )
    return found[0]


def candidates(path: Path, roots: Sequence[Path]) -> list[Path]:
    """Every directory that a path names below a root, with all links resolved.

    Raises:
        ReferenceOutsideRoots: if the path, or a link in it, leads out of all roots.
    """
    if path.is_absolute() and not any(path.is_relative_to(it) for root in roots for it in (root, root.resolve())):
        raise _outside(path, roots)
    places = [path] if path.is_absolute() else [root / path for root in roots]
    found = dict.fromkeys(place.resolve() for place in places if os.path.isdir(place))
    if any(root_of(place, roots) is None for place in found):
        raise _outside(path, roots)
    return list(found)


def root_of(resolved: Path, roots: Sequence[Path]) -> Path | None:
    """The root, resolved, that a resolved path lies strictly below."""
    return next((root.resolve() for root in roots if root.resolve() in resolved.parents), None)


def _outside(path: Path, roots: Sequence[Path]) -> ReferenceOutsideRoots:
    return ReferenceOutsideRoots(
        f"{quoted(str(path))} does not lie below {_shown(roots)}, or a link leads out of it; "
        "give a directory that lies below, or let the operator add a root"
    )


def _shown(roots: Sequence[Path]) -> str:
    return " or ".join(quoted(str(root)) for root in roots)


def fingerprint(directory: Path, roots: Sequence[Path]) -> str:
    """SHA-256 over relative path, size and modification time (nanoseconds) of every visible file, sorted by path.

    Args:
        directory: as `locate` gives it.
        roots: no link in the directory may lead out of the one that it lies below.

    Raises:
        ModelReferenceError: if the directory is empty, cannot be read, or is no single model.
        ReferenceOutsideRoots: if a link in it leads out of the root.
    """
    entries = sorted(_files(directory))
    if not entries:
        raise ModelReferenceError(f"{quoted(str(directory))} is empty; give a directory that holds a model")
    root, digest = root_of(directory, roots), hashlib.sha256()
    for entry in entries:
        target = _target(Path(entry), root)
        digest.update(b"%s\0%d\0%d\0" % (os.fsencode(entry)[len(os.fsencode(directory)) :], *target))
    return digest.hexdigest()


def _files(directory: Path) -> Iterator[str]:
    """Visible files below a directory, and links, which are not followed."""
    seen = 0
    for folder, folders, names in os.walk(directory, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        seen += len(folders) + len(names)
        if seen > MAX_ENTRIES:
            raise ModelReferenceError(
                f"{quoted(str(directory))} holds more than {MAX_ENTRIES} files; give the directory of one model"
            )
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        yield from (os.path.join(folder, name) for name in (*links, *names) if not name.startswith("."))


def _target(entry: Path, root: Path | None) -> tuple[int, int]:
    """Size and modification time of what an entry is or leads to."""
    try:
        resolved = entry.resolve(strict=True)
        if root is None or root not in resolved.parents:
            raise ReferenceOutsideRoots(
                f"{quoted(str(entry))} is a link that leads out of {quoted(str(root))}; replace it with a copy"
            )
        facts = resolved.stat()
    except (OSError, RuntimeError) as error:
        raise ModelReferenceError(
            f"{quoted(str(entry))} cannot be read, or is a link to nothing; copy the model again"
        ) from error
    return facts.st_size, facts.st_mtime_ns


def _unreadable(error: OSError) -> NoReturn:
    raise ModelReferenceError(f"{quoted(str(error.filename))} cannot be read ({error.strerror}); check its permissions")
