"""Policies as YAML: read with suspicion, written in full, and the two that come with Touchstone.

A policy is small and its author may be anybody who may open a merge request, so only plain YAML is taken: one mapping,
no anchors, aliases or tags, no key twice, little of everything. `docs/reference/policies.md` explains every rule.
"""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from detectors.errors import PolicyError
from detectors.report import Policy

LIMIT_BYTES = 64 * 2**10
"""Size of a policy; the longest that makes sense is a hundredth of it."""

DEEPEST = 8
"""Mappings and lists inside each other; a policy needs two."""

BUILTIN = ("default", "strict")

_STR = "tag:yaml.org,2002:str"
_WANTED = {"dict_type": "be a mapping", "tuple_type": "be a list", "string_type": "be text (put it in quotes)"}
"""What pydantic calls by the names of JSON."""

_PROBLEMS_SHOWN = 5


class _Plain(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML ships no types
    """YAML without what can hide or multiply text."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if event.anchor or getattr(event, "tag", None):
            raise PolicyError(f"a policy must hold no anchor, alias or tag, got one in {_line(event.start_mark)}")
        if self.depth == DEEPEST:
            raise PolicyError(f"a policy must nest at most {DEEPEST} deep, got more in {_line(event.start_mark)}")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != _STR:
                raise PolicyError(
                    f"names of rules must be plain text, got another kind of key in {_line(key.start_mark)}"
                )
            if key.value in seen:
                raise PolicyError(f"`{_shown(key.value)}` must be given once, got it again in {_line(key.start_mark)}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse_policy(text: str) -> Policy:
    """The policy that a YAML text describes.

    Args:
        text: an attacker's text, at most `LIMIT_BYTES`; `name` is needed, every other rule has a default.

    Raises:
        PolicyError: if it is not plain YAML, or has a rule or a value that is unknown.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > LIMIT_BYTES:
        raise PolicyError(f"a policy must have at most {LIMIT_BYTES:,} bytes, got {size:,}")
    rules = _load(text)
    if not isinstance(rules, dict):
        raise PolicyError(f"a policy must be a mapping of rules to values, got {_shown(repr(rules))}")
    if "name" not in rules:
        raise PolicyError("a policy must have a `name`, got none; it stands beside every verdict")
    try:
        return Policy.model_validate_json(json.dumps(rules, default=repr), strict=True)
    except ValidationError as error:
        raise PolicyError(_problems(error)) from None


def dump_policy(policy: Policy) -> str:
    """The policy as YAML with every rule written out; `parse_policy` reads the same policy from it."""
    return str(yaml.safe_dump(policy.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def builtin_policy(name: str) -> Policy:
    """One of the policies that come with Touchstone, by its name in `BUILTIN`."""
    return parse_policy((files("app.core") / "builtin_policies" / f"{name}.yaml").read_text("utf-8"))


def find_policy(given: str) -> Policy:
    """The built-in policy of that name, else the policy in the file at that path.

    Raises:
        PolicyError: if there is neither, or the file cannot be read.
    """
    if given in BUILTIN:
        return builtin_policy(given)
    try:
        with Path(given).open("rb") as file:
            return parse_policy(file.read(LIMIT_BYTES + 1).decode("utf-8"))
    except (OSError, ValueError) as error:  # a null byte in the path, or bytes that are not UTF-8
        problem = error.strerror if isinstance(error, OSError) else str(error)
        raise PolicyError(
            f"a policy must be {' or '.join(BUILTIN)} or a readable file of UTF-8 text, got {_shown(given)}: "
            f"{problem}{_nearest(given, BUILTIN)}"
        ) from None


def _load(text: str) -> Any:
    try:
        return _Plain(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        where = _line(error.problem_mark) if error.problem_mark else "it"
        raise PolicyError(f"a policy must be one YAML document, got in {where}: {_shown(str(error.problem))}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number or date that Python does not take
        raise PolicyError(f"a policy must be one YAML document, got: {_shown(str(error))}") from None


def _line(mark: Any) -> str:
    return f"line {mark.line + 1}"


def _problems(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False)
    said = [_problem(problem) for problem in problems[:_PROBLEMS_SHOWN]]
    more = len(problems) - len(said)
    return "; ".join(said) + (f"; and {more} more" if more else "")


def _problem(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    kind, message = problem["type"], problem["msg"]
    if kind == "extra_forbidden":
        known = ", ".join(Policy.model_fields)
        return f"`{_shown(place)}` is no rule{_nearest(place, Policy.model_fields)}; rules are {known}"
    if kind == "value_error":  # a validator of ours, whose message is a whole one
        return f"`{place}` {_shown(message.removeprefix('Value error, '), 300)}"
    wanted = _WANTED.get(kind) or re.sub(r"^\w+ should ", "", message)
    return f"`{_shown(place)}` must {wanted}, got {_shown(repr(problem['input']))}"


def _nearest(given: str, known: Any) -> str:
    near = get_close_matches(given, list(known), n=2, cutoff=0.5)
    return f"; did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else ""


def _shown(text: str, limit: int = 120) -> str:
    """A text with what cannot be seen escaped, cut after `limit` characters."""
    escaped = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text[:limit])
    return escaped + "…" * (len(text) > limit)
