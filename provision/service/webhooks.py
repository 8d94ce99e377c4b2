"""What an operator does with receivers of events: try one, and let it have events again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from provision.api.webhooks import Replayed, Tested
from provision.errors import Conflict, Invalid, NotFound
from provision.principal import Principal
from provision.service.core import Core


class Receiver(Protocol):
    """One that is told of events."""

    def test(self) -> None:
        """Send it an event that nothing has caused. Raises ProvisionError unless it is taken."""

    def replay(self, first: int) -> None:
        """Tell it again of all events from that entry on. Raises ProvisionError."""


class Webhooks:
    """The receivers that this process tells, by the names that the settings give them."""

    def __init__(self, core: Core, receivers: Callable[[], Mapping[str, Receiver]]) -> None:
        self._core, self._receivers = core, receivers

    def test(self, name: str, principal: Principal) -> Tested:
        """Send the receiver an event now. Raises NotFound, Conflict, and Unavailable when it does not take it."""
        receiver = self._receiver(name)
        with self._core.act("webhook-tested", principal, webhook=name):
            receiver.test()
        return Tested(name=name, taken=True)

    def replay(self, name: str, first: int, principal: Principal) -> Replayed:
        """Tell the receiver of every event from the entry `first` on, once more. Raises NotFound, Conflict, and Invalid
        for an entry that there is not yet."""
        receiver, last = self._receiver(name), self._core.audit.sequence
        if not 1 <= first <= last:
            raise Invalid(
                f"entry {first}", f"is not in the audit log, whose last one is {last}", "see 'provision audit'"
            )
        with self._core.act("webhook-replayed", principal, webhook=name, first=first):
            receiver.replay(first)
        return Replayed(name=name, first=first, last=last)

    def _receiver(self, name: str) -> Receiver:
        """Raises NotFound for one that the settings do not have, and Conflict when nobody is told of anything now."""
        known = [one.name for one in self._core.settings.webhook]
        if name not in known:
            there = ", ".join(known) or "none"
            raise NotFound(f"webhook '{name}'", f"the settings have no such [[webhook]] (there: {there})", "correct it")
        found = self._receivers().get(name)
        if found is None:
            raise Conflict(f"webhook '{name}'", "no service runs that could tell it", "start it: 'provision serve'")
        return found
