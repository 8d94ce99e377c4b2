"""Logging in by a ticket in a real browser, which answers the server's 401 by itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import BrowserType, Page, sync_playwright

from tests.helpers.chromium import CHROMIUM, violations
from tests.helpers.kdc import Realm
from tests.helpers.kerberos_site import KerberosSite

ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--ignore-certificate-errors"]


@contextmanager
def page_of(browser: BrowserType, profile: Path, user: Mapping[str, str], trusted: str) -> Iterator[Page]:
    """A page of a browser with a user's ticket, which it shows to the server `trusted`."""
    context = browser.launch_persistent_context(
        profile,
        executable_path=CHROMIUM,
        args=[*ARGUMENTS, f"--auth-server-allowlist={trusted}"],
        env={**os.environ, **user},
        ignore_https_errors=True,
        bypass_csp=True,
    )
    try:
        yield context.new_page()
    finally:
        context.close()


@pytest.mark.parametrize(("trusted", "known"), [("localhost", True), ("elsewhere.example.test", False)])
def test_a_browser_shows_its_ticket_in_the_form(
    site: KerberosSite, here: Realm, tmp_path: Path, trusted: str, known: bool
) -> None:
    """To servers that its settings allow, and in a profile of its own: a private one shows no ticket by itself."""

    def attempt(browser: BrowserType) -> str:
        with page_of(browser, tmp_path, here.kinit("carol"), trusted) as page:
            page.goto(f"{site.url}/login")
            assert violations(page) == []
            page.get_by_role("button", name="Log in with a Kerberos ticket").click()
            found = page.get_by_role("alert").or_(page.get_by_text("carol@EXAMPLE.TEST"))
            return found.inner_text(timeout=60_000)

    with sync_playwright() as playwright:
        # Chromium loads the Kerberos library when it starts, and has seen before that a server asks for it.
        assert "it has shown no Kerberos ticket" in attempt(playwright.chromium)
        assert ("carol@EXAMPLE.TEST" in attempt(playwright.chromium)) == known


@contextmanager
def elsewhere(target: str) -> Iterator[str]:
    """The address of another site, which sends every browser on to `target`."""

    class Redirect(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", target)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirect) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_no_other_site_has_a_browser_save_a_medium(site: KerberosSite, here: Realm, tmp_path: Path) -> None:
    """Not even one whose address somebody typed, so that the browser says of nobody else that it began there."""
    iso = f"{site.url}/v1/hosts/node1/iso"

    def attempt(browser: BrowserType) -> tuple[int, str]:
        with page_of(browser, tmp_path, here.kinit("alice"), "localhost") as page, elsewhere(iso) as address:
            response = page.goto(address)
            assert response is not None and response.url == iso
            return response.status, response.text()

    with sync_playwright() as playwright:
        attempt(playwright.chromium)  # as above, it shows no ticket yet
        status, text = attempt(playwright.chromium)
    assert status == 403 and "no page of this server" in text
