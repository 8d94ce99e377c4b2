"""What a boot by a BMC consists of, and what undoes each step; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

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


@dataclass(frozen=True)
class Begun:
    """A step that has begun, and with `what`: the id of the window or the link, or where the BMC is; "" while that is
    not known. In the journal it is "STEP" or "STEP:WHAT"."""

    step: Step
    what: str = ""

    def __str__(self) -> str:
        return f"{self.step}:{self.what}" if self.what else str(self.step)

    @classmethod
    def parse(cls, text: str) -> Self:
        """What the journal says; raises ValueError for what is no step."""
        step, _, what = text.partition(":")
        return cls(Step(step), what)


AT_BMC = frozenset((Step.MEDIUM, Step.ONCE, Step.POWER))
"""Steps that are done at the BMC that the host has at that time, and undone there or nowhere."""

_NETWORK = (Step.WINDOW, Step.ONCE, Step.POWER)
_STEPS = {Via.CD: (Step.LINK, Step.MEDIUM, Step.ONCE, Step.POWER), Via.PXE: _NETWORK, Via.HTTP_BOOT: _NETWORK}


def steps(via: Via) -> tuple[Step, ...]:
    """The steps in their order; after the last one, the host is waited for."""
    return _STEPS[via]


def to_undo(begun: Sequence[Begun], was_off: bool, up: bool) -> tuple[Begun, ...]:
    """What is to be undone of the steps that have begun, in its order: a machine is off before it loses its medium.

    A machine that is `up` stays on, and so does one that ran before.
    """
    keep = Step.POWER if up or not was_off else None
    return tuple(one for one in reversed(begun) if one.step is not keep)
