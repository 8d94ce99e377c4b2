"""A machine with a TPM in software that runs the host image's own enrolment, and a vendor who certifies TPMs."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cryptography import x509

from provision.tpm import endorsement, public
from tests.helpers.firmware_log import BOOT, LOG, log_of
from tests.helpers.host_programs import Bus, load
from tests.helpers.tpm import Tpm, software_tpm

HOST = load("tpm")
LOG_OF = load("firmware_log")
load("answers")
PROGRAM = load("enroll")

Post = Callable[[str, str, dict[str, Any]], dict[str, Any]]
"""Sends a body to a path of a server: `post` of the program."""


class Vendor:
    """A maker of TPMs with a root and an intermediate CA: swtpm's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        ca = directory / "ca"
        ca.mkdir(parents=True)
        places = {"statedir": ca, "signingkey": ca / "key.pem", "issuercert": ca / "issuer.pem"}
        lines = [f"{name} = {path}" for name, path in (places | {"certserial": ca / "serial"}).items()]
        (directory / "localca.conf").write_text("\n".join(lines) + "\n")
        options = "--platform-manufacturer T\n--platform-version 1\n--platform-model M\n"
        (directory / "localca.options").write_text(options)
        tool = f"create_certs_tool=/usr/bin/swtpm_localca\ncreate_certs_tool_config={directory}/localca.conf\n"
        (directory / "setup.conf").write_text(f"{tool}create_certs_tool_options={directory}/localca.options\n")

    def make(self, state: Path) -> None:
        """Manufacture a TPM."""
        state.mkdir(parents=True)
        argv = ["swtpm_setup", "--tpm2", "--tpmstate", str(state), "--create-ek-cert", "--lock-nvram"]
        argv += ["--pcr-banks", "sha256", "--config", str(self.directory / "setup.conf")]
        subprocess.run(argv, check=True, capture_output=True)

    def certificate(self, name: str) -> x509.Certificate:
        """One of its CA's."""
        return x509.load_pem_x509_certificate((self.directory / "ca" / name).read_bytes())

    @property
    def root(self) -> x509.Certificate:
        return self.certificate("swtpm-localca-rootca-cert.pem")

    @property
    def issuer(self) -> x509.Certificate:
        return self.certificate("issuer.pem")

    def publish(self, directory: Path) -> None:
        """Put both certificates where an operator puts those of makers whom he believes."""
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("swtpm-localca-rootca-cert.pem", "issuer.pem"):
            (directory / name).write_bytes((self.directory / "ca" / name).read_bytes())


@dataclass
class Machine:
    """A machine that has booted: what its TPM is, and what it has measured. Its TPM is where the test began, whatever
    network name space the machine is in."""

    tpm: Tpm
    outside: Executor
    kind: str | None = None
    log: bytes = LOG

    @property
    def host(self) -> Any:
        """Its TPM, as the image's programs ask it."""
        bus = Bus(self.tpm.port)
        return HOST.Tpm(lambda command: self.outside.submit(bus.exchange, command).result())

    def values(self, numbers: list[int]) -> dict[str, str]:
        """What the kernel shows of these PCRs."""
        arguments = "pcrread", f"sha256:{','.join(map(str, numbers))}", "-o", "values"
        self.outside.submit(self.tpm.run, *arguments).result()
        content = self.tpm.get("values")
        return {str(number): content[32 * at : 32 * at + 32].hex() for at, number in enumerate(numbers)}

    def enroll(self, post: Post | None = None, url: str = "http://server") -> str:
        """Run the host image's program; returns what it says on the console. Raises its `Refused`."""
        said: list[str] = []
        log = self.tpm.put("log", self.log)
        with ExitStack() as changed:
            if post is not None:
                changed.enter_context(patch.object(PROGRAM, "post", post))
            if (kind := self.kind) is not None:
                changed.enter_context(patch.object(PROGRAM, "key_kind", lambda _: (kind, b"")))
            PROGRAM.enroll(
                self.host,
                url,
                lambda *lines: said.extend(lines),
                lambda: LOG_OF.short(LOG_OF.read(str(log))),
                self.values,
            )
        return "\n".join(said)

    @property
    def fingerprint(self) -> str:
        """Of the key that it shows, as openssl has it."""
        kind = self.kind or PROGRAM.key_kind(self.host)[0]
        with self.host.primary(HOST.ENDORSEMENT, HOST.endorsement_template(kind)) as ek:
            return endorsement.fingerprint(public.parse(ek.public, "EK"))


@contextmanager
def machine(
    directory: Path,
    vendor: Vendor | None = None,
    kind: str | None = None,
    measured: Sequence[tuple[int, int, bytes]] = BOOT,
) -> Iterator[Machine]:
    """A machine that has just `measured` this; `vendor` made its TPM, or nobody did. Without a certificate it shows a
    key of that `kind`, or an RSA key."""
    if vendor is not None:
        vendor.make(directory / "state")
    with software_tpm(directory) as tpm, ThreadPoolExecutor(1) as outside:
        # Its thread begins here.
        outside.submit(int).result()
        for pcr, _, data in measured:
            tpm.run("pcrextend", f"{pcr}:sha256={hashlib.sha256(data).hexdigest()}")
        yield Machine(tpm, outside, kind, log_of(measured))


def refusing(status: int, body: bytes) -> dict[str, Any]:
    """What `post` of the program makes of an answer."""
    said: dict[str, Any] = json.loads(body or b"{}")
    if status in (200, 204):
        return said
    raise PROGRAM.Refused(said.get("detail", str(status)))
