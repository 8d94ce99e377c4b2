"""The running service; or, when there is none, the same in this process, of which only what is needed is loaded."""

from __future__ import annotations

import gc
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from provision.cli.client import Client, at, running
from provision.errors import Unavailable
from provision.settings import Settings

if TYPE_CHECKING:
    from pydantic import BaseModel

    from provision.api.status import Status
    from provision.policy import HostState
    from provision.service.core import Core

_Shape = TypeVar("_Shape")
_MAX_SOCKET_PATH = 107  # unix(7)


@contextmanager
def connect(settings: Settings) -> Iterator[Client]:
    """A client of the running service; with none running, of the same in this process."""
    with running(settings) as client:
        if client is not None:
            yield client
            return
    with _loading():
        from provision.server.process import forbid_core_dumps
        from provision.service.core import Core

        forbid_core_dumps()
        core = Core.open(settings, brief=True)
    try:
        with ExitStack() as stack:
            yield _Alone(core, stack)
    finally:
        with suppress(Unavailable):
            core.close()


@contextmanager
def _loading() -> Iterator[None]:
    """Without the garbage collector, which would go through all that is being loaded again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Alone(Client):
    """Answers from this process. The web application takes longer to load than most answers do to find, so what is
    asked most often does without; everything else goes through it, and it is started then."""

    def __init__(self, core: Core, stack: ExitStack) -> None:
        self._core, self._stack = core, stack
        self._application: Client | None = None

    def call(self, kind: type[_Shape], method: str, path: str, **arguments: Any) -> _Shape:
        """One request; its answer."""
        if (method, path) == ("GET", "/v1/status"):
            return cast(_Shape, _status(self._core, arguments["params"].get("host")))
        return super().call(kind, method, path, **arguments)

    @contextmanager
    def stream(
        self, method: str, path: str, *, body: BaseModel | Sequence[BaseModel] | None = None, **arguments: Any
    ) -> Iterator[Any]:
        """One request whose answer is read piece by piece, by `iter_raw`."""
        if self._application is None:
            self._application = self._stack.enter_context(_application(self._core))
        with self._application.stream(method, path, body=body, **arguments) as answer:
            yield answer


def _status(core: Core, host: str | None) -> Status:
    from provision.principal import Authentication, Principal, PrincipalRole
    from provision.service.progress import Tracker
    from provision.service.status import Reports

    asks = Principal(f"uid={os.geteuid()}", PrincipalRole.ADMIN, Authentication.PEER_CREDENTIALS)

    def is_current(state: HostState) -> bool:
        from provision.service.media_builder import MediaBuilder

        return MediaBuilder(core).is_current(state)

    return Reports(core, Tracker(), is_current, lambda host: None).status(asks, host)


@contextmanager
def _application(core: Core) -> Iterator[Client]:
    from provision.server.operator import OperatorServer
    from provision.service.service import Service

    with _socket_place(core.settings.state) as path:
        server = OperatorServer(Service(core), path)
        thread = threading.Thread(target=server.run, name="operator", daemon=True)
        thread.start()
        _wait(server.started, thread)
        try:
            with at(path) as client:
                yield client
        finally:
            server.stop()
            thread.join(timeout=30.0)


@contextmanager
def _socket_place(state: Path) -> Iterator[Path]:
    """Where this process's socket stands: in the state directory, which is swept after kill -9."""
    directory, name = state / "tmp", f"{secrets.token_hex(4)}.sock"
    if len(os.fsencode(directory / name)) <= _MAX_SOCKET_PATH:
        yield directory / name
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # The same place by a short name, which is good in this process.
        yield Path(f"/proc/self/fd/{descriptor}/{name}")
    finally:
        os.close(descriptor)


def _wait(started: threading.Event, thread: threading.Thread) -> None:
    # However long it takes: on a busy machine that may be half a minute.
    while not started.wait(0.05):
        if not thread.is_alive():
            raise Unavailable("provision", "the application did not start in this process", "try 'provision serve'")
