"""What bounds the network boots of a host in time: its window, and that a host which is up boots nothing; pure, for
`provision.policy`, which asks in its own order."""

from __future__ import annotations

from datetime import datetime, timedelta

from provision.boot import Window
from provision.denial import Denial
from provision.host import Host, Netboot


def closed(host: Host, window: Window | None, under_way: bool, now: datetime) -> Denial | None:
    """Why a host may not boot now; `under_way` is a boot of it that was charged to its window."""
    if host.netboot is Netboot.ALWAYS or (window and window.is_open(now)):
        return None
    # Used up or expired, a window lets the boot that it was charged for go on; closed by the operator, it does not.
    if not (window and window.closed) and under_way:
        return None
    fact = window.standing(now) if window is not None else "has no open boot window"
    return Denial("window-closed", host.name, f"{host.name} {fact}", f"Open one: 'provision window {host.name}'")


def is_up(name: str, heard: datetime | None, limit: timedelta, window: Window | None, now: datetime) -> Denial | None:
    """Why a host may not boot that said that it is up, less than `limit` ago."""
    # Both ways: a clock that was set back must not make a host of long ago one that is up.
    if heard is None or abs(now - heard) >= limit:
        return None
    # The operator knows better, until the host says so again. That this boot has used the window up changes nothing.
    if window is not None and not window.closed and window.opened is not None and window.opened > heard:
        return None
    return Denial(
        "host-is-up",
        name,
        f"{name} is up: it said so {max(0, round((now - heard).total_seconds()))} seconds ago",
        f"Reboot it, or wait; if it is down already, 'provision window {name}'",
    )
