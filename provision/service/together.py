"""What many requests of one moment want, done for all of them by one call in one thread.

A thread, a transaction and a wait for the disk cost the same for one and for thirty. Nobody waits for others to come:
what comes while a call is under way is what the next one does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

MOST = 32
"""How many one call is given: the first of them waits for the last."""

A = TypeVar("A")
R = TypeVar("R")


class Together(Generic[A, R]):
    """Gives what requests want to `do`, which has a result, or an error to be raised, for each; what it raises itself
    is for all. Not thread-safe: it has one loop."""

    def __init__(self, do: Callable[[Sequence[A]], Sequence[R | Exception]], most: int = MOST) -> None:
        self._do, self._most = do, most
        self._waiting: deque[tuple[A, asyncio.Future[R]]] = deque()
        self._running: asyncio.Future[None] | None = None

    def begin(self, wanted: A) -> asyncio.Future[R]:
        """Have it done; what comes of it. It is done, or not, whether somebody still waits for that or not."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[R] = loop.create_future()
        self._waiting.append((wanted, result))
        if self._running is None:
            self._next(loop)
        return result

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        taken = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
        running = loop.run_in_executor(None, self._do, [wanted for wanted, _ in taken])
        self._running = running  # type: ignore[assignment]

        def ended(_: object) -> None:
            self._running = None
            _tell(running, [result for _, result in taken])
            if self._waiting and self._running is None:
                self._next(loop)

        running.add_done_callback(ended)


def _tell(done: asyncio.Future[Sequence[R | Exception]], waiting: Sequence[asyncio.Future[R]]) -> None:
    if done.cancelled():
        for result in waiting:
            result.cancel()
        return
    failure = done.exception()
    found: Sequence[R | BaseException] = [failure] * len(waiting) if failure is not None else done.result()
    for result, one in zip(waiting, found, strict=True):
        if result.done():
            continue  # who asked has left
        if isinstance(one, BaseException):
            result.set_exception(one)
        else:
            result.set_result(one)
