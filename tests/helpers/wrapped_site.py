"""A site with a host on a general network whose TPM is enrolled, and that host: it has booted, and runs the image's own
program against the site's boot application."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from unittest.mock import patch

from provision.enrolled_tpm import EnrolledTpm, KeyKind
from provision.media.base import BaseImage
from provision.media.base import load as load_base
from provision.settings import Listen
from provision.site_key import KeyUse
from provision.tpm import endorsement, public
from provision.tpm.chains import Binding
from provision.tpm.event_log import Event
from provision.web import boot_app
from tests.helpers.firmware_log import entry, header
from tests.helpers.host_programs import Bus, load
from tests.helpers.site_fixture import GENERAL, MAC1, SETTINGS, Site, edge, make_base, request, site, touch
from tests.helpers.tpm import Tpm

TPM = load("tpm")
LOG = load("firmware_log")
ONLINE = load("online")
LIBCRYPTO = load("libcrypto")
load("answers")
KEPT_KEY = load("kept_key")
ENVELOPE = load("envelope")
PLACING = load("placing")
RECORD = load("record")
REFUSAL = load("refusal")
SIGNED_SEED = load("signed_seed")
AT_REST = load("at_rest")
PROGRAM = load("open-envelope")

PEER = "10.1.0.11"
LISTEN = (*SETTINGS, Listen(network="office", interface="lo", address=IPv4Address("10.1.0.1")))
INVENTORY = f"""\
site:
  domain: example.test
  base: base
  networks:
    mgmt: {{role: management, prefix: 10.0.0.0/24}}
    office: {{role: general, prefix: 10.1.0.0/24, gateway: 10.1.0.1}}
  credentials:
    token: {{kind: token, path: /etc/provision/token, mode: "0640"}}
hosts:
  node1:
    netboot: always
    credentials: [token]
    interfaces:
      office: {{mac: "{MAC1}", network: office, addressing: dhcp}}
  node2:
    netboot: always
    credentials: [token]
    interfaces:
      office: {{mac: "52:54:00:00:00:02", network: office, addressing: dhcp}}
