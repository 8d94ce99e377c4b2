"""PEM as OpenSSL, GnuTLS and OpenSSH read it: what we take, they read."""

from __future__ import annotations

import base64
import subprocess
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provision import pem, proc
from provision.errors import Invalid

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@cache
def own_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@cache
def own_certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "n1.example.org")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=9))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def said(kind: str, content: bytes) -> str:
    """What is wrong with a key, a certificate or an SSH key; "" for nothing."""
    requires = {"key": pem.require_tls_key, "ssh": pem.require_ssh_key}
    try:
        requires.get(kind, pem.require_tls_certificates)(content)
    except Invalid as error:
        assert "MII" not in str(error)
        return f"{error.fact}; {error.remedy}"
    return ""


def shapes(content: bytes) -> Iterator[tuple[str, bytes, str]]:
    """Ways in which the same block is written: what it is called, its bytes, and the fact when it is refused."""
    begin, *body, end = content.decode().splitlines()
    joined = "".join(body)

    def text(*lines: str) -> bytes:
        return "".join(f"{line}\n" for line in lines).encode()

    yield "as OpenSSL writes it", content, ""
    yield "CR and LF", content.replace(b"\n", b"\r\n"), ""
    yield "one line", text(begin, joined, end), ""
    yield "76 columns", text(begin, *textwrap.wrap(joined, 76), end), ""
    yield "no newline at the end", content.rstrip(), ""
    yield "text before", b"Bag Attributes\n    friendlyName: x\n" + content, ""
    yield "text after", content + b"that is all\n", ""
    yield "byte order mark", b"\xef\xbb\xbf" + content, ""
    yield "blanks after lines", text(*(f"{line}  " for line in (begin, *body, end))), ""
    yield "an indented body", text(begin, *(f"  {line}" for line in body), end), ""
    yield "all indented", text(*(f"  {line}" for line in (begin, *body, end))), "line 1 has more than '-----BEGIN"
    yield "CR alone", content.replace(b"\n", b"\r"), "has a carriage return in it"
    yield "an indented end", text(begin, *body, f" {end}"), "has more than '-----END"
    yield "glued to text", b"x" + content, "line 1 has more than '-----BEGIN"
    yield "text glued to it", content.rstrip() + b"x\n", "has more than '-----END"
    yield "an empty line", text(begin, "", f" {body[0]}", *body[1:], end), "line 2 is empty, inside a PEM block"
    yield "a header", text(begin, "X-Comment: x", "", *body, end), "line 2 is not Base64, inside a PEM block"


SHAPES = [
    (kind, *shape)
    for kind, content in (("key", own_key()), ("certificate", own_certificate()))
    for shape in shapes(content)
]


@pytest.mark.parametrize(("kind", "content", "fact"), [(k, c, f) for k, _, c, f in SHAPES], ids=[s[1] for s in SHAPES])
def test_shapes(kind: str, content: bytes, fact: str) -> None:
    found = said(kind, content)
    assert fact in found if fact else found == ""


def openssl(*arguments: str) -> bytes:
    return proc.run(["openssl", *arguments], package="openssl").stdout


def curve(name: str, *options: str) -> bytes:
    return openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{name}", *options)


KINDS: dict[str, str] = {
    "P-256": "",
    "P-384": "",
    "P-521": "",
    "secp256k1": "is on the curve secp256k1, which GnuTLS does not know; make one with 'openssl genpkey",
    "brainpoolP256r1": "is on the curve brainpoolP256r1, which GnuTLS does not know",
    "explicit": "describes its curve instead of naming it, and GnuTLS cannot read that; write it again: 'openssl pkey",
    "ed25519": "",
    "ed448": "",
    "x25519": "is neither RSA nor EC nor Ed25519 nor Ed448",
    "rsa:1024": "is RSA with 1024 bits",
    "rsa:2048": "",
}


@cache
def key_of(kind: str) -> bytes:
    if kind.startswith("rsa:"):
        return openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{kind[4:]}")
    if kind == "explicit":
        return curve("P-256", "-pkeyopt", "ec_param_enc:explicit")
    return openssl("genpkey", "-algorithm", kind) if "25519" in kind or kind == "ed448" else curve(kind)


@pytest.mark.integration
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_keys(kind: str) -> None:
    found = said("key", key_of(kind))
    assert KINDS[kind] in found if KINDS[kind] else found == ""


@pytest.mark.integration
def test_the_remedy_for_a_described_curve_is_taken() -> None:
    described = key_of("explicit")
    named = proc.run(["openssl", "pkey", "-ec_param_enc", "named_curve"], package="openssl", stdin=described).stdout
    assert said("key", named) == ""


