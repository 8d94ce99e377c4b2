"""What an operator does with credentials: check and seal, list, remove. Nothing here gives content back."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from provision import credential
from provision.api.credentials import CredentialRow, Sealed
from provision.credential import Held
from provision.errors import Invalid, Problem, Problems, ProvisionError
from provision.host import Host
from provision.principal import Principal
from provision.secret import Secret
from provision.service.acts import act
from provision.service.compatibility import obstruction
from provision.service.core import Core
from provision.site import CredentialKind, CredentialSpec, exposure
from provision.store.credentials import CredentialInfo, CredentialInput


class Credentials:
    """Credentials by host and name. A credential's kind and usual place are declared in the site."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def put(
        self, host: str, name: str, data: Secret, path: str | None, mode: str | None, principal: Principal
    ) -> Sealed:
        """Check `data` against its kind and the host, and seal it as a new version; the same again is the same version.

        Raises NotFound for an unknown host, Invalid for an undeclared name, a bad path or content that does not fit.
        """
        with self._core.lock:
            self._core.seen(host, principal)
            entry = self._checked(host, name, data, path, mode, (), ())
            if (present := self._version(host, entry)) is not None:
                return self._sealed(host, name, present)
            with self._core.act("credential-set", principal, host=host, credential=name):
                version = self._core.store.credentials.set(host, entry, self._core.clock())
            self._core.witness()
        return self._sealed(host, name, version)

    def _sealed(self, host: str, name: str, version: int) -> Sealed:
        exposed = name in self._core.store.snapshot.exposed.get(host, ())
        return Sealed(host=host, name=name, version=version, exposed=exposed)

    def put_many(self, items: Sequence[tuple[str, str, Secret]], principal: Principal) -> list[Sealed]:
        """The same for (host, name, data) of many: all of them in one transaction, or Problems with every misfit."""
        core = self._core
        with core.lock:
            entries = self.fitting(items, principal)
            present = [self._version(host, entry) for host, entry in entries]
            changed = [one for one, version in zip(entries, present, strict=True) if version is None]
            sealed = iter(self._seal(changed, principal) if changed else ())
        rows = zip(entries, present, strict=True)
        return [self._sealed(host, entry.name, old or next(sealed)) for (host, entry), old in rows]

    def _seal(self, entries: Sequence[tuple[str, CredentialInput]], principal: Principal) -> list[int]:
        core, told = self._core, [{"host": host, "credential": entry.name} for host, entry in entries]
        with act(core.audit, core.clock, "credential-set", principal, told):
            versions = core.store.credentials.set_all(entries, core.clock())
        core.witness()
        return versions

    def _version(self, host: str, entry: CredentialInput) -> int | None:
        """The version that is sealed, when it is this very one; None when sealing this would change something."""
        store = self._core.store
        version = store.snapshot.credentials.get(host, {}).get(entry.name)
        if version is None:
            return None
        try:
            (held,) = store.credentials.open(host, [entry.name])
        except ProvisionError:
            return None  # it is damaged, and to be replaced
        same = (held.kind, held.path, held.mode) == (entry.kind, entry.path, entry.mode)
        return version if same and hmac.compare_digest(held.secret.reveal(), entry.data.reveal()) else None

    def fitting(
        self, items: Sequence[tuple[str, str, Secret]], principal: Principal
    ) -> list[tuple[str, CredentialInput]]:
        """What `put_many` would seal, by host; raises Problems with every misfit. Nothing is sealed."""
        coming: dict[str, set[str]] = {}
        for host, name, _ in items:
            coming.setdefault(host, set()).add(name)
        fellows: dict[str, list[CredentialInput]] = {host: [] for host in coming}
        entries, problems = [], []
        for host, name, data in items:
            try:
                self._core.seen(host, principal)
                entry = self._checked(host, name, data, None, None, fellows[host], coming[host])
            except ProvisionError as error:
                problems.append(Problem(f"{host}/{name}", 0, "", error.fact, error.remedy))
                continue
            fellows[host].append(entry)
            entries.append((host, entry))
        if problems:
            raise Problems(problems, "credentials")
        return entries

    def _checked(
        self,
        host: str,
        name: str,
        data: Secret,
        path: str | None,
        mode: str | None,
        fellows: Sequence[CredentialInput],
        coming: Collection[str],
    ) -> CredentialInput:
        """The credential when it fits its host beside its `fellows` of the same load, and beside what stays sealed: all
        but itself and those that are `coming`."""
        core = self._core
        state = core.state(host)
        declared = core.site.credentials.get(name)
        if declared is None:
            known = ", ".join(core.site.credentials) or "none"
            fact = f"the site declares no such credential (declared: {known})"
            raise Invalid(f"{host}/{name}", fact, "declare it under site.credentials and apply")
        if name not in state.host.credentials:
            fact = f"{host} does not name this credential, so its image would not have it"
            raise Invalid(f"{host}/{name}", fact, "add it to the host's credentials and apply")
        entry = _entry(host, name, declared, path, mode, data)
        held = [n for n in core.store.snapshot.credentials.get(host, {}) if n != name and n not in coming]
        sealed = core.store.credentials.open(host, held)
        paths = {other.name: other.path for other in sealed} | {fellow.name: fellow.path for fellow in fellows}
        self._require_room(state.host, entry, paths)
        others: list[Held] = [*sealed, *map(_held, fellows)]
        now = core.clock()
        found = credential.check(declared.kind, name, data, state.host, core.site, others, now, entry.path)
        return replace(entry, not_after=found.not_after, held=self._on_disk(host, name))

    def _require_room(self, host: Host, entry: CredentialInput, paths: Mapping[str, str]) -> None:
        """Raise Invalid when another file of the host's seed is in the way; what is not sealed yet will stand where the
        site says."""
        site = self._core.site
        places = {n: paths.get(n, site.credentials[n].path) for n in host.credentials if n != entry.name}
        if fact := obstruction(host, site, entry.path, places):
            raise Invalid(f"{host.name}/{entry.name}", fact, "give it another --path, or another path in the site")

    def remove(self, host: str, name: str, principal: Principal) -> None:
        """Remove a credential; raises NotFound when there is none."""
        with self._core.lock:
            self._core.seen(host, principal)
            self._core.store.credentials.require(host, name)
            with self._core.act("credential-removed", principal, host=host, credential=name):
                self._core.store.credentials.remove(host, name)
            self._core.witness()

    def listing(self, host: str | None, principal: Principal) -> list[CredentialRow]:
        """Name, kind, place, version and fingerprint of every credential that the principal sees, or of one host's."""
        if host is not None:
            self._core.seen(host, principal)
        seen = {one.name for one in self._core.visible(principal)}
        exposed = self._core.store.snapshot.exposed
        return [
            _info(
                info,
                exposed=info.name in exposed.get(info.host, ()),
                held=self._on_disk(info.host, info.name),
                earlier=self._core.store.earlier_credentials.of(info.host).get(info.name),
            )
            for info in self._core.store.credentials.infos(host)
            if info.host in seen
        ]

    def _on_disk(self, host: str, name: str) -> int | None:
        """The version of a credential that its host says it has on its disk."""
        stored = self._core.store.identities.of(host)
        return stored.holds.credentials.get(name) if stored is not None else None


