"""What a browser would do with the pages, without one: its cookie, its headers, and the forms of the pages."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from provision.api.tokens import NewToken
from provision.principal import PrincipalRole
from provision.web.guard import Guard
from provision.web.pages import app as pages_app
from provision.web.pages.session import by_session
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import Reply, Site, request

HOST = "prov.example.test:8443"
PEER = "192.0.2.7"
FORM = "application/x-www-form-urlencoded"
OURS = {"host": HOST, "origin": f"https://{HOST}", "sec-fetch-site": "same-origin", "content-type": FORM}
"""What a browser says of a form that a page of ours sends."""

_SEEN = re.compile(r'name="seen" value="([^"]+)"')
_KEY = re.compile(rb'name="key" value="([0-9a-f]{64})"')


def token(here: Site, name: str = "ci", role: PrincipalRole = PrincipalRole.ADMIN, **wanted: Any) -> str:
    """A new token."""
    return here.service.tokens.create(NewToken(name=name, role=role, **wanted), ROOT).token


@dataclass
class Browser:
    """A browser at the pages `app`, with the cookie that it was given and the key of its forms."""

    app: Guard
    cookie: str = ""
    key: str = ""
    headers: dict[str, str] = field(default_factory=lambda: dict(OURS))

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return request(self.app, "GET", path, headers=self._sent({**self.headers, **(headers or {})}), peer=PEER)

    def post(self, path: str, headers: Mapping[str, str] | None = None, **fields: str) -> Reply:
        """Send a form with the page's key, unless `fields` has another."""
        body = urlencode({"key": self.key, **fields}).encode()
        sent = self._sent({**self.headers, **(headers or {})})
        return request(self.app, "POST", path, headers=sent, body=body, peer=PEER)

    def look(self, path: str) -> str:
        """What the forms of a page say that was looked at."""
        found = _SEEN.search(self.get(path).body.decode())
        assert found, path
        return html.unescape(found[1])

    def log_in(self, shown: str) -> Reply:
        """Log in by a token, and keep what comes of it."""
        reply = self.post("/login", token=shown)
        if "set-cookie" in reply.headers:
            self.cookie = reply.headers["set-cookie"].partition(";")[0]
            found = _KEY.search(self.get("/hosts").body)
            assert found
            self.key = found[1].decode()
        return reply

    def _sent(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {**headers, **({"cookie": self.cookie} if self.cookie else {})}


def pages_of(here: Site) -> Guard:
    """The pages of a site, behind sessions."""
    return pages_app.create(here.service, by_session(here.service))


def logged_in(
    here: Site, role: PrincipalRole = PrincipalRole.ADMIN, app: Guard | None = None, **wanted: Any
) -> Browser:
    """A browser that is logged in with that role, at `app` or pages of its own."""
    browser = Browser(app or pages_of(here))
    reply = browser.log_in(token(here, wanted.pop("name", str(role)), role, **wanted))
    assert reply.status == 303, reply
    return browser
