"""Blobs: immutable files named by the SHA-256 of what is in them, wherever fsspec can write."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path
from typing import Any

import fsspec

from detectors.errors import StoreError


class Blobs:
    """A content-addressed store.

    Args:
        url: a directory, or any URL that fsspec can write below (`s3://bucket/prefix`).
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._files, self._root = fsspec.core.url_to_fs(url)

    def put(self, data: bytes) -> str:
        """The digest of `data`, once it is kept: written to a name of its own, then renamed.

        Raises:
            StoreError: if it cannot be written; nothing is left under the digest.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        partial = f"{path}.{uuid.uuid4().hex}"
        try:
            if self._files.exists(path):
                return digest
            self._files.makedirs(self._files._parent(path), exist_ok=True)
            self._write(partial, data)
            self._files.mv(partial, path)
            _sync_directory(Path(path).parent)
        except OSError as error:
            self._drop(partial)
            raise StoreError(
                f"{self._url!r} does not take {len(data)} bytes: {error}; free space there or name another place"
            ) from error
        return digest

    def get(self, digest: str) -> bytes:
        """What is kept under a digest.

        Raises:
            StoreError: if it is not there, or is not what its name says.
        """
        try:
            data: bytes = self._files.cat_file(self._path(digest))
        except OSError as error:
            raise StoreError(f"the blob {digest} cannot be read from {self._url!r}: {error}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise StoreError(f"the blob {digest} in {self._url!r} is damaged; restore it from a backup")
        return data

    def _path(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest}"

    def _write(self, path: str, data: bytes) -> None:
        with self._files.open(path, "wb") as file:
            file.write(data)
            file.flush()
            _sync(file)

    def _drop(self, path: str) -> None:
        try:
            self._files.rm_file(path)
        except OSError:
            return


def _sync(file: Any) -> None:
    """To the disk, where it is one."""
    raw = getattr(file, "f", file)
    try:
        os.fsync(raw.fileno())
    except (AttributeError, OSError):
        return


def _sync_directory(path: Path) -> None:
    """The new name to the disk, where it is one."""
    if not path.is_dir():
        return
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
