"""Debian's Chromium, driven through Playwright, and what axe-core says of a page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

from tests.helpers.api_site import ApiSite

CHROMIUM = "/usr/bin/chromium"
PHONE: ViewportSize = {"width": 360, "height": 740}
PICTURES = os.environ.get("PICTURES")
"""The directory for pictures of the pages; `make pictures` says where."""

_SECONDS = 60
_AXE = "axe_playwright_python"
_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser. It takes every certificate, as the tests' own CA is not among its own."""
    with sync_playwright() as playwright:
        # Its own sandbox does not start as root.
        arguments = ["--no-sandbox", "--ignore-certificate-errors", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def context_of(browser: Browser, **options: Any) -> Iterator[BrowserContext]:
    """A browser without cookies; `options` are those of Playwright's contexts."""
    context = browser.new_context(ignore_https_errors=True, **options)
    context.set_default_timeout(_SECONDS * 1000)
    try:
        yield context
    finally:
        context.close()


def log_in(context: BrowserContext, made: ApiSite, token: str | None = None) -> Page:
    """A page of somebody who has logged in."""
    page = context.new_page()
    page.goto(f"{made.url}/hosts")
    page.get_by_label("Token").fill(token or made.token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Hosts")).to_be_visible()
    return page


def picture(page: Page, name: str) -> None:
    """Keep how a page looks, when somebody wants to have it."""
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


def complaints(page: Page) -> list[str]:
    """What the browser's console will have said of the page: a script or style that its policy refuses, for example."""
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


def width(page: Page) -> int:
    """How many pixels a page takes; more than the window has means that it is scrolled sideways."""
    return int(page.evaluate("document.documentElement.scrollWidth"))


def violations(page: Page) -> list[str]:
    """What axe-core finds on a page against WCAG 2.2 AA, each with the elements. Needs a context that bypasses the
    page's policy for scripts, since axe is none of the page's."""
    page.evaluate(files(_AXE).joinpath("axe.min.js").read_text())
    found = page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", _TAGS)
    assert len(found["passes"]) > 10, "it has looked at something"
    return [f"{v['id']}: {[node['html'][:200] for node in v['nodes']]}" for v in found["violations"]]
