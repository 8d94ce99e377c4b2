"""The server's settings: one TOML file, and the only reader of the environment.

Which interface serves which network is said here, not in the inventory: the inventory describes the site, and the
same inventory may be served from several machines.
"""

from __future__ import annotations

import os
import pwd
import tomllib
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, StringConstraints, ValidationError

from provision import link
from provision.errors import Invalid, Problem, Problems, Unavailable
from provision.model import Model, Name
from provision.server_names import served_name
from provision.settings_rules import API_PORT, PUBLIC_PORT, objections
from provision.ticket import Grant

DEFAULT_STATE = Path("/var/lib/provision")

RULES = ("wildcard-address", "default-route", "bridge-ports", "bridge-port", "shared-nic", "vrf", "forwarding")
"""Every start-up refusal, by the name under which it is overridden."""

InterfaceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@:-]{0,14}$")]
"""An interface of this server, as `ip link` shows it (at most 15 bytes)."""

Port = Annotated[int, Field(ge=1024, le=65535)]
"""A port that needs no privilege."""

_NO_SETTINGS = "run 'provision init' first, or name another machine's server by --server or $PROVISION_SERVER"

_WORDS = {
    get_args(InterfaceName)[1].pattern: "an interface has at most 15 letters, digits and _.@:-, as 'ip link' shows it",
    get_args(Name)[1].pattern: "a network's name has lower-case letters, digits and '-', as in the inventory",
}


def _rule(value: str) -> str:
    if value not in RULES:
        raise ValueError(f"is not a start-up refusal; known: {', '.join(RULES)}")
    return value


def _reason(value: str) -> str:
    if len(value.split()) < 2:
        raise ValueError("is not a reason; write at least two words")
    return value


class Listen(Model):
    """One network that this server serves: its interface, and the ports on it.

    `address` is the server's own IPv4 address on the interface; it may be left out when the interface has just one.
    `bridge_ports` lists every port of the interface when it is a bridge. `links` lets BMCs fetch media by link in plain
    HTTP, on a management network. `override` turns named start-up refusals off; each value is the written reason, which
    goes to the audit log.
    """

    network: Name
    interface: InterfaceName
    address: IPv4Address | None = None
    http_port: int = Field(default=80, ge=1, le=65535)
    tftp: bool = True
    tftp_port: int = Field(default=69, ge=1, le=65535)
    tftp_ports: tuple[Port, Port] = (20000, 20255)
    bridge_ports: tuple[InterfaceName, ...] = ()
    links: bool = False
    override: dict[Annotated[str, AfterValidator(_rule)], Annotated[str, AfterValidator(_reason)]] = {}


ServedName = Annotated[str, AfterValidator(served_name)]
"""A host name or an address, without a port."""


class Kerberos(Model):
    """Logins by Kerberos tickets: the file with the keys of the service HTTP (below the state directory unless its path
    begins with "/"), and who has which role. Of several blocks, the first that means a principal counts."""

    keytab: Path
    role: tuple[Grant, ...] = Field(min_length=1)


class Proxy(Model):
    """A reverse proxy that ends TLS before the API: at which `port` of the API's address it finds it, from which
    `addresses` it connects, which `certificate` (PEM) it shows, and in which `header` it says who asks. With
    `public_name`, links name the proxy, at its `public_port`, before the API itself."""

    port: int = Field(ge=1, le=65535)
    addresses: tuple[IPv4Address | IPv6Address, ...] = Field(min_length=1, max_length=64)
    certificate: Path
    header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"
    public_name: ServedName | None = None
    public_port: int = Field(default=PUBLIC_PORT, ge=1, le=65535)

    @property
    def public_url(self) -> str | None:
        """Where clients find the proxy, without a path; None when the settings do not say."""
        return link.https_url(self.public_name, self.public_port) if self.public_name is not None else None


class Api(Model):
    """The operator's application over TLS: where it is served, what it proves itself with, and how clients call it.

    `certificate` (its chain behind it) and `key` are PEM files; paths that do not begin with "/" are below the state
    directory. `firmware_certificate` and `firmware_key` are a second pair of the other kind of key, for clients that do
    not take the first. `names` are host names and addresses that clients may use, besides the address that they reach.
    `kerberos` is for logins by tickets.
    """

    address: IPv4Address | IPv6Address
    port: int = Field(default=API_PORT, ge=1, le=65535)
    certificate: Path
    key: Path
    firmware_certificate: Path | None = None
    firmware_key: Path | None = None
    names: tuple[ServedName, ...] = ()
    max_connections: int = Field(default=512, ge=16, le=65536)
    max_connections_per_peer: int = Field(default=64, ge=4, le=4096)
    kerberos: Kerberos | None = None
    proxy: Proxy | None = None

    def pairs(self, state: Path) -> tuple[tuple[Path, Path], ...]:
        """Every certificate's file with its key's, absolute when `state` is."""
        found = [(state / self.certificate, state / self.key)]
        if self.firmware_certificate is not None and self.firmware_key is not None:
            found.append((state / self.firmware_certificate, state / self.firmware_key))
        return tuple(found)


class Metrics(Model):
    """A Unix socket that has the metrics and nothing else, for members of `group`, root and the service's user."""

    socket: Path
    group: str | None = None


class Tpm(Model):
    """What is believed of hosts' TPMs: `roots` is a directory with the certificates of their makers' CAs (PEM or DER);
    a path that does not begin with "/" is below the state directory."""

    roots: Path


