"""Windows: an operator lets a host boot from the network for a while."""

from __future__ import annotations

from datetime import datetime

from provision import policy
from provision.api import hosts as api
from provision.boot import Window
from provision.errors import Invalid
from provision.host import Netboot
from provision.principal import Principal
from provision.service.core import Core


class Windows:
    """Opens and closes the windows of hosts."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def open(self, name: str, minutes: int | None, boots: int | None, principal: Principal) -> api.OpenedWindow:
        """Let the host boot from the network for `minutes` from now on, `boots` times (the site's defaults when None),
        whatever window it had. Raises NotFound, Invalid, Denied."""
        opened = self.give(name, minutes, boots, principal)
        caution = self.caution(name, principal)
        return api.OpenedWindow(host=name, **dict(shown(opened, self._core.clock())), caution=caution)

    def caution(self, name: str, principal: Principal) -> str | None:
        """Why a window is not enough for the host to boot: no network of its own is served. Raises NotFound."""
        networks = self._core.endpoints.unheard(self._core.seen(name, principal).host)
        if not networks:
            return None
        remedy = "add one to provision.toml, and restart the service"
        return f"no [[listen]] block names {' or '.join(networks)}, so nothing answers a network boot there; {remedy}"

    def give(self, name: str, minutes: int | None, boots: int | None, principal: Principal) -> Window:
        """The window that `open` opens."""
        core, state = self._core, self._core.seen(name, principal)
        # A host that may boot at any time needs one only while it says that it is up.
        if state.host.netboot is Netboot.NEVER:
            raise Invalid(name, "is set to 'netboot: never'", "set 'netboot: window' to use windows")
        if denial := policy.exposed(state):
            raise denial.error()
        lifetime, count = core.window_default()
        minutes = minutes if minutes is not None else int(lifetime.total_seconds() // 60)
        boots = boots if boots is not None else count
        if not (1 <= minutes <= 10080 and 1 <= boots <= 100):
            raise Invalid(name, "a window has 1 to 10080 minutes and 1 to 100 boots", "choose values in those ranges")
        with core.act("window-opened", principal, host=name, minutes=minutes, boots=boots), core.store.database.lock:
            # Under the lock with which a host is declared compromised: no window is left over from before that.
            if denial := policy.exposed(core.seen(name, principal)):
                raise denial.error()
            opened = core.store.windows.open(name, minutes, boots, core.clock(), principal)
        core.witness()
        return opened

    def close(self, name: str, principal: Principal) -> None:
        """Close the host's window, if it has one. One that is used up may be closed: its boot then ends, too."""
        window = self._core.seen(name, principal).window
        if window is None or window.closed:
            return
        with self._core.act("window-closed", principal, host=name):
            self._core.store.windows.close(name)
        self._core.witness()


def shown(window: Window, now: datetime) -> api.Window:
    """A window as it is at `now`, for operators."""
    return api.Window(
        open=window.is_open(now), expires=window.expires.isoformat(), boots=window.boots, used=window.used
    )
