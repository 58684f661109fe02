"""Which base a subject says it came from: an adapter's configuration, or the front matter of a model card.

It is the subject's own word, and only saves typing: the worker's gate checks that the subject descends from the base
(docs/reference/models.md). The word is an attacker's text, so what it may lead to is what a caller could have named:
a model of the hub, where hubs are switched on, or a directory below a root.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from app.core.registries.directories import candidates, locate
from app.core.registries.reference import HubReference, parse, quoted
from app.core.registries.resolving import Pinned
from app.core.settings import Settings
from detectors.errors import BaseNotInferred, InputError

ADAPTER, CARD = "adapter_config.json", "README.md"
FILE_LIMIT = 2**20
FRONT_MATTER_LIMIT = 2**16
"""Characters of a model card's front matter; YAML is slow to read."""

FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|$)", re.DOTALL)


def infer_base(subject: Pinned, path: Path, settings: Settings) -> str:
    """A reference to the base that a subject names, to be resolved like one that a caller gave.

    Args:
        subject: what was pinned.
        path: its files, as `fetch` gives them.

    Raises:
        BaseNotInferred: if it names none, several, or one that cannot be had here.
    """
    try:
        name, revision = _adapters_base(path) or _cards_base(path) or (None, None)
        if name is None:
            raise BaseNotInferred(f"neither {ADAPTER} nor the front matter of {CARD} names one")
        return _reference(name, revision, path, settings)
    except InputError as error:
        raise BaseNotInferred(
            f"the base of {quoted(subject.reference)} cannot be inferred: {error}. Give it yourself, as `base`"
        ) from error


def _adapters_base(path: Path) -> tuple[str, str | None] | None:
    text = _text(path / ADAPTER)
    if text is None:
        return None
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BaseNotInferred(f"{ADAPTER} is not valid JSON") from error
    if not isinstance(settings, dict):
        raise BaseNotInferred(f"{ADAPTER} is no JSON object")
    name, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    return (_word(name, ADAPTER), _word(revision, ADAPTER) if revision else None) if name else None


def _cards_base(path: Path) -> tuple[str, None] | None:
    found = FRONT_MATTER.match(_text(path / CARD) or "")
    if found is None:
        return None
    if len(found[1]) > FRONT_MATTER_LIMIT:
        raise BaseNotInferred(f"the front matter of {CARD} has more than {FRONT_MATTER_LIMIT} characters")
    try:
        data = yaml.load(found[1], Loader=yaml.BaseLoader)  # noqa: S506  # makes strings, lists and mappings only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BaseNotInferred(f"the front matter of {CARD} is not valid YAML") from error
    name = data.get("base_model") if isinstance(data, dict) else None
    if isinstance(name, list) and len(name) == 1:
        name = name[0]
    if isinstance(name, list) and name:
        raise BaseNotInferred(f"{CARD} names {len(name)} bases, as a merge of models does; a scan compares with one")
    return (_word(name, CARD), None) if name else None


def _text(file: Path) -> str | None:
    """The text of a plain file, if it is there."""
    if not file.is_file():
        return None
    try:
        with file.open("rb") as stream:
            raw = stream.read(FILE_LIMIT + 1)
    except OSError as error:
        raise BaseNotInferred(f"{file.name} cannot be read ({error.strerror})") from error
    if len(raw) > FILE_LIMIT:
        raise BaseNotInferred(f"{file.name} is larger than {FILE_LIMIT} bytes")
    return raw.decode("utf-8", errors="replace")


def _word(value: Any, file: str) -> str:
    if not isinstance(value, str):
        raise BaseNotInferred(f"{file} has {quoted(str(value)[:200])} where a name is wanted")
    return value


def _reference(name: str, revision: str | None, subject: Path, settings: Settings) -> str:
    """What a name stands for here. Of two readings of `org/name`, the hub's is exact and a directory's is a guess."""
    named = parse(name)
    if isinstance(named, HubReference):
        return name
    if named.path.is_absolute():
        return str(locate(named.path, settings.roots))
    if settings.hub_enabled and "/" in name:
        return str(parse(f"hf:{name}@{revision}" if revision else f"hf:{name}"))
    return str(_below_roots(named.path, subject, settings))


def _below_roots(name: Path, subject: Path, settings: Settings) -> Path:
    """The one directory `org/name` or `name` directly below a root, other than the subject's own."""
    found = {place for one in (name, Path(name.name)) for place in candidates(one, settings.roots)}
    found.discard(subject.resolve())
    if len(found) != 1:
        places = f"there are {len(found)} such directories" if found else "there is no such directory"
        raise BaseNotInferred(
            f"it names {quoted(str(name))}, but {places} below the configured roots"
            + ("" if settings.hub_enabled else " and models of a hub are switched off")
        )
    return found.pop()
