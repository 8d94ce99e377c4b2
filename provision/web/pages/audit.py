"""The audit log, from its newest entries back: all, those of a host, those that have a word; the state of its chain."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from provision.api.audit import AuditEntry
from provision.principal import PrincipalRole
from provision.web.operator.request import required
from provision.web.pages.asking import asked, asked_number, get, name
from provision.web.pages.rendering import Pages

_READ, _SHOWN, _DIGITS = 10_000, 200, 18
_APART = ("seq", "time", "event", "host", "operator")


def routes(pages: Pages) -> list[Route]:
    """The routes over the pages' service."""
    auditing = pages.service.auditing

    def show(request: Request) -> Response:
        principal = required(request.scope, PrincipalRole.AUDITOR)
        host, text, before = asked(request, "host"), asked(request, "search"), asked_number(request, "before", _DIGITS)
        may_read = bool(host) or not principal.selector
        limit = _READ if text else _SHOWN + 1
        entries = auditing.entries(name(host) if host else None, limit, principal, before or None) if may_read else []
        found = [entry for entry in entries if not text or text.lower() in _text(entry).lower()]
        shown = [(entry, _rest(entry)) for entry in reversed(found[-_SHOWN:])]
        values = {"entries": shown, "host": host, "search": text, "may_read": may_read, "chain": None}
        oldest = found[-_SHOWN] if len(found) > _SHOWN else entries[0] if len(entries) == limit else None
        searched = len(entries) if text and len(found) <= _SHOWN else 0
        values |= {"older": _older(oldest, host, text), "before": before if may_read else 0, "searched": searched}
        return pages.page(request, "audit", **values)

    def chain(request: Request) -> Response:
        principal = required(request.scope, PrincipalRole.AUDITOR, whole=True)
        verified = auditing.verify(principal)
        nothing = {"entries": [], "host": "", "search": "", "may_read": True, "older": "", "before": 0, "searched": 0}
        return pages.page(request, "audit", chain=verified, **nothing)

    return [get("/audit", show), get("/audit/chain", chain)]


def _older(oldest: AuditEntry | None, host: str, text: str) -> str:
    """Where what is before the `oldest` entry that was looked at is; "" when there is nothing."""
    number = str(oldest.root["seq"]) if oldest is not None else "1"
    if number == "1":
        return ""
    fields = {"search": text, "host": host, "before": number}
    return f"/audit?{urlencode({field: value for field, value in fields.items() if value})}"


def _text(entry: AuditEntry) -> str:
    return " ".join(str(value) for value in entry.root.values())


def _rest(entry: AuditEntry) -> str:
    return ", ".join(f"{field}: {value}" for field, value in entry.root.items() if field not in _APART)
