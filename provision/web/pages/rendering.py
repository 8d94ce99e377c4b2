"""Templates and static files of the pages. Every value in a template is escaped by itself: whatever an inventory, an
unknown machine or the audit log says is text."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from provision import assets
from provision.errors import Denied, Problems, ProvisionError, TooMany
from provision.principal import PrincipalRole, spelled
from provision.service.service import Service
from provision.web.operator.authentication import PRINCIPAL
from provision.web.operator.request import principal_of
from provision.web.pages.session import cookie_of, to_login

STATIC = "/static/"
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"
_DIGITS = 16


class Pages:
    """Renders pages over `service`."""

    def __init__(self, service: Service) -> None:
        self.service = service
        directory = assets.directory("templates") / "web"
        files = {path.name: path.read_bytes() for path in sorted((directory / "static").iterdir())}
        self._urls = {name: STATIC + _hashed(name, content) for name, content in files.items()}
        self._files = {_hashed(name, content): content for name, content in files.items()}
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(directory),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals |= {"static": self._urls, "role": PrincipalRole, "spelled": spelled, "once": _once}

    def page(self, request: Request, template: str, status: int = 200, /, **values: Any) -> Response:
        """The page of a template. It knows who asks, and what its forms have to carry."""
        scope = request.scope
        principal = principal_of(scope) if PRINCIPAL in scope else None
        key = self.service.sessions.form_key(cookie_of(scope)) if principal else ""
        return self._response(
            template, status, {"principal": principal, "key": key, "path": request.url.path, **values}
        )

    def part(self, template: str, /, **values: Any) -> str:
        """A part of a page, which changes while it is looked at."""
        return self._templates.get_template(f"{template}.html.j2").render(values)

    def refusal(self, error: ProvisionError) -> Response:
        """The answer to whom nobody knows: the way to the form, or what is wrong."""
        return to_login(error) or self.error(error, None)

    def error(self, error: ProvisionError, request: Request | None) -> Response:
        """What is wrong, and the way out, with every problem of an input."""
        problems = error.problems if isinstance(error, Problems) else ()
        values = {"error": error, "problems": problems, "rule": error.rule if isinstance(error, Denied) else ""}
        if request is not None:
            answer = self.page(request, "error", error.status, **values)
        else:
            answer = self._response("error", error.status, {"principal": None, "key": "", "path": "", **values})
        if isinstance(error, TooMany):
            answer.headers["retry-after"] = str(error.seconds)
        return answer

    def static(self, name: str) -> Response | None:
        """A static file by the name that has its hash in it; None for any other."""
        content = self._files.get(name)
        if content is None:
            return None
        kind = _TYPES[name.rpartition(".")[2]]
        return Response(content, media_type=kind, headers={"cache-control": _FOREVER})

    def _response(self, name: str, status: int, values: Mapping[str, Any]) -> Response:
        return HTMLResponse(self._templates.get_template(f"{name}.html.j2").render(values), status)


def _once() -> str:
    """What tells one copy of a form from every other."""
    return secrets.token_hex(_DIGITS // 2)


def _hashed(name: str, content: bytes) -> str:
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{hashlib.sha256(content).hexdigest()[:_DIGITS]}.{suffix}"
