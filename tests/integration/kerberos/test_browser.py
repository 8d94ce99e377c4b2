"""Logging in by a ticket in a real browser, which answers the server's 401 by itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import BrowserType, sync_playwright

from tests.helpers.chromium import CHROMIUM, violations
from tests.helpers.kdc import Realm
from tests.helpers.kerberos_site import KerberosSite

pytestmark = pytest.mark.integration

ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--ignore-certificate-errors"]


@pytest.mark.parametrize(("trusted", "known"), [("localhost", True), ("elsewhere.example.test", False)])
def test_a_browser_shows_its_ticket_in_the_form(
    site: KerberosSite, here: Realm, tmp_path: Path, trusted: str, known: bool
) -> None:
    """To servers that its settings allow, and in a profile of its own: a private one shows no ticket by itself."""

    def attempt(browser: BrowserType) -> str:
        context = browser.launch_persistent_context(
            tmp_path,
            executable_path=CHROMIUM,
            args=[*ARGUMENTS, f"--auth-server-allowlist={trusted}"],
            env={**os.environ, **here.kinit("carol")},
            ignore_https_errors=True,
            bypass_csp=True,
        )
        try:
            page = context.new_page()
            page.goto(f"{site.url}/login")
            assert violations(page) == []
            page.get_by_role("button", name="Log in with a Kerberos ticket").click()
            found = page.get_by_role("alert").or_(page.get_by_text("carol@EXAMPLE.TEST"))
            return found.inner_text(timeout=60_000)
        finally:
            context.close()

    with sync_playwright() as playwright:
        # Chromium loads the Kerberos library when it starts, and has seen before that a server asks for it.
        assert "it has shown no Kerberos ticket" in attempt(playwright.chromium)
        assert ("carol@EXAMPLE.TEST" in attempt(playwright.chromium)) == known