@dataclass(frozen=True)
class _Fellow:
    """A credential of the same load, as the checks of the others see it."""

    name: str
    kind: CredentialKind
    secret: Secret


def _held(entry: CredentialInput) -> _Fellow:
    return _Fellow(entry.name, entry.kind, entry.data)


def _entry(
    host: str, name: str, declared: CredentialSpec, path: str | None, mode: str | None, data: Secret
) -> CredentialInput:
    """The credential at its place on the host; raises Invalid for a place that no file, or no such secret, can have."""
    wanted = {key: value for key, value in (("path", path), ("mode", mode)) if value is not None}
    try:
        spec = CredentialSpec.model_validate(declared.model_dump() | wanted)
    except ValidationError:
        fact = "its path is not one below /etc, or its mode is not four octal digits"
        raise Invalid(f"{host}/{name}", fact, "such as --path /etc/krb5.keytab --mode 0600") from None
    if fact := exposure(spec.kind, spec.mode):
        raise Invalid(f"{host}/{name}", fact, "give it mode 0600")
    pair = spec.kind is CredentialKind.CERTIFICATE and credential.holds_key(data)
    if pair and (fact := exposure(CredentialKind.KEY, spec.mode)):
        raise Invalid(f"{host}/{name}", f"holds a private key: {fact}", "give it mode 0600, or seal the key by itself")
    return CredentialInput(name, spec.kind, spec.path, spec.mode, data)


def _info(info: CredentialInfo, *, exposed: bool, held: int | None, earlier: int | None) -> CredentialRow:
    return CredentialRow(
        host=info.host,
        name=info.name,
        kind=info.kind,
        path=info.path,
        mode=info.mode,
        version=info.version,
        sha256=info.fingerprint,
        not_after=info.not_after.isoformat() if info.not_after else None,
        exposed=exposed,
        held=held,
        earlier=earlier,
        made=info.created.isoformat(),
    )
