"""What keeps a host from getting an update of its image; pure. There is no secret in an image."""

from __future__ import annotations

from dataclasses import dataclass

from provision.denial import Denial
from provision.slots import Doing, HostSlots


@dataclass(frozen=True)
class Updating:
    """What is looked at of a host: whether it `is_up`, what it said of its slots, and the version (the id of a base
    image) that is `wanted` there; "" for one that is not imported."""

    host: str
    is_up: bool
    slots: HostSlots | None
    wanted: str


def objection(asks: Updating) -> Denial | None:
    """Why the host gets no update; None when it gets the one that is wanted."""
    name, slots = asks.host, asks.slots
    if not asks.is_up:
        return Denial("not-up", name, f"{name} has not said that it is up", "It asks again when it has")
    if slots is None:
        fact = f"{name} has no image in two slots on its own disk"
        return Denial("no-slots", name, fact, "Boot it from its disk image")
    report = slots.report
    if not asks.wanted or asks.wanted == report.coming or report.doing is Doing.TRYING:
        fact = f"{name} has the image that it should have, or is trying it"
        return Denial("no-update", name, fact, "See 'provision status'")
    failure = slots.failed.get(asks.wanted)
    if failure is not None and failure.attempt >= slots.attempt and asks.wanted != report.running_version:
        fact = f"The image has failed on {name}: {failure.reason}"
        return Denial("update-failed", name, fact, f"To try it again: 'provision host retry-update {name}'")
    return None


def unsigned(host: str, base: str) -> Denial:
    """Why a host that starts signed images gets no update to a base image that nobody has signed."""
    fact = f"There is no signed image of '{base}', which {host} is to run"
    return Denial("incomplete", host, fact, f"Sign it: 'provision sb sign {base}'")


def revoked(host: str, base: str) -> Denial:
    """Why a host that starts signed images gets no update to one in which its envelope would not open."""
    fact = f"The approval of '{base}', which {host} is to run, is revoked"
    return Denial("chain-not-approved", host, fact, f"Import a newer image, and let {host} have it")
