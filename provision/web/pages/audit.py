"""The audit log: its newest entries, those of a host, those that have a word, and the state of its chain."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.api.audit import AuditEntry
from provision.principal import PrincipalRole
from provision.web.operator.request import required
from provision.web.pages.asking import asked, get, name
from provision.web.pages.rendering import Pages

_READ, _SHOWN = 10_000, 200
_APART = ("seq", "time", "event", "host", "operator")


def routes(pages: Pages) -> list[Route]:
    """The routes over the pages' service."""
    auditing = pages.service.auditing

    def show(request: Request) -> Response:
        principal = required(request.scope, PrincipalRole.AUDITOR)
        host, text = asked(request, "host"), asked(request, "search")
        may_read = bool(host) or not principal.selector
        limit = _READ if text else _SHOWN + 1
        entries = auditing.entries(name(host) if host else None, limit, principal) if may_read else []
        found = [entry for entry in entries if not text or text.lower() in _text(entry).lower()]
        shown = [(entry, _rest(entry)) for entry in reversed(found[-_SHOWN:])]
        values = {"entries": shown, "host": host, "search": text, "may_read": may_read, "chain": None}
        values["bounds"] = _bounds(len(entries) if text else 0, len(found))
        return pages.page(request, "audit", **values)

    def chain(request: Request) -> Response:
        principal = required(request.scope, PrincipalRole.AUDITOR, whole=True)
        verified = auditing.verify(principal)
        return pages.page(request, "audit", entries=[], host="", search="", may_read=True, chain=verified, bounds="")

    return [get("/audit", show), get("/audit/chain", chain)]


def _bounds(searched: int, found: int) -> str:
    """What the page leaves out; "" for nothing."""
    said = []
    if found > _SHOWN:
        said.append(f"The newest {_SHOWN} are shown: search for a text or a host to see others.")
    if searched == _READ:
        said.append(
            f"The newest {searched:,} entries were searched: older ones are in the files of the log on the server."
        )
    return " ".join(said)


def _text(entry: AuditEntry) -> str:
    return " ".join(str(value) for value in entry.root.values())


def _rest(entry: AuditEntry) -> str:
    return ", ".join(f"{field}: {value}" for field, value in entry.root.items() if field not in _APART)
