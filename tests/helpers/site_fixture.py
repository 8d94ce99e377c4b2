"""A small site for the tests of the service: an inventory, sealed credentials, and a base image of a few hundred KiB.

The base is laid down by its record, without the tools that an import needs, so that a test has it in milliseconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from unittest.mock import patch

from provision.boot import Channel, ChannelKind, Copy, Medium, Requester
from provision.denial import Denial
from provision.document import Source
from provision.edge import Edge
from provision.media.base import MEDIA, BaseImage, load
from provision.media.fat import CLOCK
from provision.media.plan import Plan
from provision.secret import Secret
from provision.seed import Seed
from provision.service.delivery import Delivery
from provision.service.netboot import Netboot
from provision.service.origin import Origin
from provision.service.service import Service
from provision.settings import Listen, Settings
from provision.store.fields import Entry
from provision.store.keys import create_key
from tests.helpers.fakes import FakeNeighbours, FakePins
from tests.helpers.principals import ROOT

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CANARY = b"canary-9f3b1c77e2-of-node1"
MAC1, MAC2, MAC3, STRANGER = (f"52:54:00:00:00:{n:02x}" for n in (1, 2, 3, 0x99))
IP = {MAC1: "10.0.0.11", MAC2: "10.0.0.12", MAC3: "10.0.0.13", STRANGER: "10.0.0.99"}

INVENTORY = """\
site:
  domain: example.test
  base: base
  networks:
    mgmt: {role: management, prefix: 10.0.0.0/24, gateway: 10.0.0.1, pool: {first: 10.0.0.100, last: 10.0.0.199}}
    office: {role: general, prefix: 10.1.0.0/24, gateway: 10.1.0.1}
  credentials:
    token: {kind: token, path: /etc/token}
hosts:
  node1:
    credentials: [token]
    labels: {rack: a}
    interfaces:
      mgmt: {mac: "52:54:00:00:00:01", network: mgmt, addressing: static, ipv4: 10.0.0.11}
  node2:
    netboot: always
    credentials: [token]
    labels: {rack: a}
    interfaces:
      mgmt: {mac: "52:54:00:00:00:02", network: mgmt, addressing: dhcp, reservation: 10.0.0.12}
  node3:
    netboot: never
    interfaces:
      mgmt: {mac: "52:54:00:00:00:03", network: mgmt, addressing: dhcp, reservation: 10.0.0.13}
"""

READS_AGAIN = INVENTORY.replace("  base: base\n", "  base: base\n  policy: {seed_read_again: allow}\n")
"""The same site for tests that read one boot's seed more than once."""

SETTINGS = (Listen(network="mgmt", interface="lo", address=IPv4Address("10.0.0.1"), links=True),)
MANAGEMENT = Channel(ChannelKind.MANAGEMENT, "mgmt", "lo", IPv4Address("10.0.0.1"), IPv4Network("10.0.0.0/24"))
GENERAL = Channel(ChannelKind.GENERAL, "office", "lo", IPv4Address("10.1.0.1"), IPv4Network("10.1.0.0/24"))


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **fields: int) -> None:
        self.now += timedelta(**fields)


def make_base(state: Path, name: str = "base", seed_size: int = 64 * 1024) -> BaseImage:
    """A base image that was never imported, whole by its record."""
    id_ = hashlib.sha256(name.encode()).hexdigest()
    directory = state / "bases" / id_
    (directory / "loaders").mkdir(parents=True)

    def entry(path: str, size: int) -> dict[str, Any]:
        data = hashlib.shake_256(f"{name} {path}".encode()).digest(min(size, 768 * 1024)).ljust(size, b"\0")
        (directory / path).write_bytes(data)
        return {"file": path, "size": size, "sha256": hashlib.sha256(data).hexdigest()}

    # The seeds begin shortly before the end of a chunk of the stream, and go on in the next.
    config = 16 * 1024
    slots = {
        "iso": {"grub.cfg": [4096, config], "isolinux.cfg": [32768, config], "seed": [256 * 1024 - 2048, seed_size]},
        "disk": {"grub.cfg": [4096, config], "identity": [256 * 1024 - 2048, 4096 + seed_size]},
        "refusal": {"grub.cfg": [4096, config]},
    }
    sizes = {"iso": 640 * 1024, "disk": 4 << 20, "refusal": 32 * 1024}
    content = {
        "format": 1,
        "id": id_,
        "name": name,
        "kernel_version": "6.1.0-test",
        "kernel_arguments": ["console=ttyS0"],
        "seed_size": seed_size,
        "signing": "not for Secure Boot: a sample",
        "kernel": entry("kernel", 20_000),
        "initrds": [entry("initrd0.img", 30_720)],
        "loaders": {
            n: entry(f"loaders/{n}", 3000) for n in ("lpxelinux.0", "ldlinux.c32", "shimx64.efi", "grubx64.efi")
        },
        "media": {n: {**entry(file, sizes[n]), "slots": slots[n]} for n, file in MEDIA.items()},
    }
    (directory / "base.json").write_text(json.dumps(content))
    base = load(directory)
    for file in base.files():
        touch(file.path)
    return base


