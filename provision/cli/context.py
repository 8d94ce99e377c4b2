"""The global options of a run: which server is asked, where state directory and settings are, and how to print."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from provision.errors import Invalid, ProvisionError

if TYPE_CHECKING:
    from provision.cli.client import Client
    from provision.cli.servers import Address
    from provision.settings import Settings


@dataclass(frozen=True)
class Context:
    """The options as they were given. What reads settings is loaded by the commands that need them."""

    given_state: Path | None
    given_config: Path | None
    json: bool
    given_server: str | None = None

    @property
    def server(self) -> Address | None:
        """The server to ask; None for the one on this machine, which --state and --config always mean. Raises Invalid
        for what is none."""
        if self.given_state is not None or self.given_config is not None:
            return None
        from provision.settings import server

        text = server(self.given_server)
        if text is None:
            return None
        from provision.cli.servers import parse

        return parse(text)

    @property
    def state(self) -> Path:
        """The state directory; raises Invalid when another server is asked, which has its own."""
        from provision.settings import state_directory

        self._require_here()
        return state_directory(self.given_state)

    @property
    def config(self) -> Path:
        """The settings file."""
        from provision.settings import config_file

        return config_file(self.given_config, self.state)

    def _require_here(self) -> None:
        if (address := self.server) is not None:
            fact = "this needs the server's own disk and settings"
            raise Invalid(address.url, fact, "run it on that server itself, without --server and $PROVISION_SERVER")

    def settings(self) -> Settings:
        """The settings of the state directory; raises Unavailable before `init`, Problems when they are wrong."""
        from provision.settings import load

        return load(self.state, self.config)

    @contextmanager
    def client(self) -> Iterator[Client]:
        """The server that is asked; else the running service, or the same application in this process."""
        if (address := self.server) is not None:
            with self._remote(address) as client:
                yield client
            return
        from provision.cli.alone import connect

        with connect(self.settings()) as client:
            yield client

    @contextmanager
    def running(self) -> Iterator[Client | None]:
        """The same, but None when no service is running here."""
        if (address := self.server) is not None:
            with self._remote(address) as client:
                yield client
            return
        from provision.cli.client import running

        with running(self.settings()) as here:
            yield here

    @staticmethod
    @contextmanager
    def _remote(address: Address) -> Iterator[Client]:
        from provision.cli import servers
        from provision.cli.client import over_tls
        from provision.cli.trust import context_of

        login = servers.find(address)
        with over_tls(address.url, context_of(login.ca), login.token) as client:
            yield client


# Set once for each run: typer would otherwise need a parameter in every command.
_current: Context | None = None


def use(given: Context) -> None:
    """From now on `context` returns this."""
    global _current
    _current = given


def context() -> Context:
    """The global options of this run."""
    if _current is None:
        raise ProvisionError("provision", "no command is running")
    return _current
