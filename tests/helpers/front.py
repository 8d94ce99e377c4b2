"""The operator's application over TLS, as a process of its own: a site, one token and one certificate."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import Scope

from provision.principal import Authentication, Principal, PrincipalRole
from provision.service.service import Service
from provision.settings import load
from provision.web import problems
from provision.web.operator import app as operator_app
from tests.helpers.authority import Pair

TOKEN = f"provision_{'A1b2' * 10}xyz"


@dataclass(frozen=True)
class Front:
    """Where it is, and what it takes to be let in."""

    port: int
    token: str = TOKEN

    @property
    def url(self) -> str:
        """Its URL, by the address that its certificate is for."""
        return f"https://127.0.0.1:{self.port}"


@contextmanager
def front(state: Path, pair: Pair) -> Iterator[Front]:
    """The application on a port of 127.0.0.1 that the kernel has chosen, from when it accepts."""
    certificate, key = pair.write(state.parent)
    argv = [sys.executable, "-m", "tests.helpers.front", str(state), str(certificate), str(key)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        yield Front(int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close() if process.stdout else None


def _authenticate(scope: Scope) -> Principal:
    if dict(scope["headers"]).get(b"authorization") != f"Bearer {TOKEN}".encode():
        raise problems.plain("request", "nobody knows who asks", 401, "show a good token")
    return Principal("token:laptop", PrincipalRole.ADMIN, Authentication.PEER_CREDENTIALS)


def _principal() -> dict[str, str | None]:
    return {"name": "token:laptop", "role": "admin", "authentication": "token", "expires": None}


def main(state: str, certificate: str, key: str) -> None:
    """Serve until SIGTERM, and say on which port."""
    service = Service.open(load(Path(state), Path(state) / "provision.toml"))
    guard = operator_app.create(service, _authenticate)
    guard.app.add_api_route("/v1/principal", _principal)
    config = uvicorn.Config(
        guard,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        interface="asgi3",
        lifespan="off",
        log_config=None,
        proxy_headers=False,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=128) as sock:
        sys.stdout.write(f"{sock.getsockname()[1]}\n")
        sys.stdout.flush()
        uvicorn.Server(config).run(sockets=[sock])
    service.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
