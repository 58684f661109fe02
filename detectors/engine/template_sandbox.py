"""Renders an untrusted chat template, in a process of its own with little memory and time.

`detectors.engine.rendering` starts this file by its path with an empty environment, so it imports jinja2 and nothing
of ours. Jinja's sandbox stops a template from reaching Python, not from asking for `'a' * 10 ** 10` or for a loop
without end; the limits of the process do.

In: `{"template", "specials"}` as JSON. Out: `{"fault": null | text}`. With `"chats"`, each `{"messages", "now",
"forced"}`, out is one line a chat instead: `{"text", "dates", "fault"}`, written as soon as it is rendered. The clock
stands at `now` and chance starts anew for each chat, so that a chat renders the same whenever it is asked for.
"""

from __future__ import annotations

import json
import random
import resource
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

SECONDS = 2
MEMORY = 2**30
LONGEST = 2**16
"""Characters that one chat may render to."""


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


class Clock:
    """The clock that templates see: stands still, and keeps what it told."""

    def __init__(self) -> None:
        self.now = datetime.now()
        self.told: list[str] = []

    def strftime(self, form: str) -> str:
        """The time, as a template wants it written."""
        self.told.append(self.now.strftime(form))
        return self.told[-1]


def find_fault(template: str, specials: dict[str, str]) -> str | None:
    """What is wrong with a template, or None."""
    environment = make_environment(Clock())
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


class Renderer:
    """Renders many chats by one template; each stands alone."""

    def __init__(self, template: str, specials: dict[str, str]) -> None:
        self._template, self._specials = template, specials
        self._clock = Clock()
        self._environment = make_environment(self._clock)
        self._compiled: dict[int | None, jinja2.Template] = {}

    def render(self, chat: dict[str, Any]) -> dict[str, Any]:
        """One chat at its time, with the branch `forced` taken whatever its condition says."""
        self._clock.now, self._clock.told = datetime.fromisoformat(chat["now"]), []
        random.seed(0)
        text, fault = "", ""
        try:
            compiled = self._compile(chat["forced"])
            text = compiled.render(messages=chat["messages"], add_generation_prompt=True, **self._specials)
        except MemoryError:
            fault = "needs too much memory"
        except Exception as error:  # a template may raise whatever it likes; this process ends here
            fault = str(error)[:300] or type(error).__name__
        if len(text) > LONGEST:
            text, fault = "", f"renders more than {LONGEST} characters"
        return {"text": text, "dates": self._clock.told[:100], "fault": fault}

    def _compile(self, forced: int | None) -> jinja2.Template:
        if forced not in self._compiled:
            tree = self._environment.parse(self._template)
            if forced is not None:
                branches(tree)[forced].test = nodes.Const(True)
            code = self._environment.compile(tree)
            names = self._environment.make_globals(None)
            self._compiled[forced] = jinja2.Template.from_code(self._environment, code, names)
        return self._compiled[forced]


def branches(tree: nodes.Template) -> list[nodes.If | nodes.CondExpr]:
    """All branches of a template, in an order that follows from its text."""
    return list(tree.find_all((nodes.If, nodes.CondExpr)))


def make_environment(clock: Clock) -> StrictSandbox:
    """The environment of a chat template, as transformers gives it to one."""
    environment = StrictSandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = clock.strftime
    return environment


def _tojson(value: Any, **options: Any) -> str:
    return json.dumps(value, **({"ensure_ascii": False} | options))


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


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
    """Reads a template from standard input, writes its fault or its renderings to standard output."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    given = json.load(sys.stdin)
    if "chats" in given:
        renderer = Renderer(given["template"], given["specials"])
        for chat in given["chats"]:
            print(json.dumps(renderer.render(chat)), flush=True)
        return
    try:
        fault = find_fault(given["template"], given["specials"])
    except MemoryError:
        fault = "needs too much memory"
    print(json.dumps({"fault": None if fault is None else fault[:1000]}))


if __name__ == "__main__":
    main()
