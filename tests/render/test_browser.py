"""The page in a real browser: it opens from disk, draws its chart, asks for nothing, and obeys no hostile text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, sync_playwright

from tests.render import sample
from tests.render.test_html import ALL, render

pytestmark = pytest.mark.browser

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.fail("Chromium is needed to test the report page: install it (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


class Opened:
    """A page opened offline from disk, and everything it did that a report must not do."""

    def __init__(self, browser: Browser, file: Path, **options: Any) -> None:
        self.trouble: list[str] = []
        self.context = browser.new_context(offline=True, **options)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.note(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.note(f"error: {error}"))
        self.page.on("dialog", self.dismiss)
        self.page.on("request", lambda request: self.note(*({request.url} - {file.as_uri()})))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("#chart svg circle", state="attached")

    def note(self, *trouble: str) -> None:
        self.trouble.extend(trouble)

    def dismiss(self, dialog: Dialog) -> None:
        self.note(f"dialog: {dialog.message}")
        dialog.dismiss()

    def measure(self, script: str) -> Any:
        return self.page.evaluate(script)


@pytest.fixture
def written(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    file = tmp_path / "report.html"
    file.write_text(render(request.param), "utf-8")
    return file


every_sample = pytest.mark.parametrize("written", ALL, indirect=True, ids=lambda build: build.__name__)
strong_sample = pytest.mark.parametrize("written", [sample.strong], indirect=True)


@every_sample
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_opens_offline_and_draws_every_point(browser: Browser, written: Path, scheme: str) -> None:
    opened = Opened(browser, written, color_scheme=scheme)
    assert opened.measure("document.querySelectorAll('#chart svg circle, #chart svg path').length") >= 1_499
    luminance = opened.measure("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (luminance < 60) == (scheme == "dark")
    assert opened.trouble == []
    opened.context.close()


@every_sample
def test_a_phone_needs_no_sideways_scrolling(browser: Browser, written: Path) -> None:
    opened = Opened(browser, written, viewport={"width": 390, "height": 800})
    opened.measure("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert opened.measure("document.documentElement.scrollWidth") <= 390
    assert opened.trouble == []
    opened.context.close()


@strong_sample
def test_pointing_at_a_dot_shows_its_text(browser: Browser, written: Path) -> None:
    opened = Opened(browser, written)
    opened.page.locator("#chart svg g[stroke='var(--page)'] circle").first.hover()
    opened.page.wait_for_selector("#chart svg g[aria-label=tip] text")
    tip = opened.page.locator("#chart svg g[aria-label=tip] text").first.text_content() or ""
    assert "confirmed as a trigger" in tip
    assert opened.trouble == []
    opened.context.close()


@strong_sample
def test_a_command_is_copied(browser: Browser, written: Path) -> None:
    opened = Opened(browser, written, permissions=["clipboard-read", "clipboard-write"])
    opened.page.locator("button.copy").first.click()
    opened.page.get_by_text("Copied").wait_for()
    assert opened.measure("getSelection().toString()") == "touchstone replay REPORT.json --finding 1"
    assert opened.trouble == []
    opened.context.close()


@strong_sample
def test_tables_open_for_printing(browser: Browser, written: Path) -> None:
    opened = Opened(browser, written)
    opened.measure("dispatchEvent(new Event('beforeprint'))")
    assert opened.measure("[...document.querySelectorAll('details.table')].every((details) => details.open)")
    opened.context.close()
