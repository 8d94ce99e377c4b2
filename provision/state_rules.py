"""What keeps a host from getting anything, whatever is asked for; pure, for `provision.policy`, which asks in its own
order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from provision.boot import Boot, Channel, ChannelKind, Medium, Window
from provision.denial import Denial

SIGNED_IMAGE = "a signed image of its base image"
"""What is missing of a host whose media are the signed image."""


def unsound(name: str, distrust: str, behind: timedelta) -> Denial | None:
    """Why nothing of the store is to be relied on: what the database "is" ("" when it is believed), and how far the
    clock went back."""
    if distrust:
        return Denial(
            "store-not-trusted",
            name,
            f"The server's database {distrust}, so nothing of {name} is given away",
            "Restore it, or look at it and run 'provision store accept'",
        )
    if behind:
        return Denial(
            "clock-went-back",
            name,
            f"The server's clock is {_span(behind)} earlier than it was, so no window can be relied on",
            "Set it right ('timedatectl'); if it is right and was wrong before, run 'provision clock accept'",
        )
    return None


def exposed(name: str, credentials: Sequence[str]) -> Denial | None:
    """Why a host that was declared compromised gets nothing: others may have these `credentials` of it."""
    if not credentials:
        return None
    those = "it" if len(credentials) == 1 else "each"
    return Denial(
        "credential-exposed",
        name,
        f"{name} was compromised, and others may have its {_named(credentials)}",
        f"Give {those} new content: 'provision credential set {name} {credentials[0]} --file FILE'",
    )


def incomplete(name: str, missing: Sequence[str]) -> Denial | None:
    """Why a host gets nothing whose image needs what is `missing`."""
    if not missing:
        return None
    remedy = f"Add it: 'provision credential set {name} …' or 'provision image import …'"
    if tuple(missing) == (SIGNED_IMAGE,):
        remedy = "Sign it: 'provision sb sign IMAGE'"
    fact = f"{name}'s image cannot be made without {' and '.join(missing)}"
    return Denial("incomplete", name, fact, remedy)


def is_plain(window: Window | None, boots: Iterable[Boot], medium: Medium, channel: Channel, now: datetime) -> bool:
    """Whether a host that has its identity on its own disk gets its image alone, which has no secret: unless its window
    is open, or a boot that was charged to it is under way (`boots` are those of its present identity), so that it
    gets a new seed. On a general network it gets none."""
    if medium not in (Medium.PXE, Medium.HTTP_BOOT):
        return False
    if channel.kind is ChannelKind.GENERAL:
        return True
    if window is not None and window.is_open(now):
        return False
    # As for any boot: used up or expired, a window lets it go on; closed by the operator, it does not.
    return (window is not None and window.closed) or not any(boot.is_charged(now) for boot in boots)


def _named(credentials: Sequence[str]) -> str:
    """Credentials in words, few enough for a console."""
    shown = " and ".join(f"'{name}'" for name in credentials[:3])
    more = f" and {len(credentials) - 3} more" if len(credentials) > 3 else ""
    return f"credential{'s' if len(credentials) > 1 else ''} {shown}{more}"


def _span(time: timedelta) -> str:
    seconds = int(time.total_seconds())
    units = (("days", 86400), ("hours", 3600), ("minutes", 60))
    return next((f"{seconds // size} {unit}" for unit, size in units if seconds >= 2 * size), f"{seconds} seconds")
