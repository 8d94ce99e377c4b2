"""The global options of a run: where the state directory and the settings are, and how to print."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from provision.errors import ProvisionError

if TYPE_CHECKING:
    from provision.cli.client import Client
    from provision.settings import Settings


@dataclass(frozen=True)
class Context:
    """The options as they were given. What reads settings is loaded by the commands that need them."""

    given_state: Path | None
    given_config: Path | None
    json: bool

    @property
    def state(self) -> Path:
        """The state directory."""
        from provision.settings import state_directory

        return state_directory(self.given_state)

    @property
    def config(self) -> Path:
        """The settings file."""
        from provision.settings import config_file

        return config_file(self.given_config, self.state)

    def settings(self) -> Settings:
        """The settings of the state directory; raises Unavailable before `init`, Problems when they are wrong."""
        from provision.settings import load

        return load(self.state, self.config)

    @contextmanager
    def client(self) -> Iterator[Client]:
        """The running service, or the same application in this process."""
        from provision.cli.alone import connect

        with connect(self.settings()) as client:
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
