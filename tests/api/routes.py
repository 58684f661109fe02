"""The table of routes in docs/reference/api.md, made from the OpenAPI document.

python -m tests.api.routes
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from app.core.settings import Settings
from app.main import create_app

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"
ROW = "| `"


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    return create_app(Settings(database_url=SecretStr("sqlite://"))).openapi()


def operations(document: dict[str, Any]) -> dict[str, Any]:
    """Every operation by method and path."""
    items = document["paths"].items()
    return {f"{method.upper()} {path}": operation for path, item in items for method, operation in item.items()}


def rows(document: dict[str, Any]) -> list[str]:
    """The table's lines."""
    made = []
    for name, operation in operations(document).items():
        needed = operation.get("security")
        scope = ", ".join(f"`{one}`" for one in needed[0]["key"]) if needed else "none"
        summary = operation["description"].partition("\n\n")[0].replace("\n", " ")
        made.append(f"{ROW}{name}` | {scope} | {summary} |")
    return made


def table_of(page: str) -> list[str]:
    """The lines of the table that a page has."""
    return [line for line in page.splitlines() if line.startswith(ROW)]


def main() -> None:
    """Writes the table anew."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    first = lines.index("|---|---|---|") + 1
    after = [line for line in lines[first:] if not line.startswith(ROW)]
    PAGE.write_text("\n".join([*lines[:first], *rows(document()), *after]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
