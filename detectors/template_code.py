"""What a chat template's code says about itself, read by jinja2's own parser and never run.

A template may look at a message's role, at tools, at whether a content is there and whether it is a text or a list of
parts, and it may cut reasoning out of earlier answers. It has no need to look at what a message *says*. So the reading
follows what comes from `message.content` through names, filters, methods and macros (by name, whatever the order: an
attacker's detour is followed as well), and lists every comparison, test, method and look-up on it that asks for more
than that. The same for what comes from the clock.

It cannot see a condition on a message's other fields, nor what a caller passes by other names. What it lists is code
that looks, not yet code that does: that is rendered (`detectors.methods.artifact_diff`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from jinja2 import nodes

from detectors.engine.template_sandbox import Clock, branches, make_environment

Source = Literal["messages", "content", "clock"]

KNOWN_MARKS = (
    *("<think>", "</think>", "<thinking>", "</thinking>", "[THINK]", "[/THINK]", "<reasoning>", "</reasoning>"),
    *("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "/think", "/no_think"),
)
"""Marks of reasoning and of tools that templates of common families look for in a content."""

PART_KEYS = ("image", "image_url", "video", "audio", "text", "type")
"""What templates ask of one part of a content that is a list."""

PROBES = frozenset(
    {"startswith", "endswith", "find", "rfind", "index", "rindex", "count", "partition", "rpartition"}
    | {
        "isupper",
        "islower",
        "istitle",
        "isdigit",
        "isnumeric",
        "isalpha",
        "isalnum",
        "isascii",
        "isspace",
        "__contains__",
    }
)
"""Methods of a text that tell something of what it says."""
TYPE_TESTS = frozenset(
    {"string", "none", "defined", "undefined", "mapping", "iterable", "sequence", "boolean", "number", "true", "false"}
)
TRIVIAL = frozenset({"", " ", "\n", "\n\n"})
ORDINARY_NUMBERS = frozenset({-1, 0, 1})


@dataclass(frozen=True)
class Gate:
    """A place where a template looks at what a message says, or at the date.

    Attributes:
        source: which of the two.
        line: in the template, from 1.
        constants: texts that it looks for.
        numbers: whole numbers that it compares with.
        branch: the number of the branch whose condition it stands in, if it does (`template_sandbox.branches`).
        text: constant text below that branch.
        code: the parsed expression, to tell whether another template has the same.
    """

    source: Source
    line: int
    constants: tuple[str, ...]
    numbers: tuple[int, ...]
    branch: int | None
    text: str
    code: str


@dataclass(frozen=True)
class TemplateCode:
    """What was read.

    Attributes:
        gates: places that look, in the order of the text.
        constants: every text in the template's expressions, those of gates first.
        formats: how the template asks for the date; empty texts stand for what it puts together.
        chance: names of what makes a template render the same chat differently.
    """

    gates: tuple[Gate, ...] = ()
    constants: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    chance: tuple[str, ...] = ()


def read_template(template: str | None) -> TemplateCode:
    """Reads a template that passed the gate, and so can be parsed."""
    if template is None:
        return TemplateCode()
    tree = make_environment(Clock()).parse(template)
    gates = tuple(_gates(tree))
    looked_for = [constant for gate in gates for constant in gate.constants]
    every = [text for node in tree.find_all((nodes.Const, nodes.Concat, nodes.Add)) if (text := _folded(node))]
    return TemplateCode(
        gates=gates,
        constants=tuple(dict.fromkeys(text for text in looked_for + every if text.strip())),
        formats=tuple(dict.fromkeys(_formats(tree))),
        chance=tuple(sorted(set(_chance(tree)))),
    )


def _gates(tree: nodes.Template) -> Iterator[Gate]:
    flow = _Flow(tree)
    conditions = branches(tree)
    inside = {id(node): at for at, branch in enumerate(conditions) for node in _with_below(branch.test)}
    for node in _with_below(tree):
        source = flow.looks_at(node)
        if source is None:
            continue
        branch = inside.get(id(node))
        yield Gate(
            source=source,
            line=node.lineno,
            constants=tuple(dict.fromkeys(_texts(node))),
            numbers=tuple(dict.fromkeys(_numbers(node))),
            branch=branch,
            text="" if branch is None else _constant_text(conditions[branch]),
            code=repr(node),
        )


class _Flow:
    """Where contents and dates go in a template: by name, in any order, until nothing new is reached."""

    def __init__(self, tree: nodes.Template) -> None:
        self._names: dict[str, Source] = {"messages": "messages"}
        self._macros = {macro.name: macro for macro in tree.find_all(nodes.Macro)}
        known = -1
        while known < len(self._names):
            known = len(self._names)
            for node in tree.find_all((nodes.Assign, nodes.AssignBlock, nodes.For, nodes.Call)):
                self._pass_on(node)

    def _pass_on(self, node: nodes.Node) -> None:
        if isinstance(node, nodes.Assign):
            self._bind(node.target, self.source(node.node))
        elif isinstance(node, nodes.AssignBlock):
            self._bind(node.target, self._of_any(node.body))
        elif isinstance(node, nodes.For):
            self._bind(node.target, self.source(node.iter))
        elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name in self._macros:
            for target, given in zip(self._macros[node.node.name].args, node.args, strict=False):
                self._bind(target, self.source(given))
            for keyword in node.kwargs:
                self._bind(nodes.Name(keyword.key, "store"), self.source(keyword.value))

    def _bind(self, target: nodes.Node, source: Source | None) -> None:
        for name in _with_below(target):
            key = _name(name)
            if key and source and self._names.get(key) in (None, "messages"):
                self._names[key] = source

    def source(self, node: nodes.Node | None) -> Source | None:
        """Where the value of an expression comes from."""
        if node is None or isinstance(node, nodes.Const | nodes.TemplateData):
            return None
        key = _name(node)
        if key in self._names:
            return self._names[key]
        if isinstance(node, nodes.Getattr | nodes.Getitem):
            return self._part(node)
        if isinstance(node, nodes.Filter):
            return self._filtered(node)
        if isinstance(node, nodes.Test) and node.name in TYPE_TESTS:
            return None
        if isinstance(node, nodes.Call):
            return self._called(node)
        if isinstance(node, nodes.CondExpr):
            return self._of_any([node.expr1] + ([node.expr2] if node.expr2 else []))
        return self._of_any(node.iter_child_nodes())

    def _of_any(self, parts: Iterable[nodes.Node]) -> Source | None:
        found = {self.source(part) for part in parts}
        followed: tuple[Source, ...] = ("content", "clock")
        return next((source for source in followed if source in found), None)

    def _part(self, node: nodes.Getattr | nodes.Getitem) -> Source | None:
        whole = self.source(node.node)
        key = node.attr if isinstance(node, nodes.Getattr) else _value(node.arg)
        if whole == "content":
            return None if key == "type" else "content"
        if whole == "messages":
            if key == "content" or (isinstance(node, nodes.Getitem) and not _is_plain(node.arg)):
                return "content"
            return None if isinstance(key, str) else "messages"
        return self.source(node.arg) if isinstance(node, nodes.Getitem) else whole

    def _filtered(self, node: nodes.Filter) -> Source | None:
        whole = self.source(node.node)
        if whole == "messages":
            named = any(_value(part) == "content" for part in node.find_all(nodes.Const))
            if named or node.name in ("tojson", "string", "join", "pprint", "urlencode", "xmlattr"):
                return "content"
            return None if node.name in ("length", "count") else "messages"
        return whole or self._of_any([*node.args, *node.kwargs])

    def _called(self, node: nodes.Call) -> Source | None:
        if isinstance(node.node, nodes.Name) and node.node.name == "strftime_now":
            return "clock"
        if isinstance(node.node, nodes.Name) and node.node.name in self._macros:
            return self._of_any([*node.args, *node.kwargs])
        if isinstance(node.node, nodes.Getattr) and self.source(node.node.node) == "messages":
            named = node.node.attr not in ("get", "pop") or any(_value(part) == "content" for part in node.args)
            return "content" if named else None
        return self._of_any([node.node, *node.args, *node.kwargs])

    def looks_at(self, node: nodes.Node) -> Source | None:
        """What an expression asks something of that no template needs to know."""
        if isinstance(node, nodes.Compare):
            source = self._of_any(node.iter_child_nodes())
        elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and node.node.attr in PROBES:
            source = self.source(node.node.node)
        elif isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Slice):
            source = self.source(node.arg)
        elif isinstance(node, nodes.Filter) and node.name in (
            "select",
            "reject",
            "selectattr",
            "rejectattr",
            "replace",
        ):
            source = self.source(node)
        elif (
            isinstance(node, nodes.Call)
            and isinstance(node.node, nodes.Getattr)
            and node.node.attr in ("replace", "get")
        ):
            source = self._of_any([node.node.node, *node.args]) if self.source(node.node.node) != "messages" else None
        else:
            return None
        if source not in ("content", "clock") or (source == "content" and self._is_usual(node)):
            return None
        return source

    def _is_usual(self, node: nodes.Node) -> bool:
        """Whether an expression only asks if there is a content, or looks for marks that templates look for."""
        texts = [text for text in _texts(node) if text not in TRIVIAL]
        if any(number not in ORDINARY_NUMBERS for number in _numbers(node)):
            return False
        if texts:
            return all(text in KNOWN_MARKS or text in PART_KEYS for text in texts)
        return isinstance(node, nodes.Compare) and any(isinstance(part, nodes.Const) for part in _sides(node))


def _sides(node: nodes.Compare) -> list[nodes.Node]:
    return [node.expr, *(operand.expr for operand in node.ops)]


def _with_below(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    yield from node.find_all(nodes.Node)


def _name(node: nodes.Node) -> str | None:
    """A name, or that of a namespace's field."""
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.NSRef):
        return f"{node.name}.{node.attr}"
    if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name):
        return f"{node.node.name}.{node.attr}"
    return None


