"""What an operator does with credentials: check and seal, list, remove. Nothing here gives content back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from provision import credential
from provision.credential import Held
from provision.errors import Invalid, Problem, Problems, ProvisionError
from provision.secret import Secret
from provision.service.core import Core
from provision.site import CredentialKind, CredentialSpec
from provision.store.credentials import CredentialInfo, CredentialInput


class Credentials:
    """Credentials by host and name. A credential's kind and usual place are declared in the site."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def put(self, host: str, name: str, data: Secret, path: str | None, mode: str | None, actor: str) -> dict[str, Any]:
        """Check `data` against its kind and the host, and seal it as a new version.

        Raises NotFound for an unknown host, Invalid for an undeclared name, a bad path or content that does not fit.
        """
        with self._core.lock:
            entry = self._checked(host, name, data, path, mode, ())
            self._core.note("credential-set", actor, host=host, credential=name)
            version = self._core.store.set_credential(host, entry, self._core.clock())
        return {"host": host, "name": name, "version": version}

    def put_many(self, items: Sequence[tuple[str, str, Secret]], actor: str) -> list[dict[str, Any]]:
        """The same for (host, name, data) of many: all of them in one transaction, or Problems with every misfit."""
        core = self._core
        with core.lock:
            entries: list[tuple[str, CredentialInput]] = []
            problems = []
            for host, name, data in items:
                fellows = [entry for other, entry in entries if other == host]
                try:
                    entries.append((host, self._checked(host, name, data, None, None, fellows)))
                except ProvisionError as error:
                    problems.append(Problem(f"{host}/{name}", 0, "", error.fact, error.remedy))
            if problems:
                raise Problems(problems)
            for host, entry in entries:
                core.note("credential-set", actor, host=host, credential=entry.name)
            versions = core.store.set_credentials(entries, core.clock())
        rows = zip(entries, versions, strict=True)
        return [{"host": host, "name": entry.name, "version": version} for (host, entry), version in rows]

    def _checked(
        self,
        host: str,
        name: str,
        data: Secret,
        path: str | None,
        mode: str | None,
        fellows: Sequence[CredentialInput],
    ) -> CredentialInput:
        core = self._core
        state = core.state(host)
        declared = core.site.credentials.get(name)
        if declared is None:
            known = ", ".join(core.site.credentials) or "none"
            fact = f"the site declares no such credential (declared: {known})"
            raise Invalid(f"{host}/{name}", fact, "declare it under site.credentials and apply")
        place = _place(f"{host}/{name}", path or declared.path, mode or declared.mode)
        coming = {name, *(fellow.name for fellow in fellows)}
        held = [n for n in core.store.snapshot.credentials.get(host, {}) if n not in coming]
        others: list[Held] = [*core.store.open_credentials(host, held), *map(_held, fellows)]
        checked = credential.check(declared.kind, name, data, state.host, core.site, others, core.clock())
        return CredentialInput(name, declared.kind, *place, data, checked.not_after)

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


@dataclass(frozen=True)
class _Fellow:
    """A credential of the same load, as the checks of the others see it."""

    name: str
    kind: CredentialKind
    secret: Secret


def _held(entry: CredentialInput) -> _Fellow:
    return _Fellow(entry.name, entry.kind, entry.data)


def _place(subject: str, path: str, mode: str) -> tuple[str, str]:
    try:
        spec = CredentialSpec.model_validate({"kind": CredentialKind.FILE, "path": path, "mode": mode})
    except ValidationError:
        fact = "its path is not one below /etc, or its mode is not four octal digits"
        raise Invalid(subject, fact, "such as --path /etc/krb5.keytab --mode 0600") from None
    return spec.path, spec.mode


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
