"""What a boot by a BMC consists of, and what undoes each step; pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from provision.bmc.vendors import Via


class Step(StrEnum):
    """Something that is done for a boot, and undone."""

    WINDOW = "window"
    """A window is opened; undone, it is closed."""
    LINK = "link"
    """A link is made; undone, it is revoked."""
    MEDIUM = "medium"
    """What is in the virtual CD is ejected, and the link inserted; undone, it is ejected."""
    ONCE = "once"
    """The machine is told from where to boot once; undone, it boots as usual."""
    POWER = "power"
    """The machine is switched on; undone, it is switched off, when it was off before and the host did not come up."""


_NETWORK = (Step.WINDOW, Step.ONCE, Step.POWER)
_STEPS = {Via.CD: (Step.LINK, Step.MEDIUM, Step.ONCE, Step.POWER), Via.PXE: _NETWORK, Via.HTTP_BOOT: _NETWORK}


def steps(via: Via) -> tuple[Step, ...]:
    """The steps in their order; after the last one, the host is waited for."""
    return _STEPS[via]


def to_undo(begun: Sequence[Step], was_off: bool, up: bool) -> tuple[Step, ...]:
    """What is to be undone of the steps that have begun, in its order: a machine is off before it loses its medium.

    A machine that is `up` stays on, and so does one that ran before.
    """
    keep = Step.POWER if up or not was_off else None
    return tuple(step for step in reversed(begun) if step is not keep)
