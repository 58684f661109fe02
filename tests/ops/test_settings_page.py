"""The page of settings is compared with the settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from app.core.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(TOUCHSTONE_\w+)` \| ([^|]+) \|", PAGE, re.MULTILINE))


def test_every_setting_is_on_the_page_and_nothing_else() -> None:
    assert set(ROWS) == {f"TOUCHSTONE_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_page_has_the_defaults(name: str) -> None:
    default, row = Settings.model_fields[name].default, ROWS[f"TOUCHSTONE_{name.upper()}"]
    assert default is not PydanticUndefined
    if default is None or default == ():
        assert not re.match(r"[`\d]\S*`?$", row.strip()) or "`blobs`" in row
    elif isinstance(default, Path):
        assert row.strip() == f"`{str(default).replace(str(Path.home()), '~')}`"
    else:
        shown = default.get_secret_value() if isinstance(default, SecretStr) else str(default)
        assert row.strip(" `").split("`")[0].split(" ")[0].rstrip(",").lower() == shown.lower()
