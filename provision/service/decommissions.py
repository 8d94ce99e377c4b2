"""Another identity for a host that keeps one on its own disk, or none any more."""

from __future__ import annotations

from provision.api import hosts as api
from provision.errors import Conflict, Outdated
from provision.host import Netboot, Storage
from provision.principal import Principal
from provision.service.compromises import Compromises
from provision.service.core import Core
from provision.service.windows import Windows
from provision.stored import Ordered, StoredIdentity


class Decommissions:
    """Lets hosts have a new identity, and ends the one that they have."""

    def __init__(self, core: Core, windows: Windows, compromises: Compromises) -> None:
        self._core, self._windows, self._compromises = core, windows, compromises

    def reprovision(self, name: str, principal: Principal) -> api.OpenedWindow:
        """Let the host's next boot on its management network carry its seed again, instead of the image alone. Raises
        NotFound, Conflict when it has no identity, and as a window does."""
        with self._core.lock:
            self._holding(name, principal)
            # Until that boot the old identity is as good as before.
            opened = self._windows.open(name, None, None, principal)
            with self._core.act("reprovision-ordered", principal, host=name):
                self._core.store.identities.order(name, Ordered.NOTHING)
            self._core.witness()
        return opened

    def decommission(self, name: str, principal: Principal, looked_at: str | None = None) -> api.Decommissioned:
        """Close the host's windows, believe its TPM no longer, and let it wipe its identity as soon as it says
        something. Raises NotFound, Conflict when it has none, or would get another one at its next boot, and Outdated
        when it has another revision by now than the one `looked_at`."""
        core = self._core
        # What the host says in between must not take the order back.
        with core.lock:
            self._require(name, principal, looked_at)
            sealed = self._is_diskless(name, principal) or self._holding(name, principal).is_sealed
            if core.hosts[name].netboot is Netboot.ALWAYS:
                fact = "has 'netboot: always', so its next boot would give it a new identity"
                raise Conflict(name, fact, "set 'netboot: never' and run 'provision apply' first")
            self._windows.close(name, principal)
            with core.act("decommission-ordered", principal, host=name):
                core.store.enrolments.close(name)
                if core.store.tpms.holds(name):
                    core.store.tpms.remove(name)
                core.store.identities.order(name, Ordered.WIPE)
            core.witness()
        return api.Decommissioned(host=name, wiping=True, sealed=sealed)

    def lost(self, name: str, principal: Principal, looked_at: str | None = None) -> api.Decommissioned:
        """Whoever has the host's disk has its identity: forget it, and declare the host compromised, also when it was
        an envelope: the machine may be gone with its disk. Raises NotFound, and Outdated as `decommission` does."""
        with self._core.lock:
            self._require(name, principal, looked_at)
            stored = self._core.store.identities.of(name)
            sealed = stored is not None and stored.is_sealed
            with self._core.act("identity-lost", principal, host=name):
                self._core.store.identities.remove(name)
        self._compromises.declare(name, principal)
        return api.Decommissioned(host=name, wiping=False, sealed=sealed)

    def _require(self, name: str, principal: Principal, looked_at: str | None) -> None:
        host = self._core.seen(name, principal).host
        if looked_at not in (None, host.revision):
            raise Outdated(
                name, "somebody has changed it since you looked at it", "look at it again, then decommission it"
            )

    def _is_diskless(self, name: str, principal: Principal) -> bool:
        """Whether all that the host may have is a key in its TPM, which it is told to remove once that is enrolled no
        longer."""
        state = self._core.seen(name, principal)
        return state.host.storage is Storage.NONE and self._core.store.tpms.holds(name)

    def _holding(self, name: str, principal: Principal) -> StoredIdentity:
        self._core.seen(name, principal)
        stored = self._core.store.identities.of(name)
        if stored is None:
            remedy = f"boot it first; if its disk is lost: 'provision host decommission {name} --lost'"
            raise Conflict(name, "has not reported an identity on its disk", remedy)
        return stored
