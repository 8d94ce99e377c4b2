"""Talking to the operator's application: that of the running service, or one driven in this process."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from provision.errors import Conflict, Exit, Invalid, Problem, Problems, ProvisionError, Unavailable
from provision.settings import Settings

_BASE = "http://provision"
_MAX_SOCKET_PATH = 107  # unix(7)
_MAX_NAME = 63  # one DNS label (provision.model.Name)
# Downloads of large media and verification of them take as long as the disk takes; a dead peer closes the socket.
_TIMEOUT = httpx.Timeout(10.0, read=600.0, write=600.0)


class RemoteError(ProvisionError):
    """A problem document from the application, as the error it was made of."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document.get("subject", "server"), document.get("fact", "failed"), document.get("remedy", ""))
        self.document = document
        self.exit = Exit(document.get("exit", Exit.FAILED))

    def details(self) -> dict[str, Any]:
        """The document as it came."""
        return self.document


class Client:
    """Calls of the operator's application; every failure is a ProvisionError."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """One request; the decoded JSON (or text) of its answer."""
        try:
            answer = self._http.request(method, path, **arguments)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as error:
            raise _unsent(error) from None
        self._require(answer)
        if answer.headers.get("content-type", "").startswith("application/json"):
            return answer.json()
        return answer.text

    @contextmanager
    def stream(self, method: str, path: str, **arguments: Any) -> Iterator[httpx.Response]:
        """One request whose answer is read piece by piece."""
        try:
            with self._http.stream(method, path, **arguments) as answer:
                if answer.is_error:
                    answer.read()
                self._require(answer)
                yield answer
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as error:
            raise _unsent(error) from None

    def steps(self, path: str, body: Any) -> Iterator[dict[str, Any]]:
        """A long request that answers a JSON line for each step; raises when the last one is a problem."""
        with self.stream("POST", path, json=body) as answer:
            for line in answer.iter_lines():
                step = json.loads(line)
                if "problem" in step:
                    raise error_of(step["problem"])
                yield step

    @staticmethod
    def _require(answer: httpx.Response) -> None:
        if not answer.is_error:
            return
        if answer.status_code == 412:
            raise Conflict("medium", "it changed while it was being written", "run the command again")
        try:
            document = answer.json()
        except ValueError:
            document = {"subject": "server", "fact": f"answered with status {answer.status_code}"}
        raise error_of(document)


def error_of(document: dict[str, Any]) -> ProvisionError:
    """The error that a problem document describes."""
    if "problems" in document:
        return Problems((Problem(**problem) for problem in document["problems"]), document["subject"])
    return RemoteError(document)


def route(*segments: str) -> str:
    """The path of an operator's route, whose segments may be names as they were typed; raises Invalid for a name that
    would make another path of it."""
    return "/v1/" + "/".join(quote(checked(segment), safe="") for segment in segments)


def of_host(host: str | None) -> dict[str, str]:
    """The query that asks for one host, or for all when it is None; raises Invalid."""
    return {} if host is None else {"host": checked(host)}


def checked(name: str) -> str:
    """A name as it was typed. Quoting does not help one with a slash: the server's router takes the path unquoted."""
    if name in ("", ".", "..") or "/" in name or len(name) > _MAX_NAME or not _is_text(name):
        fact = "is no name that a host, a credential or an image can have"
        raise Invalid(f"'{name[:_MAX_NAME]}'", fact, "names have at most 63 lower-case letters, digits and '-'")
    return name


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unsent(error: httpx.HTTPError | httpx.InvalidURL | UnicodeEncodeError) -> ProvisionError:
    if isinstance(error, httpx.HTTPError):
        return Unavailable("service", f"the connection broke ({type(error).__name__})", "look at the service's log")
    return Invalid("provision", "an argument is too long, or not UTF-8", "names and labels are short and ASCII")


@contextmanager
def connect(settings: Settings) -> Iterator[Client]:
    """A client of the running service; with none running, of the same application driven in this process."""
    if _answers(settings.socket):
        with _client(settings.socket) as client:
            yield client
        return
    with _in_process(settings) as path, _client(path) as client:
        yield client


@contextmanager
def _client(path: Path) -> Iterator[Client]:
    transport = httpx.HTTPTransport(uds=str(path))
    with httpx.Client(transport=transport, base_url=_BASE, timeout=_TIMEOUT) as http:
        yield Client(http)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except PermissionError:
            raise Unavailable(
                str(path), "you may not talk to the running service", "be root, or join its group"
            ) from None
        except OSError:
            return False
        return True


@contextmanager
def _in_process(settings: Settings) -> Iterator[Path]:
    # Imported here: a client of a running service starts in half the time without them.
    from provision.server.operator import OperatorServer
    from provision.server.process import forbid_core_dumps
    from provision.service.service import Service

    forbid_core_dumps()
    service = Service.open(settings, brief=True)
    try:
        with _socket_place(settings.state) as path:
            server = OperatorServer(service, path)
            thread = threading.Thread(target=server.run, name="operator", daemon=True)
            thread.start()
            _wait(server.started, thread)
            try:
                yield path
            finally:
                server.stop()
                thread.join(timeout=30.0)
    finally:
        with suppress(Unavailable):
            service.close()


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
    deadline = time.monotonic() + 20.0
    while not started.wait(0.05):
        if not thread.is_alive() or time.monotonic() > deadline:
            raise Unavailable("provision", "the application did not start in this process", "try 'provision serve'")