def touch(path: Path) -> None:
    """Give a file of a base the time that an import gives it."""
    os.utime(path, (CLOCK, CLOCK))


def sources(text: str = INVENTORY) -> list[Source]:
    """The inventory as the one file site.yaml."""
    return [Source("site.yaml", text.encode())]


@dataclass
class Site:
    """An open service with what stands around it."""

    state: Path
    service: Service
    clock: Clock
    base: BaseImage

    def apply(self, text: str) -> None:
        """Apply another inventory."""
        self.service.inventories.apply(sources(text), prune=True, confirmed=True, principal=ROOT)

    def secret(self, host: str, value: bytes) -> None:
        """Set the host's token."""
        self.service.credentials.put(host, "token", Secret(value), None, None, ROOT)

    def window(self, host: str = "node1", boots: int = 1) -> None:
        """Open a window."""
        self.service.windows.open(host, 60, boots, ROOT)

    def can(self, *features: str) -> None:
        """Let the base image be one that says that it can do these."""
        self.service.core._bases[self.base.id] = replace(self.base, features=features)

    def audit(self, event: str | None = None) -> list[Entry]:
        """The audit log, of one kind of event or whole."""
        self.service.core.audit.flush()
        entries = self.service.core.audit.entries(None, 10_000)
        return [entry for entry in entries if event is None or entry["event"] == event]


def settings(state: Path, **fields: Any) -> Settings:
    """The settings of the site."""
    usual: dict[str, Any] = {"listen": SETTINGS, "audit_file_days": 3650}
    return Settings(state=state, **usual | fields)


LONG_FILES = "audit_file_days = 3650\n"
"""For a site that was made at NOW and is opened by the real clock: the audit log does not turn to a new file."""

TOML = """\
[[listen]]
network = "mgmt"
interface = "lo"
address = "10.0.0.1"
"""


def closed_site(directory: Path, inventory: str = INVENTORY, toml: str = TOML) -> Path:
    """The state directory of a site that no process has open, with its settings file."""
    with site(directory, inventory) as here:
        (here.state / "provision.toml").write_text(LONG_FILES + toml)
    return directory / "state"


@contextmanager
def site(
    directory: Path,
    inventory: str = INVENTORY,
    make: Callable[[Path], BaseImage] = make_base,
    listen: tuple[Listen, ...] = SETTINGS,
) -> Iterator[Site]:
    """A site below `directory` with node1's and node2's credentials set; no window is open."""
    state = directory / "state"
    state.mkdir(mode=0o700)
    base, clock = make(state), Clock()
    create_key(state)
    service = Service.open(settings(state, listen=listen), clock)
    try:
        here = Site(state, service, clock, base)
        here.apply(inventory)
        for host, value in (("node1", CANARY), ("node2", b"token-of-node2")):
            if host in service.core.hosts and service.core.hosts[host].credentials:
                here.secret(host, value)
        yield here
    finally:
        service.close()


def origin(mac: str | None = MAC1, channel: Channel = MANAGEMENT, **fields: Any) -> Origin:
    """A request from the machine with that MAC, at its usual address."""
    address = IPv4Address(IP.get(mac or "", "10.0.0.77"))
    return Origin(channel, Requester(**{"address": address, "mac": mac, "confirmed": True} | fields))


def charged(delivery: Delivery) -> Seed:
    """The seed that was delivered and acknowledged, or its medium was."""
    try:
        delivery.charge()
    finally:
        delivery.end()
    assert isinstance(delivery.what, Seed)
    return delivery.what


def uncharged(delivery: Delivery) -> Seed:
    """The seed of which no byte has arrived."""
    delivery.end()
    assert isinstance(delivery.what, Seed)
    return delivery.what


