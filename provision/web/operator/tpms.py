"""Routes of TPMs: when one may be enrolled, which has proved itself, and whether it is believed."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from provision.api.tpms import (
    HostTpm,
    HostTpms,
    ImportedTpms,
    ImportTpms,
    OpenedEnrolment,
    OpenEnrolment,
    RevokedImages,
    TpmExplanation,
    WhichTpm,
)
from provision.service.service import Service
from provision.web.operator.request import Admin, InPath, Operator, Reader, SiteAdmin, failures, new_router


def router(service: Service) -> APIRouter:
    """The routes over `service`."""
    routes = new_router()
    _add_windows(routes, service)
    _add_chains(routes, service)

    @routes.get("/v1/tpms", responses=failures())
    def list_tpms(principal: Reader) -> list[HostTpm]:
        """Every TPM that is enrolled or waits to be accepted."""
        return service.tpms.listing(principal)

    @routes.post("/v1/tpms", responses=failures(400, 413))
    def import_tpms(body: ImportTpms, principal: SiteAdmin) -> ImportedTpms:
        """Import a vendor's list of endorsement keys: the one that a host shows has to be the one that is listed,
        and is enrolled without being compared."""
        return service.tpms.take(body, principal)

    @routes.get("/v1/hosts/{name}/tpm", responses=failures(404))
    def get_tpm(name: InPath, principal: Reader) -> HostTpms:
        """Everything about the TPM of one host."""
        return service.tpms.of(name, principal)

    @routes.delete("/v1/hosts/{name}/tpm", status_code=204, responses=failures(404))
    def remove_tpm(name: InPath, principal: Admin, imported: bool = False) -> Response:
        """Remove the host's TPMs; with `imported`, the fingerprint of a list, too."""
        service.tpms.remove(name, imported, principal)
        return Response(status_code=204)

    @routes.post("/v1/hosts/{name}/tpm/accept", responses=failures(400, 404, 409, 413))
    def accept_tpm(name: InPath, body: WhichTpm, principal: Operator) -> HostTpm:
        """Enrol the TPM that waits with this fingerprint, because the host's console shows the same one."""
        return service.tpms.accept(name, body.fingerprint, principal)

    @routes.post("/v1/hosts/{name}/tpm/reject", responses=failures(400, 404, 413))
    def reject_tpm(name: InPath, body: WhichTpm, principal: Operator) -> HostTpms:
        """Reject the TPM that waits with this fingerprint: it is not the host's."""
        service.tpms.reject(name, body.fingerprint, principal)
        return service.tpms.of(name, principal)

    return routes


def _add_windows(routes: APIRouter, service: Service) -> None:
    """The routes of a host's enrolment window."""

    @routes.post("/v1/hosts/{name}/enrolment", responses=failures(400, 404, 409, 413))
    def open_enrolment(name: InPath, body: OpenEnrolment, principal: Operator) -> OpenedEnrolment:
        """Open an enrolment window for the host's TPM."""
        return service.tpms.open(name, body.minutes, principal)

    @routes.delete("/v1/hosts/{name}/enrolment", status_code=204, responses=failures(404))
    def close_enrolment(name: InPath, principal: Operator) -> Response:
        """Close the enrolment window."""
        service.tpms.close(name, principal)
        return Response(status_code=204)


def _add_chains(routes: APIRouter, service: Service) -> None:
    """The routes of what TPMs are bound to."""

    @routes.get("/v1/hosts/{name}/tpm/explanation", responses=failures(404))
    def explain_tpm(name: InPath, principal: Reader) -> TpmExplanation:
        """What the host's TPM is bound to on each of its networks, what it booted instead, and what is missing."""
        return service.tpm_explanations.explain(name, principal)

    @routes.post("/v1/images/{name}/revoke", responses=failures(404))
    def revoke_image(name: InPath, principal: SiteAdmin) -> RevokedImages:
        """Revoke a base image, and all images that were approved before it. This cannot be undone."""
        return service.envelopes.revoke(name, principal)
