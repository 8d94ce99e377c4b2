"""Whether this server can do what it is for: give hosts their media, on every listener that it has."""

from __future__ import annotations

from collections.abc import Iterator

from provision.errors import Unavailable
from provision.service.core import Core
from provision.service.listeners import Listeners


class Readiness:
    """Looks, and changes nothing. Thread-safe."""

    def __init__(self, core: Core, listeners: Listeners) -> None:
        self._core, self._listeners = core, listeners

    def require(self) -> None:
        """Raises Unavailable with everything that is in the way."""
        if found := list(self.reasons()):
            raise Unavailable("server", f"is not ready: {' | '.join(found)}", "see 'provision status', and the log")

    def reasons(self) -> Iterator[str]:
        """Everything that is in the way, in words for an operator."""
        yield from self._core.footing.problems()
        try:
            self._core.audit.check()
        except Unavailable as error:
            yield str(error)
        for name, state in self._listeners().items():
            if not state.served:
                yield f"'{name}' is not served: {state.text}"
        for image, base_id in self._core.bases().items():
            if not self._core.integrity.is_whole(base_id):
                yield f"the image '{image}' is damaged: import it again, and see 'provision image verify {image}'"
