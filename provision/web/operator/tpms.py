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
        """Every TPM that has proved itself, enrolled or waiting."""
        return service.tpms.listing(principal)

    @routes.post("/v1/tpms", responses=failures(400, 413))
    def import_tpms(body: ImportTpms, principal: SiteAdmin) -> ImportedTpms:
        """Know the endorsement keys of a vendor's list as those of its hosts: the one that a host shows has to be it,
        and is believed without a look."""
        return service.tpms.take(body, principal)

    @routes.get("/v1/hosts/{name}/tpm", responses=failures(404))
    def get_tpm(name: InPath, principal: Reader) -> HostTpms:
        """Everything about the TPM of one host."""
        return service.tpms.of(name, principal)

    @routes.delete("/v1/hosts/{name}/tpm", status_code=204, responses=failures(404))
    def remove_tpm(name: InPath, principal: Admin, imported: bool = False) -> Response:
        """Know none of the host's TPMs any longer; `imported`: nor the fingerprint that a list has given."""
        service.tpms.remove(name, imported, principal)
        return Response(status_code=204)

    @routes.post("/v1/hosts/{name}/tpm/accept", responses=failures(400, 404, 409, 413))
    def accept_tpm(name: InPath, body: WhichTpm, principal: Operator) -> HostTpm:
        """Believe that the TPM with this fingerprint is the host's: it is the one that the host's console shows."""
        return service.tpms.accept(name, body.fingerprint, principal)

    @routes.post("/v1/hosts/{name}/tpm/reject", responses=failures(400, 404, 413))
    def reject_tpm(name: InPath, body: WhichTpm, principal: Operator) -> HostTpms:
        """Let the TPM with this fingerprint wait no longer: it is not the host's."""
        service.tpms.reject(name, body.fingerprint, principal)
        return service.tpms.of(name, principal)

    return routes


def _add_windows(routes: APIRouter, service: Service) -> None:
    """The routes of a host's enrolment window."""

    @routes.post("/v1/hosts/{name}/enrolment", responses=failures(400, 404, 409, 413))
    def open_enrolment(name: InPath, body: OpenEnrolment, principal: Operator) -> OpenedEnrolment:
        """Let the host's TPM be enrolled for a while."""
        return service.tpms.open(name, body.minutes, principal)

    @routes.delete("/v1/hosts/{name}/enrolment", status_code=204, responses=failures(404))
    def close_enrolment(name: InPath, principal: Operator) -> Response:
        """Let the host's TPM be enrolled no longer."""
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
        """Take back the approvals of a base image, and of all images that were approved before it."""
        return service.envelopes.revoke(name, principal)
