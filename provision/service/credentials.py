"""What an operator does with credentials: check and seal, list, remove. Nothing here gives content back."""

from __future__ import annotations

from typing import Any

from provision import credential
from provision.errors import Invalid
from provision.secret import Secret
from provision.service.core import Core
from provision.store.store import CredentialInfo, CredentialInput


class Credentials:
    """Credentials by host and name. A credential's kind and usual place are declared in the site."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def put(self, host: str, name: str, data: Secret, path: str | None, mode: str | None, actor: str) -> dict[str, Any]:
        """Check `data` against its kind and the host, and seal it as a new version.

        Raises NotFound for an unknown host, Invalid for an undeclared name, a bad path or content that does not fit.
        """
        core = self._core
        state = core.state(host)
        declared = core.site.credentials.get(name)
        if declared is None:
            known = ", ".join(core.site.credentials) or "none"
            raise Invalid(
                f"{host}/{name}",
                f"the site declares no such credential (declared: {known})",
                "declare it under site.credentials and apply",
            )
        with core.lock:
            others = core.store.open_credentials(
                host, [c.name for c in core.store.list_credentials(host) if c.name != name]
            )
            checked = credential.check(declared.kind, name, data, state.host, core.site, others, core.clock())
            entry = CredentialInput(
                name, declared.kind, path or declared.path, mode or declared.mode, data, checked.not_after
            )
            core.note("credential-set", actor, host=host, credential=name)
            version = core.store.set_credential(host, entry, core.clock())
        return {"host": host, "name": name, "version": version}

    def remove(self, host: str, name: str, actor: str) -> None:
        """Remove a credential; raises NotFound when there is none."""
        self._core.state(host)
        self._core.note("credential-removed", actor, host=host, credential=name)
        self._core.store.remove_credential(host, name)

    def listing(self, host: str | None) -> list[dict[str, Any]]:
        """Name, kind, place, version and fingerprint of every credential, or of one host's."""
        if host is not None:
            self._core.state(host)
        return [_info(info) for info in self._core.store.list_credentials(host)]


def _info(info: CredentialInfo) -> dict[str, Any]:
    return {
        "host": info.host,
        "name": info.name,
        "kind": str(info.kind),
        "path": info.path,
        "mode": info.mode,
        "version": info.version,
        "sha256": info.fingerprint,
        "not_after": info.not_after.isoformat() if info.not_after else None,
    }