def boot_iso(netboot: Netboot, origin: Origin, start: int, wanted: Callable[[Plan], range] | None) -> Plan:
    """The medium for HTTP Boot whose bytes `wanted` (HEAD: None) were delivered from `start` on, and acknowledged."""
    made = netboot.http_boot(origin, start, sends=wanted is not None)
    if isinstance(made, Plan):
        return made
    try:
        if wanted is not None:
            made.giving(wanted(made.plan))
        if wanted is not None and made.first_secret(wanted(made.plan)) is not None:
            made.charge()
    finally:
        made.end()
    return made.plan


def everything(plan: Plan) -> range:
    """What a GET without conditions and ranges has sent."""
    return range(plan.size)


def seed_url(here: Site, mac: str = MAC1) -> str:
    """The revision of the seed that the configuration of that machine names."""
    config = here.service.netboot.pxelinux_config(origin(mac), mac).decode()
    return config.split("/boot/seed/")[1].split("/")[0]


def used(here: Site, host: str = "node1") -> int:
    """The boots that the host's window has been used for."""
    window = here.service.core.store.windows.of(host)
    assert window is not None
    return window.used


def edge(channel: Channel = MANAGEMENT, macs: Mapping[str, str] | None = None) -> Edge:
    """A listener's edge, on which every machine of the site has its address, or those of `macs` (address: MAC)."""
    table = {address: mac for mac, address in IP.items()} if macs is None else macs
    return Edge(channel, 1, 80, FakeNeighbours(table), pins=FakePins())


@dataclass
class Reply:
    """What an application answered; `error` is what it raised after it had begun."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: BaseException | None = None

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document that this is."""
        assert self.headers["content-type"] == "application/problem+json", self
        found = json.loads(self.body)
        assert found["status"] == self.status
        assert found["detail"].count("\n") == 0
        assert isinstance(found, dict)
        return found


async def ask(
    app: Any,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    peer: str = "10.0.0.11",
    scheme: str = "http",
    on_body: Callable[[], None] = lambda: None,
) -> Reply:
    """One request to an ASGI application, its path exactly as given; `on_body` runs after each part of the body."""
    reply = Reply()
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": scheme,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
        "client": (peer, 1024),
        "server": ("10.0.0.1", 80),
    }
    incoming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not incoming:
            await asyncio.Event().wait()  # the client waits for its answer
        return incoming.pop()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            reply.status = message["status"]
            reply.headers = {k.decode().lower(): v.decode() for k, v in message["headers"]}
        else:
            reply.body += message.get("body", b"")
            on_body()

    try:
        await app(scope, receive, send)
    except ConnectionAbortedError as error:
        reply.error = error
    return reply


def request(app: Any, method: str, path: str, **fields: Any) -> Reply:
    """`ask` from a test that is no coroutine."""
    return asyncio.run(ask(app, method, path, **fields))


@contextmanager
def deny_all() -> Iterator[None]:
    """While this is active, policy says no to everything, under both names by which it is called."""
    denial = Denial("test", "everything", "Nothing is released in this test", "Do nothing")

    def deny(*_: object) -> Denial:
        return denial

    with patch("provision.policy.decide", deny), patch("provision.service.status.decide", deny):
        yield


def secret_forms(here: Site, *values: bytes) -> list[bytes]:
    """Every secret of the site's boots as it could show up: raw, hex in both cases, base64 at each alignment."""
    store = here.service.core.store
    hosts = here.service.core.hosts
    keys = [store.keys.phone_home(n, host).reveal() for n in range(1, 40) for host in hosts]
    ids = {host: here.service.core.state(host).identity[:32] for host in hosts}
    keys += [store.keys.of_copy(Copy(host, m, ids[host])).reveal() for host in hosts for m in (Medium.ISO, Medium.DISK)]
    forms = [form for value in (CANARY, *values) for form in _forms(value)]
    keys += [store.keys.alive(host, str(n)).reveal() for n in range(1, 40) for host in hosts]
    return [*forms, *keys, *(key.hex().encode() for key in keys), *(key.hex().upper().encode() for key in keys)]


def _forms(value: bytes) -> list[bytes]:
    # Whatever stands before it shifts base64 by up to two bytes; the ends mix with the neighbours and are cut off.
    shifted = [b64encode(b"x" * shift + value)[4:-4] for shift in range(3)]
    return [value, value.hex().encode(), value.hex().upper().encode(), repr(value)[2:-1].encode(), *shifted]


def leaks(forms: Sequence[bytes], *places: bytes | str | object) -> list[bytes]:
    """Which of the forms stand in any of the places."""
    texts = [place if isinstance(place, bytes) else str(place).encode() for place in places]
    return [form for form in forms for text in texts if form in text]
