"""TPMs as operators see them: they let one be enrolled, compare its fingerprint, and say when it is gone."""

from __future__ import annotations

import hmac
from dataclasses import replace

from provision.api import tpms as api
from provision.enrolled_tpm import EnrolledTpm
from provision.errors import Conflict, Invalid, NotFound, Problem, Problems
from provision.principal import Principal
from provision.service.core import Core
from provision.store.enrolments import LONGEST
from provision.tpm import endorsement

_LIST = "list of TPMs"


class Tpms:
    """Windows for enrolment, and what becomes of TPMs that have proved themselves."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def listing(self, principal: Principal) -> list[api.HostTpm]:
        """Every TPM that has proved itself on a host that the principal sees."""
        seen = {host.name for host in self._core.visible(principal)}
        return [_shown(tpm) for tpm in self._core.store.tpms.all() if tpm.host in seen]

    def of(self, name: str, principal: Principal) -> api.HostTpms:
        """Everything about the TPM of one host. Raises NotFound."""
        return self._of(self._core.seen(name, principal).host.name)

    def states(self, principal: Principal) -> list[api.HostTpms]:
        """The same of every host of which anything is known: first those that somebody has to look at, whose TPMs wait
        or whose enrolment is open."""
        found = [self._of(host.name) for host in self._core.visible(principal)]
        known = [one for one in found if one.tpms or one.window or one.imported]
        return sorted(known, key=lambda one: (all(tpm.enrolled for tpm in one.tpms), one.window is None, one.host))

    def _of(self, name: str) -> api.HostTpms:
        store = self._core.store
        own = store.tpms.get(name)
        window = store.enrolments.window(name, self._core.clock())
        found = (own,) if own is not None else store.tpms.pending(name)
        return api.HostTpms(
            host=name,
            tpms=tuple(map(_shown, found)),
            window=window.expires.isoformat() if window is not None else None,
            imported=store.enrolments.imported(name),
        )

    def open(self, name: str, minutes: int, principal: Principal) -> api.OpenedEnrolment:
        """Let the host's TPM be enrolled for a while. Raises NotFound, Invalid, and Conflict when one is."""
        core, name = self._core, self._core.seen(name, principal).host.name
        if not 1 <= minutes <= LONGEST:
            raise Invalid(name, f"an enrolment window has 1 to {LONGEST} minutes", "choose a number in that range")
        if core.store.tpms.get(name) is not None:
            remedy = f"if it was replaced, run 'provision tpm remove {name}' first"
            raise Conflict(f"TPM of {name}", "one is enrolled already", remedy)
        with core.act("enrolment-opened", principal, host=name, minutes=minutes):
            opened = core.store.enrolments.open(name, minutes, core.clock(), principal)
        core.witness()
        return api.OpenedEnrolment(host=name, expires=opened.expires.isoformat())

    def close(self, name: str, principal: Principal) -> None:
        """Let the host's TPM be enrolled no longer. Raises NotFound."""
        core, name = self._core, self._core.seen(name, principal).host.name
        if core.store.enrolments.window(name, core.clock()) is None:
            return
        with core.act("enrolment-closed", principal, host=name):
            core.store.enrolments.close(name)
        core.witness()

    def accept(self, name: str, fingerprint: str, principal: Principal) -> api.HostTpm:
        """Believe that a TPM that waits is the host's, because its whole `fingerprint` is the one on the host's
        console. Raises NotFound when none has it, and Conflict when another one is enrolled."""
        core, name = self._core, self._core.seen(name, principal).host.name
        with core.store.database.lock:
            waiting = self._waiting(name, fingerprint)
            tpm = replace(waiting, known=f"accepted {principal.name}", actor=principal.name)
            core.store.tpms.require_place(tpm)
            about = {"host": name, "kind": str(tpm.kind), "sha256": tpm.fingerprint, "reason": tpm.known}
            with core.act("tpm-enrolled", principal, **about):
                core.store.tpms.put(tpm)
                core.store.enrolments.close(name)
        core.witness()
        return _shown(tpm)

    def reject(self, name: str, fingerprint: str, principal: Principal) -> None:
        """Let a TPM wait no longer: it is not the host's. Raises NotFound."""
        core, name = self._core, self._core.seen(name, principal).host.name
        with core.store.database.lock:
            waiting = self._waiting(name, fingerprint)
            with core.act("tpm-rejected", principal, host=name, sha256=waiting.fingerprint):
                core.store.tpms.reject(name, waiting.fingerprint)
        core.witness()

    def remove(self, name: str, imported: bool, principal: Principal) -> None:
        """Know none of the host's TPMs any longer, and with `imported` none that a list has named for it. Raises
        NotFound when there is nothing to be removed."""
        core, name = self._core, self._core.seen(name, principal).host.name
        with core.store.database.lock:
            own, listed = core.store.tpms.get(name), core.store.enrolments.imported(name) if imported else None
            about = {"host": name, "sha256": own.fingerprint if own is not None else listed}
            with core.act("tpm-removed", principal, **about):
                if listed is not None:
                    core.store.enrolments.forget_import(name)
                if listed is None or core.store.tpms.holds(name):
                    core.store.tpms.remove(name)
        core.witness()

    def take(self, order: api.ImportTpms, principal: Principal) -> api.ImportedTpms:
        """Know the endorsement keys of a vendor's list as those of its hosts. Raises Problems for rows that name no
        host of the inventory or no fingerprint, and then takes none."""
        core = self._core
        try:
            listed = endorsement.fingerprints(order.content.decode(), _LIST)
        except UnicodeDecodeError:
            raise Invalid(_LIST, "is not UTF-8", "export it as CSV again") from None
        fact = "no host of this name is in the inventory"
        problems = [Problem(_LIST, 0, one, fact) for one in listed if one not in core.hosts]
        problems += [Problem(_LIST, 0, one, "another TPM is enrolled") for one in listed if self._differs(one, listed)]
        if problems:
            raise Problems(problems, _LIST)
        if not listed:
            raise Invalid(_LIST, "names no host", "give it a row for each host")
        with core.act("tpm-imported", principal, file=order.file, count=len(listed)):
            core.store.enrolments.take(listed, core.clock(), principal)
        core.witness()
        return api.ImportedTpms(hosts=len(listed))

    def _differs(self, host: str, listed: dict[str, str]) -> bool:
        own = self._core.store.tpms.get(host)
        return own is not None and own.fingerprint != listed[host]

    def _waiting(self, name: str, fingerprint: str) -> EnrolledTpm:
        for one in self._core.store.tpms.pending(name):
            if hmac.compare_digest(one.fingerprint, fingerprint):
                return one
        remedy = f"compare all of it with the host's console, and see 'provision tpm show {name}'"
        raise NotFound(f"TPM of {name}", "none with this fingerprint waits to be accepted", remedy)


def _shown(tpm: EnrolledTpm) -> api.HostTpm:
    return api.HostTpm(
        host=tpm.host,
        fingerprint=tpm.fingerprint,
        kind=tpm.kind,
        enrolled=not tpm.is_pending,
        known=tpm.known,
        firmware=tpm.firmware,
        pcr7=tpm.pcr7.hex(),
        loader=tpm.loader or None,
        at=tpm.at.isoformat(),
        actor=tpm.actor,
    )
