"""The inventory: a file is sent, its difference looked at, and then made."""

from __future__ import annotations

import hashlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.document import Source
from provision.errors import Problems
from provision.inventory.diff import Difference
from provision.principal import PrincipalRole
from provision.web.operator.request import principal_of, required
from provision.web.pages.asking import form_of, get, post
from provision.web.pages.rendering import Pages

_FILE = "inventory.yaml"


def routes(pages: Pages) -> list[Route]:
    """The routes over the pages' service."""
    inventories = pages.service.inventories

    def page(request: Request, text: str, prune: bool, status: int = 200, **values: object) -> Response:
        usual = {"lines": None, "notes": (), "seen": "", "confirm": False, "problems": (), "applied": False}
        return pages.page(request, "inventory", status, text=text, prune=prune, **{**usual, **values})

    def show(request: Request) -> Response:
        principal_of(request.scope)
        return page(request, "", False)

    def send(request: Request) -> Response:
        principal, form = required(request.scope, PrincipalRole.ADMIN, whole=True), form_of(request)
        text, prune = form.get("text", "").replace("\r\n", "\n"), form.get("prune") == "yes"
        files, tag = [Source(_FILE, text.encode())], inventories.tag()
        try:
            _, changes, confirm = inventories.preview(files, prune)
        except Problems as error:
            return page(request, text, prune, error.status, problems=error.problems)
        lines, seen = changes.lines(), fingerprint(text, prune, changes)
        if form.get("seen") != seen:
            # Not seen yet, or the store has changed since: what is applied was looked at.
            return page(request, text, prune, lines=lines, notes=changes.notes, seen=seen, confirm=confirm)
        confirmed = form.get("confirmed") == "yes"
        made = inventories.apply(
            files, prune=prune, confirmed=confirmed, principal=principal, fits=lambda now: now == tag
        )
        return page(request, "", False, lines=made.lines(), notes=made.notes, applied=True)

    return [get("/inventory", show), post("/inventory", send)]


def fingerprint(text: str, prune: bool, changes: Difference) -> str:
    """What stands for an inventory and its difference: who sends it has seen them."""
    parts = (text, str(prune), *changes.lines(), *changes.notes)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
