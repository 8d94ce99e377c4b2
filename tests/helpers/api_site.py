"""A site whose operators' API is served over TLS by a process of its own, and curl to ask it."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from provision import clock
from provision.tls import files
from tests.helpers.certificates import NAMES
from tests.helpers.cli_runner import cli
from tests.helpers.site_fixture import closed_site, touch

SETTINGS = """\
[api]
address = "{address}"
port = {port}
certificate = "tls/server.pem"
key = "tls/server.key"
firmware_certificate = "tls/firmware.pem"
firmware_key = "tls/firmware.key"
names = ["prov.example.test"]
"""


@dataclass(frozen=True)
class ApiSite:
    """The state directory, where its API is, and the token of an admin."""

    state: Path
    port: int
    token: str
    address: str = "127.0.0.1"

    @property
    def header(self) -> str:
        return f"Authorization: Bearer {self.token}"

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.port}"

    @property
    def ca(self) -> Path:
        return self.state / "tls" / "ca.pem"

    def curl(self, path: str, *arguments: str | Path, known: bool = True) -> tuple[int, bytes]:
        """Status (0: there was none) and body of a request to the API."""
        given = ["--header", self.header] if known else []
        argv = ["curl", "--silent", "--max-time", "60", "--cacert", str(self.ca), "--write-out", "\n%{http_code}"]
        ran = subprocess.run([*argv, *given, *map(str, arguments), self.url + path], capture_output=True, timeout=90)
        body, _, status = ran.stdout.rpartition(b"\n")
        return int(status), body


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that is free now."""
    with socket.socket() as sock:
        sock.bind((address, 0))
        return int(sock.getsockname()[1])


def api_site(directory: Path, toml: str = "", address: str = "127.0.0.1", *, ca: bool = True) -> ApiSite:
    """A closed site with a CA and the settings of an API beside `toml`."""
    port = free_port()
    state = closed_site(directory, toml=toml + SETTINGS.format(address=address, port=port))
    if ca:
        files.create(state, NAMES, clock.now())
    made = cli(state, "token", "create", "tests", "--role", "admin", "--json")
    assert made.code == 0, made.err
    return ApiSite(state, port, made.json["token"], address)


def enlarge(state: Path, size: int) -> None:
    """Let the base's ISO have `size` bytes, of a pattern that no two places have alike."""
    (record,) = state.glob("bases/*/base.json")
    content, iso = json.loads(record.read_text()), record.parent / "base.iso"
    with iso.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        for number in range(file.tell() >> 16, size >> 16):
            file.write(hashlib.sha256(str(number).encode()).digest() * 2048)
    digest = hashlib.sha256(iso.read_bytes()).hexdigest()
    content["media"]["iso"] |= {"size": size, "sha256": digest}
    record.write_text(json.dumps(content))
    for path in (record, iso):
        touch(path)
