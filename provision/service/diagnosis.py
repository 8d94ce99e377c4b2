"""Why a boot has stopped: the last step that was seen, what usually stops one there, and the way out; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from provision.api.status import Explanation, HostStatus

_SEEN = {
    "configuration": "It got its boot loader's configuration",
    "kernel": "It read the kernel",
    "initrd": "It read the initrd",
    "seed": "It read its seed",
}
_USUAL = {
    "configuration": (
        "The boot loader did not load the kernel, often because Secure Boot refuses the kernel's signature",
        "Compare the image's 'signed' with the firmware's Secure Boot setting, and look at the console",
    ),
    "kernel": (
        "The boot loader stopped before the initrd, often because the link is slow or was cut, or memory is short",
        "Look at the console and at the cable, then power-cycle the host",
    ),
    "initrd": (
        "The boot loader did not ask for the seed, often because the initrd did not fit into memory",
        "Look at the console: a host needs several times the initrd's size in memory",
    ),
    "seed": (
        "The host runs and did not report that it is up: its system or its network did not start, or its image"
        " never reports",
        "Look at the console for units that failed, and check the addresses of its interfaces in the inventory",
    ),
}
_NO_IDENTITY = (
    "It was given its image alone, since its identity is on its disk, and did not report that it is up: its disk may"
    " have been exchanged or wiped, which its console says"
)
_UNKNOWN = "Nothing more was asked for", "Look at the console"
_HALF_READ = (
    "It stopped in the middle of reading: the machine was switched off, or its link was cut",
    "Look at the console and at the cable, then power-cycle the host",
)


@dataclass(frozen=True)
class Stuck:
    """The last step that was seen, the likely cause, and the remedy; each a sentence without its full stop. `rule` is
    the policy rule that stops it now, "" when none does."""

    step: str
    cause: str
    remedy: str
    rule: str = ""


def explained(status: HostStatus, answers: Sequence[Explanation]) -> Stuck:
    """Why the boot of `status` is stuck, by what policy would answer now (`answers`) and by how far it has come."""
    part = status.parts.get(status.stage)
    step = _SEEN.get(status.stage, f"It reached '{status.stage}'")
    if part is None and status.stage == "seed":
        step = "It read its seed, or a part of it"  # how much is not known: the service was started anew since
    if part is not None and part < 100:
        step += f", {part} % of it"
    elif status.stage == "seed":
        return Stuck(step, *_USUAL["seed"])  # it has all that it gets, whatever policy says to the next boot
    denied = _denial(status, answers)
    if denied is not None:
        return Stuck(step, denied.reason or "", denied.remedy or "", denied.rule or "")
    if part is not None and part < 100:
        return Stuck(step, *_HALF_READ)
    if any(row.plain for row in _here(status, answers)):
        return Stuck(step, _NO_IDENTITY, f"Give it a new one: 'provision host reprovision {status.host}'")
    return Stuck(step, *_USUAL.get(status.stage, _UNKNOWN))


def _denial(status: HostStatus, answers: Sequence[Explanation]) -> Explanation | None:
    """What policy says against going on, on the network of the boot."""
    return next((row for row in _here(status, answers) if not row.allowed), None)


def _here(status: HostStatus, answers: Sequence[Explanation]) -> Iterator[Explanation]:
    """What policy says of the medium and the network of the boot."""
    return (row for row in answers if row.medium is status.medium and row.channel.endswith(f":{status.network}"))
