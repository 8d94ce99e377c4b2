"""The server's settings: one TOML file, and the only reader of the environment.

Which interface serves which network is said here, not in the inventory: the inventory describes the site, and the
same inventory may be served from several machines.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError, model_validator

from provision.errors import Invalid, Problem, Problems, Unavailable
from provision.model import Model, Name

DEFAULT_STATE = Path("/var/lib/provision")

InterfaceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@:-]{0,14}$")]
"""An interface of this server, as `ip link` shows it (at most 15 bytes)."""


class Listen(Model):
    """One network that this server serves: its interface, and the ports on it.

    `address` is the server's own IPv4 address on the interface; it may be left out when the interface has just one.
    `bridge_ports` lists every port of the interface when it is a bridge. `override` turns named start-up refusals
    off; each value is the written reason, which goes to the audit log.
    """

    network: Name
    interface: InterfaceName
    address: IPv4Address | None = None
    http_port: int = Field(default=80, ge=1, le=65535)
    tftp: bool = True
    tftp_port: int = Field(default=69, ge=1, le=65535)
    tftp_ports: tuple[int, int] = (20000, 20255)
    bridge_ports: tuple[InterfaceName, ...] = ()
    override: dict[str, str] = {}

    @model_validator(mode="after")
    def _ports(self) -> Listen:
        first, last = self.tftp_ports
        if not 1024 <= first <= last <= 65535:
            raise ValueError("tftp_ports must be two ports from 1024 to 65535, the lower one first")
        if any(len(reason.split()) < 2 for reason in self.override.values()):
            raise ValueError("each override needs a written reason of at least two words")
        return self


class Settings(Model):
    """All settings. `state` is the state directory; the others come from `provision.toml`."""

    state: Path
    database: str | None = None
    operator_socket: Path | None = None
    operator_group: str | None = None
    max_connections: int = Field(default=2048, ge=16, le=65536)
    max_connections_per_peer: int = Field(default=64, ge=4, le=4096)
    header_timeout: float = Field(default=10.0, gt=0, le=120)
    listen: tuple[Listen, ...] = ()

    @property
    def socket(self) -> Path:
        """The operator's Unix socket."""
        return self.operator_socket or self.state / "operator.sock"


def state_directory(given: Path | None) -> Path:
    """The state directory: as given, else $PROVISION_STATE, else /var/lib/provision."""
    return given or Path(os.environ.get("PROVISION_STATE") or DEFAULT_STATE)


def config_file(given: Path | None, state: Path) -> Path:
    """The settings file: as given, else $PROVISION_CONFIG, else provision.toml in the state directory."""
    named = os.environ.get("PROVISION_CONFIG")
    return given or (Path(named) if named else state / "provision.toml")


def load(state: Path, config: Path) -> Settings:
    """The settings of `state`; raises Problems with all of them, each with its key, or Unavailable."""
    try:
        text = config.read_bytes()
    except FileNotFoundError:
        raise Unavailable(str(config), "there is no settings file", "run 'provision init' first") from None
    except OSError as error:
        raise Unavailable(str(config), f"cannot be read ({error.strerror})", "check its owner and mode") from None
    return parse(text, str(config), state)


def parse(text: bytes, name: str, state: Path) -> Settings:
    """The settings in `text` (TOML); raises Problems naming `name` and the key of each."""
    try:
        raw = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(name, f"is not TOML ({error})", "correct that line") from None
    if "state" in raw:
        raise Problems(
            [Problem(name, 0, "state", "is not a key of this file", "use --state or $PROVISION_STATE")], name
        )
    try:
        settings = Settings.model_validate({**raw, "state": state})
    except ValidationError as error:
        raise Problems((_problem(name, text.decode(), dict(item)) for item in error.errors()), name) from None
    return _distinct(settings, name)


def _distinct(settings: Settings, name: str) -> Settings:
    problems = []
    for key in ("network", "interface"):
        seen: set[str] = set()
        for index, listen in enumerate(settings.listen):
            value = getattr(listen, key)
            if value in seen:
                problems.append(Problem(name, 0, f"listen.{index}.{key}", f"'{value}' is served twice", "remove one"))
            seen.add(value)
    if problems:
        raise Problems(problems, name)
    return settings


def _problem(name: str, text: str, error: dict[str, Any]) -> Problem:
    path = ".".join(str(part) for part in error["loc"])
    key = str(error["loc"][-1]) if error["loc"] else ""
    line = next((n for n, row in enumerate(text.splitlines(), 1) if row.split("=")[0].strip() == key), 0)
    if error["type"] == "extra_forbidden":
        known = [*Settings.model_fields, *Listen.model_fields]
        near = difflib.get_close_matches(key, known, 1)
        return Problem(name, line, path, "unknown key", f"did you mean '{near[0]}'?" if near else "remove it")
    return Problem(name, line, path, error["msg"].removeprefix("Value error, "), "correct it")


TEMPLATE = """\
# Settings of this provision server. Every key is described in docs/deployment.md.

# One block for each network that this server serves. The network's name is that of the inventory.
# [[listen]]
# network = "mgmt"
# interface = "eth1"
"""
