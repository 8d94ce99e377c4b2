"""The site's keys as they are used: made when one is needed first, rolled over, retired."""

from __future__ import annotations

from base64 import b64encode

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision import key_pairs
from provision.api import site_keys as api
from provision.errors import Conflict
from provision.host import Chain, Host
from provision.principal import Principal
from provision.service.core import Core
from provision.site_key import KeyUse, SiteKey

_NAMED = 10
"""Hosts that an error names."""
_NEW = {KeyUse.SIGNING: key_pairs.new_signing, KeyUse.APPROVAL: key_pairs.new_approval}


class SiteKeys:
    """Makes and retires the site's keys, and opens the one that is used."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def trusted(self, use: KeyUse) -> list[SiteKey]:
        """The keys of one use, the oldest first; a signing or approval key is made when there is none.

        Raises Unavailable.
        """
        known = self._core.store.site_keys.of(use)
        if known or use not in _NEW:
            return known
        with self._core.lock:
            return self._core.store.site_keys.of(use) or [self._make(use, None)]

    def signing(self) -> tuple[SiteKey, Ed25519PrivateKey]:
        """The key that signs what hosts take. Raises Unavailable."""
        key = self.trusted(KeyUse.SIGNING)[0]
        return key, key_pairs.signing_key(self._core.store.site_keys.open(key))

    def approval(self) -> tuple[SiteKey, ec.EllipticCurvePrivateKey]:
        """The key that approves boot chains. Raises Unavailable."""
        key = self.trusted(KeyUse.APPROVAL)[0]
        return key, key_pairs.approval_key(self._core.store.site_keys.open(key))

    def secure_boot(self) -> tuple[SiteKey, rsa.RSAPrivateKey]:
        """The key that signs what firmware starts. Raises Conflict when there is none, or it is not on this server."""
        known = self.trusted(KeyUse.SECURE_BOOT)
        if not known:
            raise Conflict("Secure Boot key of the site", "there is none", "make it: 'provision sb init'")
        return known[0], key_pairs.secure_boot_key(self._core.store.site_keys.open(known[0]))

    def listing(self) -> list[api.SiteKeyRow]:
        """Every key, without its private half."""
        keys = self._core.store.site_keys.all()
        first = {key.use: key.number for key in reversed(keys)}
        return [_row(key, used=first[key.use] == key.number) for key in keys]

    def roll(self, use: KeyUse, principal: Principal) -> api.SiteKeyRow:
        """Make one more key of a use. Images that are made from now on know it; it is used when the older ones are
        retired. Raises Conflict for a Secure Boot key, which 'sb init' makes, and when there are too many."""
        if use not in _NEW:
            raise Conflict("Secure Boot key of the site", "needs a certificate", "make both: 'provision sb init'")
        with self._core.lock:
            key = self._make(use, principal)
            return _row(key, used=self._core.store.site_keys.of(use)[0] == key)

    def retire(self, number: int, principal: Principal, force: bool = False) -> None:
        """Forget a key. Raises NotFound, and Conflict for the last one of its use, and unless `force` while hosts have
        not come up since the next one was made."""
        core = self._core
        with core.lock:
            key = core.store.site_keys.get(number)
            known = core.store.site_keys.of(key.use)
            if len(known) == 1:
                make = f"site-key roll {key.use}" if key.use in _NEW else "sb init"
                fact = f"is the only one for the use '{key.use}'"
                raise Conflict(f"site key {number}", fact, f"make another first: 'provision {make}'")
            if key == known[0] and not force:
                self._require_known(number, known[1])
            fields = {"kind": key.use.value, "version": number, "sha256": key.fingerprint}
            with core.act("site-key-retired", principal, **fields):
                core.store.site_keys.remove(number)
            core.witness()

    def _require_known(self, number: int, successor: SiteKey) -> None:
        hosts = [name for name in self._core.hosts if self._is_behind(name, successor)]
        if hosts:
            more = f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else ""
            count = f"{len(hosts)} host{'s have' if len(hosts) > 1 else ' has'}"
            fact = f"{count} not booted since key {successor.number} was made: {', '.join(hosts[:_NAMED])}{more}"
            remedy = "boot them first, or give --force when somebody else may have the key"
            raise Conflict(f"site key {number}", fact, remedy)

    def _is_behind(self, name: str, successor: SiteKey) -> bool:
        """Whether the host has what it goes by from before the key was made, and so may not know it. One that never
        came up knows no key."""
        core = self._core
        if not self._concerns(core.hosts[name], successor.use):
            return False
        stored = core.store.identities.of(name)
        if stored is not None and successor.use is KeyUse.SIGNING:
            return stored.reported < successor.created
        began = [boot.started for boot in core.store.boots.of(name) if boot.up is not None]
        return bool(began) and max(began) < successor.created

    def _concerns(self, host: Host, use: KeyUse) -> bool:
        if use is KeyUse.SIGNING:
            return self._core.is_signed(host)
        return host.chain is Chain.UKI or (use is KeyUse.APPROVAL and self._core.store.tpms.holds(host.name))

    def _make(self, use: KeyUse, principal: Principal | None) -> SiteKey:
        core, (public, private) = self._core, _NEW[use]()
        actor = principal.name if principal is not None else "provision"
        with core.act("site-key-made", principal, kind=use.value):
            key = core.store.site_keys.add(use, public, private, core.clock(), actor)
        core.witness()
        return key


def _row(key: SiteKey, *, used: bool) -> api.SiteKeyRow:
    return api.SiteKeyRow(
        number=key.number,
        use=key.use,
        public=b64encode(key.public).decode(),
        fingerprint=key.fingerprint,
        used=used,
        on_server=key.sealed,
        created=key.created.isoformat(),
        actor=key.actor,
    )
