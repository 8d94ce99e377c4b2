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

from provision.api.tokens import NewToken
from provision.principal import PrincipalRole
from provision.service.service import Service
from provision.settings import load
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_token
from tests.helpers.authority import Pair
from tests.helpers.principals import ROOT


@dataclass(frozen=True)
class Front:
    """Where it is, and what it takes to be let in."""

    port: int
    token: str

    @property
    def url(self) -> str:
        """Its URL, by the address that its certificate is for."""
        return f"https://127.0.0.1:{self.port}"


@contextmanager
def front(state: Path, pair: Pair) -> Iterator[Front]:
    """The application on a port of 127.0.0.1 that the kernel has chosen, from when it accepts."""
    certificate, key = pair.write(state.parent)
    argv = [sys.executable, "-m", "tests.helpers.front", str(state), str(certificate), str(key)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            port, token = process.stdout.readline().split()
            yield Front(int(port), token)
        finally:
            process.terminate()
            process.wait(30)


def main(state: str, certificate: str, key: str) -> None:
    """Serve until SIGTERM, and say on which port, and by which token."""
    service = Service.open(load(Path(state), Path(state) / "provision.toml"))
    made = service.tokens.create(NewToken(name="laptop", role=PrincipalRole.ADMIN), ROOT)
    config = uvicorn.Config(
        operator_app.create(service, by_token(service)),
        ssl_certfile=certificate,
        ssl_keyfile=key,
        interface="asgi3",
        lifespan="off",
        log_config=None,
        proxy_headers=False,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=128) as sock:
        sys.stdout.write(f"{sock.getsockname()[1]} {made.token}\n")
        sys.stdout.flush()
        uvicorn.Server(config).run(sockets=[sock])
    service.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
