"""The host image's own programs, loaded as they are, and the bus between them and a software TPM."""

from __future__ import annotations

import importlib
import importlib.util
import socket
import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType

from tests.helpers.paths import ROOT

_PROGRAMS = ROOT / "images/host/root/usr/lib/provision"
_loaded: dict[str, ModuleType] = {}


def load(name: str) -> ModuleType:
    """A program of the image, the same one for all who load it; what it imports stands beside it."""
    if name not in _loaded:
        written, sys.dont_write_bytecode = (
            sys.dont_write_bytecode,
            True,
        )  # nothing may come beside what images are made of
        try:
            _loaded[name] = _load(name)
        finally:
            sys.dont_write_bytecode = written
    return _loaded[name]


def _load(name: str) -> ModuleType:
    if str(_PROGRAMS) not in sys.path:
        sys.path.append(str(_PROGRAMS))
    file = _PROGRAMS / name
    if not file.exists():
        return importlib.import_module(name)
    loader = SourceFileLoader(name, str(file))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


class Bus:
    """What goes to the TPM and comes back, seen by a probe, which changes answers when it `flips` a bit."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seen: list[bytes] = []
        self.flips = False

    def exchange(self, command: bytes) -> bytes:
        # swtpm hears one client at a time, and the tools of the tests are others.
        with socket.create_connection(("127.0.0.1", self._port), 30) as sock:
            sock.sendall(command)
            answer = sock.recv(4096)
            while len(answer) < int.from_bytes(answer[2:6], "big"):
                answer += sock.recv(4096)
        self.seen += [command, answer]
        # The last byte of the answer's HMAC.
        return answer[:-1] + bytes([answer[-1] ^ 1]) if self.flips else answer
