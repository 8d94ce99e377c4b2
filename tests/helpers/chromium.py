"""Debian's Chromium, driven through Playwright, and what axe-core says of a page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
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


def violations(page: Page) -> list[str]:
    """What axe-core finds on a page against WCAG 2.2 AA, each with the elements. Needs a context that bypasses the
    page's policy for scripts, since axe is none of the page's."""
    page.evaluate(files(_AXE).joinpath("axe.min.js").read_text())
    found = page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", _TAGS)
    assert len(found["passes"]) > 10, "it has looked at something"
    return [f"{v['id']}: {[node['html'][:200] for node in v['nodes']]}" for v in found["violations"]]
