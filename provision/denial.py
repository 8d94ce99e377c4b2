"""What policy says when it says no."""

from __future__ import annotations

from dataclasses import dataclass

from provision.errors import Denied

HOST_IS_UP = "host-is-up"
"""The one rule whose objection passes by itself."""


@dataclass(frozen=True)
class Denial:
    """A no: the rule's name, what is so, and the way out. `str()` is one line fit for a console."""

    rule: str
    subject: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason}. {self.remedy}."

    @property
    def passes(self) -> bool:
        """Whether the same request may be granted in a moment, with nobody doing anything."""
        return self.rule == HOST_IS_UP

    def error(self) -> Denied:
        """The same as an error to raise."""
        return Denied(self.subject, self.reason, self.remedy, self.rule)