"""
UKI = INVENTORY.replace("    netboot: always\n", "    netboot: always\n    chain: uki\n", 1)
"""The same with node1 started by signed images."""
_PROGRAMS = {
    "loaders/shimx64.efi": "/usr/lib/shim/shimx64.efi.signed",
    "loaders/grubx64.efi": "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
    "kernel": "/usr/lib/shim/fbx64.efi.signed",
}


def bootable(state: Path, name: str = "base") -> BaseImage:
    """A base image whose boot loaders and kernel are programs that firmware could start."""
    directory = make_base(state, name).directory
    record = json.loads((directory / "base.json").read_text()) | {"signing": "shim, GRUB and kernel are signed"}
    entries = {entry["file"]: entry for entry in (record["kernel"], *record["loaders"].values())}
    for file, source in _PROGRAMS.items():
        shutil.copyfile(source, directory / file)
        data = (directory / file).read_bytes()
        entries[file] |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        touch(directory / file)
    (directory / "base.json").write_text(json.dumps(record))
    return load_base(directory)


@dataclass
class Wrapped:
    """The site, node1 with its TPM, and what the wire and the console have seen."""

    here: Site
    tpm: Tpm
    root: Path
    bus: Bus = field(init=False)
    wire: list[bytes] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    change: Callable[[bytes], bytes] = lambda file: file
    """What somebody on the wire makes of an envelope."""
    peer: str = PEER
    host: str = "node1"
    log: bytes = b""
    silent: bool = False
    """Whether the server gives nobody an answer but to what is told to it."""
    storage: str = "persistent"
    disk: Path | None = None
    """The configuration partition that the initramfs has left word of."""

    def __post_init__(self) -> None:
        self.bus = Bus(self.tpm.port)

    @property
    def identity(self) -> Path:
        """What the program says of the identity on the disk."""
        return self.root.parent / "identity"

    @property
    def device(self) -> Any:
        """The TPM, as the image's programs ask it."""
        return TPM.Tpm(self.bus.exchange)

    def enroll(
        self, kind: KeyKind = KeyKind.RSA, host: str = "node1", tpm: Tpm | None = None, **booted: Any
    ) -> EnrolledTpm:
        """Know a TPM as the host's, which had `booted` like this."""
        device = TPM.Tpm(Bus((tpm or self.tpm).port).exchange)
        template = TPM.endorsement_template("rsa" if kind is KeyKind.RSA else "ecc")
        with device.primary(TPM.ENDORSEMENT, template) as ek:
            mark = endorsement.fingerprint(public.parse(ek.public, "EK"))
            about = "accepted root", self.attestation(device), bytes(32), "UEFI, Secure Boot on"
            own = replace(EnrolledTpm(host, bytes(ek.public), kind, mark, *about, self.here.clock(), "root"), **booted)
        self.here.service.core.store.tpms.put(own)
        return own

    @staticmethod
    def attestation(device: Any) -> bytes:
        """The name of its attestation key."""
        with device.primary(TPM.ENDORSEMENT, TPM.attestation_template()) as key:
            return bytes(key.name)

    def bindings(self, host: str = "node1") -> tuple[Binding, ...]:
        """What the server binds the host's boots on that network to."""
        state = self.here.service.core.state(host)
        return self.here.service.bindings.chains(state, GENERAL).bindings

    def boot(self, binding: Binding | None = None, instead: Mapping[int, list[bytes]] | None = None) -> None:
        """Measure a boot: what the server expects, but other digests `instead` for some PCRs."""
        for event in (binding or self.bindings()[0]).expected:
            if event.pcr not in (instead or {}):
                self.tpm.run("pcrextend", f"{event.pcr}:sha256={event.digest.hex()}")
        for pcr, digests in (instead or {}).items():
            for digest in digests:
                self.tpm.run("pcrextend", f"{pcr}:sha256={digest.hex()}")

    def measure(self, events: Iterable[Event]) -> None:
        """Measure these as a firmware does, and have all in the log."""
        for event in events:
            parameters = TPM.u32(1) + TPM.u16(11) + event.digest
            self.device.run(0x182, TPM.u32(event.pcr), parameters, TPM.empty_password())
            self.log = (self.log or header()) + entry(event)

    def values(self, numbers: Iterable[int]) -> dict[str, str]:
        """What the kernel shows of these PCRs."""
        found = {}
        for number in numbers:
            _, answer, _ = self.device.run(0x17E, b"", TPM.selection([number]))
            found[str(number)] = answer[-32:].hex()
        return found

    def restart(self) -> None:
        """Power the machine off and on, and boot it as the server expects."""
        self.tpm.restart()
        self.boot()

    def ask(self, url: str, method: str, body: str | None) -> tuple[int, bytes]:
        """What the program's request is answered."""
        if self.silent and method == "GET":
            raise ConnectionRefusedError("nobody listens")
        app = boot_app.create(self.here.service.netboot, edge(GENERAL, {PEER: MAC1, "10.1.0.12": "52:54:00:00:00:02"}))
        answer = request(app, method, url.removeprefix("http://10.1.0.1"), body=(body or "").encode(), peer=self.peer)
        is_envelope = answer.body.startswith(b"provision-envelope")
        content = self.change(answer.body) if is_envelope else answer.body
        self.wire += [content, (body or "").encode()]
        return answer.status, content

    def run(self) -> bool:
        """Run the image's program; whether it has opened the envelope."""
        return self._run(PROGRAM.run)

    def attempt(self) -> bool:
        """The same without giving up, so that another attempt finds the boot as it is."""
        return self._run(PROGRAM.attempt)

    def _run(self, program: Callable[..., object]) -> bool:
        about = self.root.parent / "host.json"
        source = self.here.service.netboot.envelopes
        assert source is not None
        keys = [key.public.hex() for key in self.here.service.site_keys.trusted(KeyUse.SIGNING)]
        envelope = {"url": "http://10.1.0.1/envelope", "keys": keys}
        about.write_text(json.dumps({"host": self.host, "envelope": envelope, "storage": self.storage}))
        self.root.mkdir(exist_ok=True)
        part, identity = about.with_name("part"), self.identity
        identity.unlink(missing_ok=True)
        part.write_text(str(self.disk or ""))
        disk = AT_REST.Disk(str(part), str(about.with_name("signed-seed")), str(identity))
        prove = partial(ONLINE.prove, values=self.values)
        with patch.object(PROGRAM, "_ask", self.ask), patch.object(ONLINE, "prove", prove):
            opened = program(
                lambda *lines: self.console.extend(lines),
                lambda: self.device,
                str(about),
                str(self.root),
                str(about.with_name("envelope.json")),
                0,
                lambda: self.log,
                disk,
            )
        return bool(opened)

    def refused(self, words: str, outcome: str) -> None:
        """Require that nothing opens, that the console says why in these words, and that the server has heard of it."""
        self.console.clear()
        before = sorted(self.root.rglob("*"))
        assert not self.attempt()
        assert words in " ".join(self.console), self.console
        assert sorted(self.root.rglob("*")) == before, "and writes nothing"
        said = self.here.service.netboot.openings.last("node1")
        assert said is not None and said.outcome == outcome, said

    def token(self) -> bytes:
        """What the program has put where the credential belongs."""
        return (self.root / "etc/provision/token").read_bytes()


@contextmanager
def wrapped(directory: Path, tpm: Tpm, inventory: str = INVENTORY) -> Iterator[Wrapped]:
    """The site and the host, which is not enrolled yet."""
    directory.mkdir(exist_ok=True)
    with site(directory, inventory, bootable, LISTEN) as here:
        # The laboratory has no such interface, and no test here listens.
        endpoints = here.service.core.endpoints
        place = type(endpoints)._place

        def at(found: Any, network: str) -> Any:
            from provision.service.endpoints import Endpoint

            listen = next((one for one in LISTEN if one.network == network), None)
            return (
                Endpoint("lo", listen.address, 80) if listen is not None and listen.address else place(found, network)
            )

        with patch.object(type(endpoints), "_place", at):
            yield Wrapped(here, tpm, directory / "root")
