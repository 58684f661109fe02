"""Renders an untrusted chat template once, in a process of its own with little memory and time.

`detectors.engine.tokenizer` starts this file by its path with an empty environment, so it imports jinja2 and nothing
of ours. Jinja's sandbox stops a template from reaching Python, not from asking for `'a' * 10 ** 10` or for a loop
without end; the limits of the process do. In: `{"template", "specials"}` as JSON. Out: `{"fault": null | text}`.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

SECONDS = 2
MEMORY = 2**30


class Generation(Extension):
    """The `{% generation %}` block of transformers, which marks the assistant's text; here its body and no more."""

    tags = {"generation"}  # noqa: RUF012  Jinja declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The block's body."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class StrictSandbox(ImmutableSandboxedEnvironment):
    """Fails on an unsafe access, where Jinja's own sandbox renders nothing and goes on."""

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        """Refuses, whatever the template would have done with it."""
        raise jinja2.exceptions.SecurityError(f"access to {attribute} of a {type(obj).__name__} is unsafe")


def find_fault(template: str, specials: dict[str, str]) -> str | None:
    """What is wrong with a template, or None."""
    environment = _environment()
    try:
        hidden = next(_dunder_names(environment.parse(template)), None)
        if hidden is not None:
            return f"reaches for the Python internal {hidden}"
        compiled = environment.from_string(template)
    except Exception as error:  # the parser meets hostile text; this process ends here
        return f"cannot be parsed: {error}"
    try:
        compiled.render(messages=[{"role": "user", "content": "Hello"}], add_generation_prompt=True, **specials)
    except MemoryError:
        return "needs too much memory on a chat of one user message"
    except Exception as error:  # a template may raise whatever it likes; this process ends here
        return f"fails on a chat of one user message: {error}"
    return None


def _environment() -> StrictSandbox:
    environment = StrictSandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now()
    return environment


def _tojson(value: Any, **options: Any) -> str:
    return json.dumps(value, **({"ensure_ascii": False} | options))


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now() -> Callable[[str], str]:
    return lambda form: datetime.now().strftime(form)


def _dunder_names(tree: nodes.Template) -> Iterator[str]:
    for access in tree.find_all(nodes.Getattr):
        yield from _dunder(access.attr)
    for name in tree.find_all(nodes.Name):
        yield from _dunder(name.name)
    for place in tree.find_all((nodes.Getitem, nodes.Filter, nodes.Call)):
        for constant in place.find_all(nodes.Const):
            yield from _dunder(constant.value)


def _dunder(text: Any) -> Iterator[str]:
    if isinstance(text, str) and text.startswith("__") and text.endswith("__") and len(text) > 4:
        yield text


def main() -> None:
    """Reads a template from standard input, writes its fault to standard output."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    given = json.load(sys.stdin)
    try:
        fault = find_fault(given["template"], given["specials"])
    except MemoryError:
        fault = "needs too much memory"
    json.dump({"fault": None if fault is None else fault[:1000]}, sys.stdout)


if __name__ == "__main__":
    main()