@pytest.mark.integration
@pytest.mark.parametrize(("digest", "fact"), [("sha1", "is signed with SHA1"), ("md5", "with MD5"), ("sha256", "")])
def test_weak_signatures(tmp_path: Path, digest: str, fact: str) -> None:
    authority, request, key = (str(tmp_path / name) for name in ("ca", "request", "key"))
    (tmp_path / "key").write_bytes(key_of("rsa:2048"))
    openssl("req", "-x509", "-key", key, "-subj", "/CN=ca", "-out", authority)
    openssl("req", "-new", "-key", key, "-subj", "/CN=n1", "-out", request)
    made = openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", key, "-set_serial", "7", f"-{digest}")
    found = said("certificate", made + (tmp_path / "ca").read_bytes())
    assert fact in found if fact else found == ""


def is_read(kind: str, path: Path) -> bool:
    """Whether OpenSSL and GnuTLS both read the first block of the file."""
    first = ["openssl", "pkey" if kind == "key" else "x509", "-noout", "-in", path]
    second = ["certtool", "-k" if kind == "key" else "-i", "--infile", path]
    done = [
        proc.run(argv, package=package, ok=range(256)) for argv, package in ((first, "openssl"), (second, "gnutls-bin"))
    ]
    return all(one.returncode == 0 for one in done)


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["key", "certificate"])
def test_openssl_and_gnutls_read_what_we_take(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pem"
    taken = [content for name, _, content, _ in SHAPES if name == kind]
    taken += [key_of(name) for name in KINDS] if kind == "key" else []
    for content in taken:
        path.write_bytes(content)
        assert said(kind, content) or is_read(kind, path), content


@pytest.mark.integration
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_openssl_and_gnutls_read_what_we_take_of_damaged_ones(tmp_path: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["key", "certificate"]))
    content = bytearray(own_key() if kind == "key" else own_certificate())
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(content)))
        content[at:at] = data.draw(
            st.sampled_from([b" ", b"\t", b"\r", b"\n", b"-", b"=", b"#", b"\0", b"\n\n", b": "])
        )
    path = tmp_path / "pem"
    path.write_bytes(content)
    assert said(kind, bytes(content)) or is_read(kind, path)


@cache
def ssh_keygen(kind: str, *options: str) -> bytes:
    """A key as ssh-keygen writes it."""
    script = f"d=$(mktemp -d) && ssh-keygen -q -t {kind} {' '.join(options)} -f $d/k && cat $d/k; rm -r $d"
    return subprocess.run(["sh", "-ec", script], check=True, capture_output=True, timeout=60).stdout


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_keys_of_ssh_keygen(kind: str) -> None:
    content = ssh_keygen(kind, "-N", "''")
    assert said("ssh", content) == ""
    assert said("key", content) == (
        "is an OpenSSH key, which OpenSSL and GnuTLS cannot read; "
        "declare it with a path below /etc/ssh when sshd reads it, else as kind 'file'"
    )
    assert said("ssh", content[:-60]).startswith("is not an OpenSSH private key that can be read")
    locked = ssh_keygen(kind, "-N", "secret")
    assert said("ssh", locked).startswith("the private key is encrypted with a passphrase; take it off: 'ssh-keygen -p")


@pytest.mark.integration
@pytest.mark.parametrize("kind", [kind for kind, fact in KINDS.items() if not fact])
def test_ssh_reads_what_we_take_for_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(key_of(kind))
    done = proc.run(["ssh-keygen", "-y", "-f", path], package="openssh-client", ok=range(256))
    found = said("ssh", key_of(kind))
    assert found or done.returncode == 0
    assert kind not in ("ed25519", "ed448") or "make one with 'ssh-keygen -t ed25519" in found


@pytest.mark.parametrize(
    ("part", "instead", "fact"),
    [
        (b"n1.example.org", b"n1.ex\xffmple.org", "is damaged"),
        (bytes.fromhex("2a8648ce3d040302"), bytes.fromhex("2a8648ce3d040303"), "is damaged"),
        (bytes.fromhex("a003020102"), bytes.fromhex("a00302015f"), "is not a PEM certificate"),
    ],
    ids=["name", "two algorithms", "version"],
)
def test_damage_that_only_some_readers_see(part: bytes, instead: bytes, fact: str) -> None:
    body = base64.b64decode(b"".join(own_certificate().splitlines()[1:-1]))
    assert part in body
    damaged = base64.encodebytes(body.replace(part, instead, 1))
    assert fact in said("certificate", b"-----BEGIN CERTIFICATE-----\n" + damaged + b"-----END CERTIFICATE-----\n")