def _value(node: nodes.Node) -> Any:
    return node.value if isinstance(node, nodes.Const) else None


def _is_plain(node: nodes.Node) -> bool:
    """Whether it picks a message by its number, or a field by a name that stands there as it is."""
    if isinstance(node, nodes.Const):
        return True
    return not any(isinstance(part, nodes.Concat) or isinstance(_value(part), str) for part in _with_below(node))


def _folded(node: nodes.Node) -> str | None:
    """The text of a constant expression: constants, joined ones, and those that are put together from pieces."""
    if isinstance(node, nodes.Const):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, nodes.Concat | nodes.Add):
        return _joined(node.iter_child_nodes())
    if isinstance(node, nodes.Filter) and node.name == "join" and isinstance(node.node, nodes.List | nodes.Tuple):
        return _joined(node.node.items)
    return None


def _joined(parts: Iterable[nodes.Node]) -> str | None:
    pieces = [_folded(part) for part in parts]
    return None if None in pieces else "".join(piece for piece in pieces if piece is not None)


def _texts(node: nodes.Node) -> Iterator[str]:
    """Texts of an expression that are no keys; what is put together counts once, whole."""
    folded = _folded(node)
    if folded is not None:
        yield folded
        return
    for part in node.iter_child_nodes():
        is_key = isinstance(node, nodes.Getitem) and part is node.arg
        if not is_key:
            yield from _texts(part)


def _numbers(node: nodes.Node) -> Iterator[int]:
    for part in node.find_all((nodes.Const, nodes.Neg)):
        if isinstance(part, nodes.Const) and type(part.value) is int:
            yield part.value


def _constant_text(branch: nodes.If | nodes.CondExpr) -> str:
    body = branch.body if isinstance(branch, nodes.If) else [branch.expr1]
    parts = (part for statement in body for part in _with_below(statement))
    found = (part.data if isinstance(part, nodes.TemplateData) else _value(part) for part in parts)
    return " ".join(text.strip() for text in found if isinstance(text, str) and text.strip())[:1000]


def _formats(tree: nodes.Template) -> Iterator[str]:
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name == "strftime_now":
            yield from (_folded(argument) or "" for argument in call.args)


def _chance(tree: nodes.Template) -> Iterator[str]:
    yield from (f"|{node.name}" for node in tree.find_all(nodes.Filter) if node.name == "random")
    yield from (f"{node.name}()" for node in tree.find_all(nodes.Name) if node.name == "lipsum")
