"""What a listener is doing, as the process that serves it tells the service."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Listening:
    """One listener: its state in words, whether it is `served`, and when its certificates end, if it has any."""

    text: str
    served: bool
    expires: datetime | None = None


Listeners = Callable[[], Mapping[str, Listening]]
"""Says of every listener of the settings, by its network's name or "[api]", what it is doing."""


def serves(listeners: Mapping[str, Listening], networks: Collection[str | None] | None = None) -> bool:
    """Whether anything is served, or on one of these networks."""
    return any(one.served and (networks is None or name in networks) for name, one in listeners.items())
