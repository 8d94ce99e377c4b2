"""The operator's routes, made once for all tests of a process.

To make them takes a fifth of a second, longer than nearly every test that asks something of them. They are made over a
stand-in; each request reaches the service that its own application was created for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from typing import Any, cast

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from provision.service.service import Service
from provision.web.operator.media import Download

_Over = Callable[[Service, Download], FastAPI]


class _StandIn:
    """Has what the object has that the running request is about; in a thread of its own, what was asked last."""

    def __init__(self) -> None:
        self._current: ContextVar[Any] = ContextVar("current")
        self._last: Any = None

    def stand_for(self, real: object) -> None:
        self._current.set(real)
        self._last = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._current.get(self._last), name)


class _Application:
    """The shared application, for one service."""

    def __init__(self, shared: FastAPI, pairs: tuple[tuple[_StandIn, object], ...]) -> None:
        self._shared, self._pairs = shared, pairs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for stand_in, real in self._pairs:
            stand_in.stand_for(real)
        await self._shared(scope, receive, send)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shared, name)


def shared(over: _Over) -> _Over:
    """What `provision.web.operator.app.over` does, but with routes that are made once."""
    service_of, download_of = _StandIn(), _StandIn()

    @cache
    def made() -> FastAPI:
        return over(cast(Service, service_of), cast(Download, download_of))

    def application(service: Service, download: Download) -> FastAPI:
        return cast(FastAPI, _Application(made(), ((service_of, service), (download_of, download))))

    return application
