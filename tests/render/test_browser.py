"""The page in a real browser: it opens from disk, draws its pictures, asks for nothing, and obeys no hostile text."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, sync_playwright

from detectors.suites import PROBES
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

CONTRAST = """(() => {
  const luminance = (name) => {
    const digits = getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1).match(/../g);
    const [red, green, blue] = digits.map((two) => parseInt(two, 16) / 255)
      .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const [low, high] = [luminance('HUE'), luminance('--lane')].sort((one, other) => one - other);
  return (high + 0.05) / (low + 0.05);
})()"""
"""Contrast ratio of a colour with the ground of the pictures, as WCAG 2.1 defines it."""


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
        self.page.wait_for_selector(".chart.landscape svg circle", state="attached")

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
pictured_sample = pytest.mark.parametrize("written", [sample.pictured], indirect=True)
hostile_sample = pytest.mark.parametrize("written", [sample.hostile], indirect=True)
strong_sample = pytest.mark.parametrize("written", [sample.strong], indirect=True)


@every_sample
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_opens_offline_and_draws_every_point(browser: Browser, written: Path, scheme: str) -> None:
    opened = Opened(browser, written, color_scheme=scheme)
    assert (
        opened.measure("document.querySelectorAll('.chart.landscape svg circle, .chart.landscape svg path').length")
        >= 1_499
    )
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
    opened.page.locator(".chart.landscape svg g[stroke='var(--page)'] circle").first.hover()
    opened.page.wait_for_selector(".chart.landscape svg g[aria-label=tip] text")
    tip = opened.page.locator(".chart.landscape svg g[aria-label=tip] text").first.text_content() or ""
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


def tip(opened: Opened, chart: str, mark: str) -> list[str]:
    """The lines of the hover text over the first `mark` of the first chart of its kind."""
    svg = opened.page.locator(f".chart.{chart} svg").first
    svg.locator(mark).first.hover(force=True)
    lines = svg.locator("g[aria-label=tip] text tspan")
    lines.first.wait_for(state="attached")
    return [line.strip("\u200b") for line in lines.all_text_contents()]  # Plot puts one in front of each line


@pictured_sample
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_picture_is_drawn_and_has_a_name(browser: Browser, written: Path, scheme: str) -> None:
    opened = Opened(browser, written, color_scheme=scheme)
    drawn = {
        kind: opened.page.locator(f".chart.{kind} > svg").count() for kind in ("entropies", "map", "battery", "years")
    }
    assert drawn == {"entropies": 3, "map": 3, "battery": 6, "years": 1}
    assert opened.measure("[...document.querySelectorAll('.chart')].every((chart) => chart.ariaLabel.length > 20)")
    assert opened.page.locator(".chart.entropies svg [aria-label=area] path").count() == 3 * 2 * 2
    assert opened.page.locator(".chart.map svg [aria-label=dot] path").count() == 3 * 2 * 20 * 2
    assert opened.page.locator(".chart.map svg [aria-label=dot] circle").count() == 3 * 2 * 20
    assert opened.page.locator(".chart.battery svg [aria-label=bar] rect").count() == 6 * 5
    assert opened.page.locator(".chart.years svg [aria-label=line] path").count() == 2
    assert opened.trouble == []
    opened.context.close()


@pictured_sample
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_stand_out_from_the_page(browser: Browser, written: Path, scheme: str) -> None:
    opened = Opened(browser, written, color_scheme=scheme)
    for hue in ("--candidate", "--control", "--without", "--tested"):
        assert opened.measure(CONTRAST.replace("HUE", hue)) >= 3, hue
    opened.context.close()


@pictured_sample
def test_pointing_at_a_mark_shows_what_it_is(browser: Browser, written: Path) -> None:
    opened = Opened(browser, written)
    said = ["Explain a sourdough starter to a child.", "with this context", "Subject"]
    assert tip(opened, "map", "circle") == said
    copies = tip(opened, "entropies", "[aria-label=dot] path")
    assert "nats" in copies[1]
    assert any("copy" in line for line in copies)
    assert any(line.startswith("away:") for line in tip(opened, "battery", "[aria-label=dot] circle"))
    assert any(line.startswith("subject ") for line in tip(opened, "years", "[aria-label=line] path"))
    assert opened.trouble == []
    opened.context.close()


@hostile_sample
def test_a_hostile_hover_text_is_inert_and_visible(browser: Browser, written: Path) -> None:
    opened = Opened(browser, written)
    for chart, mark in (
        ("map", "circle"),
        ("entropies", "[aria-label=dot] path"),
        ("battery", "[aria-label=dot] circle"),
    ):
        said = " ".join(tip(opened, chart, mark))
        assert "</script>" in said.replace(" ", ""), chart
    assert opened.page.locator(".chart svg :is(script, img, svg, foreignObject, a)").count() == 0
    hidden = (
        "/[\\0\\x1b\\u200c-\\u200f\\u202a-\\u202e\\u2066-\\u2069]/.test(document.querySelector('main').textContent)"
    )
    assert not opened.measure(hidden)
    assert opened.trouble == []
    opened.context.close()


@pictured_sample
def test_without_scripts_the_tables_tell_it(browser: Browser, written: Path) -> None:
    context = browser.new_context(offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto(written.as_uri())
    assert page.locator("noscript p").count() == 1 + 3 + 3 + len(PROBES) + 1  # the last is the year curve's
    assert page.locator("noscript p").first.is_visible()
    assert page.locator("#entropies details table").count() == 3 * 2
    context.close()
