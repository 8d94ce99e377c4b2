"""A BMC for tests: a Redfish service over TLS on loopback that behaves as one vendor's do, or misbehaves.

Its resources are files of tests/fixtures/redfish/, which were written after the public schema (DSP8010) and what is
documented of each vendor's BMCs; none was taken from a machine.
"""

from __future__ import annotations

import copy
import hashlib
import json
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from provision.bmc.access import Access, Pin, parse
from provision.secret import Secret
from tests.helpers.paths import ROOT

USER, PASSWORD = "operator", "canary-a77f0c91b2-of-bmc"
FIXTURES = ROOT / "tests/fixtures/redfish"
KINDS = tuple(sorted(path.stem for path in FIXTURES.glob("*.json")))


@cache
def certificate(name: str = "bmc", days: int = 1) -> tuple[str, str]:
    """A self-signed certificate for 127.0.0.1 and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.public_bytes(Encoding.PEM).decode(), pem.decode()


def fingerprint(pem: str) -> str:
    """The hex SHA-256 of a certificate."""
    return x509.load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256()).hex()


Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Asked:
    """A request that came."""

    method: str
    path: str
    body: Any
    headers: dict[str, str]


@dataclass
class Bmc:
    """The state of a BMC. `spoils` may answer a request in place of it; None lets it answer itself."""

    kind: str
    documents: dict[str, Any]
    rules: dict[str, Any]
    address: str = "127.0.0.1"
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    spoils: Callable[[Asked, BaseHTTPRequestHandler], Answer | None] = lambda asked, handler: None
    lies: bool = False
    """Says yes to every order, and follows none."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://{self.address}:{self.port}"

    def access(self, pin: Pin | None = None, password: str = PASSWORD, system: str = "") -> Access:
        """How to reach it."""
        pin = pin or Pin(fingerprint=fingerprint(certificate()[0]))
        return parse(self.url, USER, Secret(password.encode()), pin, system)

    @property
    def system(self) -> dict[str, Any]:
        """Its machine."""
        found: dict[str, Any] = self.documents[self.rules["system"]]
        return found

    @property
    def drive(self) -> dict[str, Any]:
        """Its virtual CD."""
        found: dict[str, Any] = self.documents[self.rules["drive"]]
        return found

    def orders(self, method: str = "") -> list[tuple[str, Any]]:
        """The ends of the paths, and the bodies, of what was ordered."""
        there = [one for one in self.asked if one.method in ((method,) if method else ("POST", "PATCH"))]
        return [(one.path.rpartition("/")[2], one.body) for one in there]

    def answer(self, asked: Asked) -> Answer:
        """What it answers by itself."""
        expected = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if asked.headers.get("authorization") != expected:
            return _error(401, "Base.1.8.InsufficientPrivilege")
        if asked.method == "GET":
            document = self.documents.get(asked.path.rstrip("/"))
            if document is None:
                return _error(404, "Base.1.8.ResourceMissingAtURI")
            data = json.dumps(document).encode()
            return 200, {"ETag": self._tag(data)}, data
        if self.lies:
            return 204, {}, b""
        return self._post(asked) if asked.method == "POST" else self._patch(asked)

    def _tag(self, data: bytes) -> str:
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        return f"W/{tag}" if self.rules.get("weak_tags") else tag

    def _post(self, asked: Asked) -> Answer:
        body = asked.body or {}
        if asked.path.endswith("ComputerSystem.Reset"):
            return self._reset(body.get("ResetType"))
        if asked.body is None and self.rules.get("wants_body"):
            return _error(400, "Base.1.8.MalformedJSON")
        if asked.path.endswith("InsertMedia"):
            if set(body) & set(self.rules.get("refuses", ())):
                return _error(400, "Base.1.8.ActionParameterNotSupported")
            if set(self.rules.get("requires", ())) - set(body):
                return _error(400, "Base.1.8.ActionParameterMissing")
            if self.drive["Inserted"]:
                return _error(409, "Base.1.8.ResourceInUse")
            self.drive.update({"Image": body["Image"], "Inserted": True})
            return 204, {}, b""
        if asked.path.endswith("EjectMedia"):
            self.drive.update({"Image": None, "Inserted": False})
            return 204, {}, b""
        return _error(404, "Base.1.8.ActionNotSupported")

    def _reset(self, kind: str | None) -> Answer:
        allowed = self.system["Actions"]["#ComputerSystem.Reset"].get("ResetType@Redfish.AllowableValues")
        if allowed is not None and kind not in allowed:
            return _error(400, "Base.1.8.ActionParameterNotSupported")
        self.system["PowerState"] = "On" if kind == "On" else "Off"
        return 204, {}, b""

    def _patch(self, asked: Asked) -> Answer:
        document = self.documents[asked.path]
        expected = self._tag(json.dumps(document).encode())
        wanted = self.rules.get("if_match")
        given = asked.headers.get("if-match")
        if wanted == "strong":
            expected = expected.removeprefix("W/")
        if (wanted and given != expected) or (given is not None and given != expected):
            return _error(412, "Base.1.8.PreconditionFailed")
        if asked.path == self.rules["system"] and self.rules.get("settings"):
            return _error(405, "Base.1.8.PropertyNotWritable")
        boot = asked.body.get("Boot")
        if boot is not None and self.rules.get("boot_needs_target"):
            if "BootSourceOverrideTarget" not in boot:
                return _error(400, "Base.1.8.PropertyMissing")
            boot["BootSourceOverrideEnabled"] = "Continuous"
        for name, value in asked.body.items():
            document[name] = document[name] | value if isinstance(value, dict) else value
        return 200, {}, json.dumps(document).encode()


def _error(status: int, message: str) -> Answer:
    told = {"MessageId": message, "Message": "\x1b[31mtext of the BMC\x1b[0m"}
    return status, {}, json.dumps({"error": {"code": message, "@Message.ExtendedInfo": [told]}}).encode()


class _Handler(BaseHTTPRequestHandler):
    bmc: Bmc
    timeout = 30

    def _serve(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, json.loads(raw) if raw else None, headers)
        self.bmc.asked.append(asked)
        status, more, data = self.bmc.spoils(asked, self) or self.bmc.answer(asked)
        if not status:
            return  # it was answered already
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that goes away is expected."""


def load(kind: str) -> Bmc:
    """The BMC of a kind, not serving yet."""
    found = json.loads(Path(FIXTURES / f"{kind}.json").read_text())
    documents = {path: {"@odata.id": path, **copy.deepcopy(body)} for path, body in found["resources"].items()}
    return Bmc(kind, documents, found["rules"])


@contextmanager
def served(
    kind: str = "other",
    names: tuple[str, str] | None = None,
    place: tuple[str, int] = ("127.0.0.1", 0),
) -> Iterator[Bmc]:
    """A BMC of that kind that serves at an address, with this certificate and key."""
    with serving(load(kind), names, place) as bmc:
        yield bmc


@contextmanager
def serving(bmc: Bmc, names: tuple[str, str] | None = None, place: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[Bmc]:
    """The same with a BMC that has a state already."""
    handler = type("Handler", (_Handler,), {"bmc": bmc})
    server = _Server(place, handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with _files(*(names or certificate())) as (cert, key):
        context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    bmc.address, bmc.port = place[0], server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield bmc
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def _files(*texts: str) -> Iterator[list[str]]:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory) / str(number) for number in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        yield [str(path) for path in paths]
