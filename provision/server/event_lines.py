"""Every event as a line of the service's log, for whoever reads the journal and has no receiver."""

from __future__ import annotations

import logging

from provision.errors import Unavailable
from provision.service.core import Core
from provision.service.events import kind_of, line_of
from provision.store.following import Following

_AT_ONCE = 256
_LEFT_OUT = frozenset(("released",))
"""What every boot and download makes dozens of, and the audit log has."""
_log = logging.getLogger("provision.events")


class EventLines:
    """Follows the audit log from where it is when this is made. One thread calls `work`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._following = Following(core.settings.state / "audit.log", core.audit.sequence)

    def work(self) -> None:
        """Say what is new. Raises Unavailable when the audit log cannot be read."""
        if self._core.audit.known is None:
            return
        try:
            while found := self._following.read(self._core.audit.sequence, _AT_ONCE):
                for entry in found:
                    kind = kind_of(entry)
                    if kind is not None and kind not in _LEFT_OUT:
                        _log.info("%s", line_of(kind, entry))
        except OSError as error:
            fact = f"cannot be read ({error.strerror})"
            raise Unavailable("audit log", fact, "check the state directory") from None
