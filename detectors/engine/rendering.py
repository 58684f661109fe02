"""Renders untrusted chat templates in the sandbox: the parent's side of `detectors.engine.template_sandbox`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectors.engine import template_sandbox
from detectors.engine.shipped import NOT_RENDERED, ChatAt, Rendering

TEMPLATE_SECONDS = 30
BATCH = 256
"""Chats that share one process and its two seconds of processor time."""
KILLS = 3
"""How many chats of one call may cost a process; what comes after them is not rendered."""
TOO_LONG = f"ran for more than {template_sandbox.SECONDS} s, or needed too much memory"


def find_fault(template: str, specials: Mapping[str, str]) -> str | None:
    """What is wrong with a template on a chat of one user message, or None."""
    lines = _run({"template": template, "specials": dict(specials)})
    if not lines:
        return f"{TOO_LONG}, on a chat of one user message"
    fault: str | None = lines[0]["fault"]
    return fault


def render(template: str | None, specials: Mapping[str, str], chats: Sequence[ChatAt]) -> list[Rendering]:
    """Chats as a template renders them, in order; as plain text where there is no template.

    A chat that runs too long costs its process and not the chats around it, but for `KILLS` of them at most.
    """
    if template is None:
        return [Rendering(_plain(chat)) for chat in chats]
    found: list[Rendering] = []
    kills = 0
    while len(found) < len(chats) and kills < KILLS:
        part = chats[len(found) : len(found) + BATCH]
        given = [{"messages": chat.messages, "now": chat.now, "forced": chat.forced} for chat in part]
        lines = _run({"template": template, "specials": dict(specials), "chats": given})
        found += [Rendering(line["text"], tuple(line["dates"]), line["fault"]) for line in lines]
        if len(lines) < len(part):
            found.append(Rendering("", fault=TOO_LONG))
            kills += 1
    return found + [Rendering("", fault=NOT_RENDERED)] * (len(chats) - len(found))


def _run(given: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines that the sandbox wrote before it ended, by itself or by a limit."""
    command = [sys.executable, "-I", str(Path(template_sandbox.__file__))]
    try:
        ended = subprocess.run(
            command,
            input=json.dumps(given).encode(),
            capture_output=True,
            timeout=TEMPLATE_SECONDS,
            env={},
            check=False,
        )
        written = ended.stdout
    except subprocess.TimeoutExpired as error:
        written = error.stdout or b""
    return [json.loads(line) for line in written.split(b"\n")[:-1]]  # what follows the last newline was cut off


def _plain(chat: ChatAt) -> str:
    return "".join(f"{_text(message['content'])}\n\n" for message in chat.messages)


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(str(part.get("text", "")) for part in content)
