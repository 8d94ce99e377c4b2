"""Routes of Secure Boot: the site's certificate, and signed unified kernel images."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from provision.api.secure_boot import (
    Enrolment,
    NewEnrolment,
    NewSecureBootKey,
    SecureBootKey,
    SigningRequest,
    SignUnified,
    UnifiedMedium,
    UnifiedRow,
)
from provision.service.service import Service
from provision.web.operator.media import PART, WHOLE
from provision.web.operator.request import InPath, Operator, SiteAdmin, SiteReader, failures, new_router
from provision.web.stream import PlanResponse


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()
    _add_medium(routes, service)

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
        """What a key that is elsewhere has to sign of the unified image of a base."""
        return service.secure_boot.request(name)

    @routes.post("/v1/images/{name}/unified", responses=failures(400, 404, 409, 413))
    def sign_unified_image(name: InPath, body: SignUnified, principal: SiteAdmin) -> UnifiedRow:
        """Build the unified image of a base, sign it or take its signature, and keep it for hosts to boot."""
        return service.secure_boot.sign(name, body, principal)

    @routes.get("/v1/unified", responses=failures())
    def list_unified_images(principal: SiteReader) -> list[UnifiedRow]:
        """Every signed unified image."""
        return service.secure_boot.listing()

    return routes


def _add_medium(routes: APIRouter, service: Service) -> None:
    """The routes of signed images as media."""

    @routes.get("/v1/images/{name}/unified/iso/sha256", responses=failures(404, 409))
    def describe_unified_iso(name: InPath, principal: Operator) -> UnifiedMedium:
        """The SHA-256 of the signed unified image as an ISO, which is built when it is asked for first."""
        return service.secure_boot.medium(name)[1]

    @routes.get(
        "/v1/images/{name}/unified/iso",
        response_class=Response,
        responses={200: WHOLE, 206: PART, **failures(404, 409, 412, 416)},
    )
    def download_unified_iso(name: InPath, principal: Operator) -> Response:
        """The signed unified image as an ISO for CDs, sticks and disks, with Range and a strong ETag: the same for all
        hosts, and without a secret."""
        return PlanResponse(service.secure_boot.medium(name)[0], "application/octet-stream")
