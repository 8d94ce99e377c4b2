"""Routes of Secure Boot: the site's certificate, and signed unified kernel images."""

from __future__ import annotations

from fastapi import APIRouter

from provision.api.secure_boot import (
    Enrolment,
    NewEnrolment,
    NewSecureBootKey,
    SecureBootKey,
    SigningRequest,
    SignUnified,
    UnifiedRow,
)
from provision.service.service import Service
from provision.web.operator.request import InPath, SiteAdmin, SiteReader, failures, new_router


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()

    @routes.post("/v1/secure-boot", responses=failures(400, 409, 413))
    def make_secure_boot_key(body: NewSecureBootKey, principal: SiteAdmin) -> SecureBootKey:
        """Make a Secure Boot key with its certificate, or take the certificate of one that stays elsewhere."""
        return service.secure_boot.init(body, principal)

    @routes.post("/v1/secure-boot/enrolment", responses=failures(400, 409, 413))
    def make_enrolment(body: NewEnrolment, principal: SiteAdmin) -> Enrolment:
        """A medium that puts the site's certificates into firmware."""
        return service.secure_boot.enrolment(body)

    @routes.post("/v1/images/{name}/unified/request", responses=failures(404, 409))
    def request_signature(name: InPath, principal: SiteAdmin) -> SigningRequest:
        """What is to be signed of the unified kernel image of a base, for a key that is elsewhere."""
        return service.secure_boot.request(name)

    @routes.post("/v1/images/{name}/unified", responses=failures(400, 404, 409, 413))
    def sign_unified_image(name: InPath, body: SignUnified, principal: SiteAdmin) -> UnifiedRow:
        """Build the unified kernel image of a base, sign it or take its signature, and keep it for hosts to boot."""
        return service.secure_boot.sign(name, body, principal)

    @routes.get("/v1/unified", responses=failures())
    def list_unified_images(principal: SiteReader) -> list[UnifiedRow]:
        """Every signed unified kernel image."""
        return service.secure_boot.listing()

    return routes
