"""A host that moves to new hardware, with everything that it is: what it left behind is believed no longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from provision.api.hosts import MovedHost
from provision.errors import Conflict
from provision.host import Host
from provision.inventory import replacement
from provision.inventory.diff import Difference
from provision.principal import Principal
from provision.service.acts import act
from provision.service.core import Core
from provision.service.inventory import Fits, Inventories, shown, whatever
from provision.site import Inventory


@dataclass(frozen=True)
class Move:
    """A host as it is on its new hardware, its `nics` with each one before and now, and what that makes of the
    inventory."""

    host: Host
    nics: tuple[tuple[str, str], ...]
    inventory: Inventory
    changes: Difference

    def shown(self, *, applied: bool, tag: str) -> MovedHost:
        """The same for operators; `tag` is of the inventory as it is then."""
        return MovedHost(
            host=self.host.name,
            interfaces={name: one.macs for name, one in self.host.interfaces.items()},
            uuid=self.host.uuid,
            changes=shown(self.changes, applied=applied, confirm=False, tag=tag),
        )


class Moves:
    """Moves hosts to new hardware."""

    def __init__(self, core: Core, inventories: Inventories) -> None:
        self._core, self._inventories = core, inventories

    def look(self, name: str, macs: Sequence[str], uuid: UUID | None, principal: Principal) -> Move:
        """What it changes that the host is a machine with these NICs, in the order of those that it has, and with this
        UUID (SMBIOS).

        Raises NotFound, Denied, Conflict and Problems as an exchange of one NIC does.
        """
        host = self._inventories.exchanging(name, principal)
        old = tuple(dict.fromkeys(mac for one in host.interfaces.values() for mac in one.macs))
        if len(macs) != len(old) or len(set(macs)) != len(macs):
            fact = f"has {len(old)} NIC{'s' if len(old) > 1 else ''}, and the command names {len(set(macs))}"
            raise Conflict(name, fact, f"give a new MAC for each of {', '.join(old)}, in this order")
        for mac in macs:
            self._inventories.require_free(mac)
        nics = tuple(zip(old, macs, strict=True))
        for before, after in nics:
            host = replacement.replaced(host, before, after)
        host = host.model_copy(update={"uuid": uuid})
        merged, changes = self._inventories.with_host(host)
        return Move(host, nics, merged, replace(changes, notes=(*changes.notes, *self._notes(host))))

    def _notes(self, host: Host) -> list[str]:
        store, notes = self._core.store, []
        if store.tpms.holds(host.name):
            notes.append(f"its TPM is no longer enrolled; enrol the new machine's TPM: 'provision enroll {host.name}'")
        if store.identities.of(host.name) is not None:
            notes.append("the old machine still has its identity on its disk: wipe that disk")
        if host.disk is not None and (host.disk.serial or host.disk.wwn or host.disk.path):
            notes.append("its 'disk' names the disk of the old machine; change it in the inventory, and apply")
        return notes

    def move(
        self, name: str, macs: Sequence[str], uuid: UUID | None, principal: Principal, fits: Fits = whatever
    ) -> Move:
        """Move the host. Its window is closed, its links are revoked, its TPM and the identity on its disk are believed
        no longer, and media that were made for it before are withdrawn. Raises as `look` does, and Outdated when the
        entity tag of the present inventory does not fit."""
        core, store = self._core, self._core.store
        with core.lock, store.database.lock:
            self._inventories.exchanging(name, principal)
            self._inventories.require(fits)
            made = self.look(name, macs, uuid, principal)
            links, kept = store.links.standing(name), tuple(store.earlier_credentials.of(name))
            endings = [
                store.windows.closing,
                store.enrolments.closing,
                store.tpms.removing,
                store.identities.removing,
                store.slots.removing,
                lambda tx, host: store.links.revoking(tx, links),
                lambda tx, host: store.earlier_credentials.removing(tx, host, kept),
            ]
            told = [{"host": name, "mac": after, "replaced": before} for before, after in made.nics]
            with act(core.audit, core.clock, "host-moved", principal, told):
                # First: whoever is killed in between leaves nothing that is good for the old machine.
                store.compromises.declare(name, [], endings, core.clock(), principal)
                store.hosts.apply(made.inventory, principal)
        core.witness()
        core.charged.forget(name)
        return made
