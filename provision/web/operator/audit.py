"""Routes of the audit log, and of what an operator takes as it is: the store, the clock."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from provision.api.audit import Accept, AcceptedClock, AcceptedStore, AuditEntry, Verified
from provision.service.service import Service
from provision.web.operator.request import Asked, Auditor, SiteAdmin, SiteAuditor, failures, new_router


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()

    @routes.get("/v1/audit", responses=failures())
    def list_audit(
        principal: Auditor,
        host: Asked = None,
        limit: Annotated[int, Query(ge=1, le=10000)] = 100,
        before: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    ) -> list[AuditEntry]:
        """The newest entries of the audit log, oldest first; with `before` those whose number (`seq`) is less."""
        return service.auditing.entries(host, limit, principal, before)

    @routes.get("/v1/audit/verify", responses=failures())
    def verify_audit(
        principal: SiteAuditor,
        head: Annotated[list[str], Query()] = [],  # noqa: B006  (FastAPI copies it)
    ) -> Verified:
        """Check the audit log's chain from its first entry to its head, and that each `head` (SEQ:CHAIN) is in it."""
        return service.auditing.verify(principal, head)

    @routes.post("/v1/store/accept", responses=failures(400, 413))
    def accept_store(body: Accept, principal: SiteAdmin) -> AcceptedStore:
        """Believe the database as it is, every window closed."""
        return service.core.footing.accept_store(body.reason, principal)

    @routes.post("/v1/clock/accept", responses=failures(400, 413))
    def accept_clock(body: Accept, principal: SiteAdmin) -> AcceptedClock:
        """Take the clock as it is, every window closed."""
        return service.core.footing.accept_clock(body.reason, principal)

    return routes
