"""A model directory's tokenizer and chat template, read without the libraries that run them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectors.engine.files import (
    CONFIG_LIMIT,
    TOKENIZER_LIMIT,
    load_json,
    need,
    optional_json,
    quoted,
    read_bounded,
    refuse_redirects,
)
from detectors.engine.rendering import find_fault
from detectors.errors import TemplateError, UnsafeFileError

COSMETIC = frozenset(
    {"chat_template", "name_or_path", "is_local", "local_files_only", "backend", "special_tokens_map_file"}
)
"""Keys of tokenizer_config.json that change no token; all others enter the content digest."""


@dataclass(frozen=True)
class Tokenizer:
    """What the checks and the digest need of a tokenizer.

    Attributes:
        directory: where tokenizer.json lies: the subject's own, or its base's.
        definition: tokenizer.json.
        settings: tokenizer_config.json and special_tokens_map.json without the chat template.
        tokens: token id to token, added tokens included.
        template: the chat template. An adapter may have its own beside the base's tokenizer: a loader sets it.
    """

    directory: Path
    definition: Mapping[str, Any]
    settings: Mapping[str, Any]
    tokens: Mapping[int, str]
    template: str | None

    @property
    def specials(self) -> dict[str, str]:
        """The special tokens that a chat template may name."""
        return _specials(self.settings)

    def digest_parts(self) -> dict[str, Any]:
        """What enters the content digest."""
        return {"tokenizer": self.definition, "tokenizer_settings": self.settings, "template": self.template}


def read_tokenizer(files: Mapping[str, Path], path: Path, inherited: Tokenizer | None = None) -> Tokenizer:
    """The tokenizer and chat template of a model directory.

    Args:
        files: what `list_files` found.
        path: the directory.
        inherited: of an adapter, its base's tokenizer; used for what the adapter's directory lacks.

    Raises:
        IncompleteModelError: if there is no tokenizer.json and none to inherit.
        UnsafeFileError: if a file is too large, broken, or leads a loader elsewhere.
        TemplateError: if the chat template cannot be used.
    """
    settings = optional_json(files, "tokenizer_config.json")
    refuse_redirects(settings, "tokenizer_config.json")
    template = _own_template(files, settings)
    specials = _specials(settings)
    if "tokenizer.json" not in files and inherited is not None:
        _check_template(template, specials or _specials(inherited.settings))
        return dataclasses.replace(inherited, template=inherited.template if template is None else template)
    need(files, "tokenizer.json", path)
    _check_template(template, specials)
    definition = load_json(files["tokenizer.json"], TOKENIZER_LIMIT)
    settings = {**optional_json(files, "special_tokens_map.json"), **_functional(settings)}
    if template is None and inherited is not None:
        template = inherited.template
    return Tokenizer(path.absolute(), definition, settings, read_tokens(definition), template)


def _functional(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in COSMETIC}


def read_tokens(definition: Mapping[str, Any]) -> dict[int, str]:
    """Token id to token of a tokenizer.json: BPE, WordPiece, WordLevel and Unigram, with its added tokens.

    Raises:
        UnsafeFileError: if the file maps anything but texts to whole numbers, or one id to two tokens.
    """
    model, added = definition.get("model"), definition.get("added_tokens") or []
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    try:
        pairs = _pairs(vocabulary)
        tokens = {number: token for token, number in pairs}
        if len(tokens) < len(pairs) or not all(type(number) is int and number >= 0 for number in tokens):
            raise ValueError
        tokens |= {int(entry["id"]): str(entry["content"]) for entry in added}
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise UnsafeFileError(
            "tokenizer.json has no vocabulary that maps each token to a number of its own; restore the file"
        ) from error
    return tokens


def _pairs(vocabulary: Any) -> list[tuple[str, int]]:
    if isinstance(vocabulary, dict):
        return list(vocabulary.items())
    if isinstance(vocabulary, list):
        return [(str(piece[0]), number) for number, piece in enumerate(vocabulary)]
    raise ValueError


def _own_template(files: Mapping[str, Path], settings: Mapping[str, Any]) -> str | None:
    if "chat_template.jinja" in files:
        return read_bounded(files["chat_template.jinja"], CONFIG_LIMIT).decode("utf-8", errors="replace")
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = {str(entry.get("name")): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default", named)
    if template is None or isinstance(template, str):
        return template
    raise TemplateError(
        f"tokenizer_config.json has the chat_template {quoted(template)}; wanted text, or a list with one "
        "named 'default'"
    )


def _specials(settings: Mapping[str, Any]) -> dict[str, str]:
    found = {"bos_token": "", "eos_token": ""} if settings else {}
    for key in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = settings.get(key)
        text = value.get("content") if isinstance(value, dict) else value
        found |= {key: text} if isinstance(text, str) else {}
    return found


def _check_template(template: str | None, specials: Mapping[str, str]) -> None:
    if template is None:
        return
    fault = find_fault(template, specials)
    if fault is not None:
        raise TemplateError(
            f"the chat template {quoted(fault)}; wanted one that renders a plain chat: correct or remove it"
        )
