"""Another identity for a host that keeps one on its own disk, or none any more."""

from __future__ import annotations

from provision.api import hosts as api
from provision.errors import Conflict
from provision.principal import Principal
from provision.service.compromises import Compromises
from provision.service.core import Core
from provision.service.windows import Windows
from provision.stored import Ordered


class Decommissions:
    """Lets hosts have a new identity, and ends the one that they have."""

    def __init__(self, core: Core, windows: Windows, compromises: Compromises) -> None:
        self._core, self._windows, self._compromises = core, windows, compromises

    def reprovision(self, name: str, principal: Principal) -> api.OpenedWindow:
        """Let the host's next boot on its management network carry its seed again, instead of the image alone. Raises
        NotFound, Conflict when it has no identity, and as a window does."""
        self._holding(name, principal)
        # Until that boot the old identity is as good as before.
        opened = self._windows.open(name, None, None, principal)
        with self._core.act("reprovision-ordered", principal, host=name):
            self._core.store.identities.order(name, Ordered.NOTHING)
        self._core.witness()
        return opened

    def decommission(self, name: str, principal: Principal) -> api.Decommissioned:
        """Close the host's window, and let it wipe its identity as soon as it says something. Raises NotFound, and
        Conflict when it has none."""
        self._holding(name, principal)
        self._windows.close(name, principal)
        with self._core.act("decommission-ordered", principal, host=name):
            self._core.store.identities.order(name, Ordered.WIPE)
        self._core.witness()
        return api.Decommissioned(host=name, wiping=True)

    def lost(self, name: str, principal: Principal) -> api.Decommissioned:
        """Whoever has the host's disk has its identity: forget it, and declare the host compromised. Raises
        NotFound."""
        state = self._core.seen(name, principal)
        with self._core.act("identity-lost", principal, host=name):
            self._core.store.identities.remove(state.host.name)
        self._compromises.declare(name, principal)
        return api.Decommissioned(host=name, wiping=False)

    def _holding(self, name: str, principal: Principal) -> None:
        self._core.seen(name, principal)
        if self._core.store.identities.of(name) is None:
            remedy = f"let it boot: 'provision window {name}'; if its disk is gone, 'decommission --lost'"
            raise Conflict(name, "has said of no identity that it has on its disk", remedy)