EVENTS = (
    *("released", "denied", "unknown-machine", "charge-refused", "seed-read-again", "up", "down"),
    *("window-opened", "window-closed", "link-made", "link-revoked", "token-created", "token-revoked"),
    *("apply", "credential-set", "credential-removed", "image-imported", "image-removed", "override"),
    *("image-damaged", "network-cut", "host-compromised", "host-moved", "mac-replaced", "credential-expiring"),
    *("boot-begun", "stuck", "fetched-while-up", "duplicate-mac", "rollout-stopped", "rollout-done"),
    "duplicate-identity",
    *("login-failed", "link-refused", "store-not-trusted", "store-accepted", "clock-went-back", "clock-accepted"),
    *("enrolment-opened", "enrolment-closed", "tpm-enrolled", "tpm-pending", "tpm-refused", "tpm-rejected"),
    *("tpm-removed", "tpm-imported", "tpm-cleared", "update-failed", "recovered"),
)
"""What a webhook can be told of: events of the audit log, decisions by what was decided."""


def _event(value: str) -> str:
    if value not in EVENTS:
        raise ValueError(f"is not an event; known: {', '.join(EVENTS)}")
    return value


class Webhook(Model):
    """A receiver elsewhere that is told of events: where, signed with which key, and of which events (none: all).

    `secret` is a file with the key in base64, `ca` one with the roots in PEM that the receiver's certificate is
    checked with, instead of those of the system; paths that do not begin with "/" are below the state directory.
    """

    name: Name
    # It may have a secret in it, so that no message shows it.
    url: str = Field(repr=False)
    secret: Path
    ca: Path | None = None
    events: tuple[Annotated[str, AfterValidator(_event)], ...] = ()


class Settings(Model):
    """All settings. `state` is the state directory; the others come from `provision.toml`."""

    state: Path
    database: str | None = None
    operator_socket: Path | None = None
    operator_group: str | None = None
    max_connections: int = Field(default=2048, ge=16, le=65536)
    max_connections_per_peer: int = Field(default=64, ge=4, le=4096)
    header_timeout: float = Field(default=10.0, gt=0, le=120)
    stuck_minutes: int = Field(default=10, ge=1, le=1440)
    audit_file_mib: int = Field(default=64, ge=1, le=65536)
    audit_file_days: int = Field(default=30, ge=1, le=3650)
    audit_files: int = Field(default=60, ge=1, le=100_000)
    listen: tuple[Listen, ...] = ()
    api: Api | None = None
    metrics: Metrics | None = None
    webhook: tuple[Webhook, ...] = ()
    tpm: Tpm | None = None

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


def server(given: str | None) -> str | None:
    """The server that commands ask: as given, else $PROVISION_SERVER; None for the one on this machine."""
    return given or os.environ.get("PROVISION_SERVER") or None


def user_directory() -> Path:
    """Where this user's own settings stand: $XDG_CONFIG_HOME/provision, else ~/.config/provision.

    A relative $XDG_CONFIG_HOME is ignored, as the XDG Base Directory Specification wants it. Raises Unavailable for a
    user without a home directory.
    """
    named = Path(os.environ.get("XDG_CONFIG_HOME") or "")
    if named.is_absolute():
        return named / "provision"
    try:
        home = Path(os.environ.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir)
        return home / ".config" / "provision"
    except KeyError:
        fact = f"user id {os.geteuid()} has none"
        raise Unavailable("home directory", fact, "set $HOME or $XDG_CONFIG_HOME") from None


def load(state: Path, config: Path) -> Settings:
    """The settings of `state`; raises Problems with all of them, each with its key, or Unavailable."""
    try:
        text = config.read_bytes()
    except FileNotFoundError:
        raise Unavailable(str(config), "there is no settings file", _NO_SETTINGS) from None
    except PermissionError as error:
        remedy = "be root, or join the group that 'operator_group' in it names"
        raise Unavailable(str(config), f"cannot be read ({error.strerror})", remedy) from None
    except OSError as error:
        raise Unavailable(str(config), f"cannot be read ({error.strerror})", "check its owner and mode") from None
    return parse(text, str(config), state)


def parse(text: bytes, name: str, state: Path) -> Settings:
    """The settings in `text` (TOML); raises Problems with file, line and key of each mistake, or Invalid."""
    try:
        raw = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(name, f"is not TOML ({error})", "correct that line") from None
    own = {key: value for key, value in raw.items() if key != "state"}
    try:
        settings, wrong = Settings.model_validate({**own, "state": state}), None
    except ValidationError as error:
        settings, wrong = None, error
    if settings is None or any(objections(raw)):
        raise Problems(_problems(raw, wrong, text.decode(), name), name)
    return settings


def _problems(raw: dict[str, Any], wrong: ValidationError | None, text: str, name: str) -> Iterator[Problem]:
    # Only when something is wrong: what these import would slow every run of the command line down.
    from provision.document import Node, dotted, place
    from provision.messages import Vocabulary, complaints
    from provision.toml_lines import lines_of

    lines = lines_of(text)

    def tree(value: Any, path: tuple[str | int, ...], line: int) -> Node:
        line = lines.get(path, line)
        if isinstance(value, dict):
            return Node(name, line, {key: tree(inner, (*path, key), line) for key, inner in value.items()})
        if isinstance(value, list):
            return Node(name, line, [tree(inner, (*path, index), line) for index, inner in enumerate(value)])
        return Node(name, line, value)

    root = tree(raw, (), 0)
    found = list(objections(raw))
    if wrong is not None:
        vocabulary = Vocabulary(_WORDS, hidden_keys={Settings: ("state",)})
        found += [(one.path, one.fact, one.remedy) for one in complaints(wrong, Settings, root, vocabulary)]
    for path, fact, remedy in found:
        yield Problem(name, place(root, path)[1], dotted(path), fact, remedy or "correct it")


TEMPLATE = """\
# Settings of this provision server. Every key is described in docs/deployment.md.

# One block for each network that this server serves. The network's name is that of the inventory.
# [[listen]]
# network = "mgmt"
# interface = "eth1"
"""
