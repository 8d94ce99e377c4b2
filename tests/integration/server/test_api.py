"""The operators' API over TLS, as a process of its own and with curl: versions, names, certificates that change."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers.api_site import ApiSite, api_site, enlarge
from tests.helpers.cli_runner import cli
from tests.helpers.serving import Served, serve
from tests.helpers.site_fixture import CANARY

READY = "serving the operators' API at"
OLD = ("--ciphers", "DEFAULT@SECLEVEL=0")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiSite]:
    made = api_site(tmp_path_factory.mktemp("api"))
    # As kill -9 of `ca renew` leaves it when the new key is written: the service that starts does the rest.
    tls = made.state / "tls"
    (tls / "server.pem").rename(tls / "server.pem.next")
    shutil.copyfile(tls / "ca.pem", tls / "server.pem")
    with serve(made.state) as served:
        served.wait_for(READY)
        assert not (tls / "server.pem.next").exists()
        yield made
        assert served.stop() == 0
        assert "Traceback" not in served.log and "internal error" not in served.log


@pytest.mark.parametrize(
    ("versions", "status"),
    [
        (("--tlsv1.3",), 200),
        (("--tlsv1.2", "--tls-max", "1.2"), 200),
        (("--tls-max", "1.2", "--ciphers", "DHE-RSA-AES256-GCM-SHA384"), 200),
        (("--tlsv1.1", "--tls-max", "1.1", *OLD), 0),
        (("--tlsv1.0", "--tls-max", "1.0", *OLD), 0),
        (("--tls-max", "1.2", "--ciphers", "AES256-GCM-SHA384"), 0),
    ],
)
def test_versions_and_ciphers(site: ApiSite, tmp_path: Path, versions: tuple[str, ...], status: int) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join((site.state / "tls" / name).read_bytes() for name in ("ca.pem", "firmware-ca.pem")))
    assert site.curl("/v1/health", "--cacert", both, *versions)[0] == status


def test_a_name_needs_no_address(site: ApiSite) -> None:
    there = f"prov.example.test:{site.port}:127.0.0.1"
    url = f"https://prov.example.test:{site.port}/v1/health"
    argv = ["curl", "--silent", "--fail", "--cacert", str(site.ca), "--header", site.header, "--resolve", there, url]
    assert subprocess.run(argv, capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize("path", ["/v1/hosts/node1/iso", "/v1/openapi.json", "/v1/nothing"])
def test_nobody_is_answered_without_a_credential(site: ApiSite, path: str) -> None:
    status, body = site.curl(path, known=False)
    assert status == 401 and b"node1" not in body and CANARY not in body
    assert b'www-authenticate: bearer realm="provision"' in site.curl(path, "--include", known=False)[1].lower()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("path", ["/", "/hosts/node1", "/hosts/node1/media/iso", "/nothing", "/inventory/v1/hosts"])
def test_pages_lead_to_their_form_without_a_session(site: ApiSite, path: str, known: bool) -> None:
    status, body = site.curl(path, "--include", known=known)
    assert status == 303 and b"\r\nlocation: /login\r\n" in body.lower()
    assert b"node1" not in body and CANARY not in body


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("host", "status"), [("evil.test", 421), ("10.0.0.1", 421), ("a b", 400), ("", 400)])
def test_a_request_for_another_server_is_told_nothing(site: ApiSite, host: str, status: int, known: bool) -> None:
    given = f"Host: {host}" if host else "Host;"
    forged = ("--header", "X-Forwarded-Host: prov.example.test", "--header", "Forwarded: host=prov.example.test")
    found, body = site.curl("/v1/hosts", "--header", given, *forged, known=known)
    assert found == status and b"node" not in body and b"prov.example" not in body


def test_a_peer_is_who_it_is_whatever_it_says(site: ApiSite) -> None:
    """The Unix socket's callers are known by what the kernel says, and nobody else can say it."""
    for forged in ("X-Forwarded-For: uid=0", "Forwarded: for=127.0.0.1", "X-Real-IP: 127.0.0.1"):
        # 429 when the tests before this one have asked in vain within the same minute.
        assert site.curl("/v1/health", "--header", forged, known=False)[0] in (401, 429)


def test_plain_http_gets_no_answer(site: ApiSite) -> None:
    with socket.create_connection(("127.0.0.1", site.port), 20) as sock:
        sock.sendall(f"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n{site.header}\r\n\r\n".encode())
        received = b""
        with suppress(ConnectionResetError):
            while part := sock.recv(4096):
                received += part
        assert b"HTTP" not in received and b"hosts" not in received


def test_a_medium_is_the_same_as_by_the_socket(site: ApiSite, tmp_path: Path) -> None:
    assert cli(site.state, "iso", "node1", "-o", tmp_path / "node1.iso").code == 0
    status, body = site.curl("/v1/hosts/node1/iso")
    assert status == 200 and CANARY in body
    assert hashlib.sha256(body).digest() == hashlib.sha256((tmp_path / "node1.iso").read_bytes()).digest()
    assert site.curl("/v1/hosts/node1/iso", "--range", "1000-1999") == (206, body[1000:2000])


def test_a_link_is_good_without_a_token(site: ApiSite) -> None:
    made = cli(site.state, "link", "node1", "--address", "127.0.0.1", "--json").json
    assert made["urls"][0].startswith(f"https://127.0.0.1:{site.port}/b/")
    path = made["urls"][0].partition(str(site.port))[2]
    status, body = site.curl(path, known=False)
    assert status == 200 and CANARY in body
    assert site.curl(path, "--range", "5-9", known=False) == (206, body[5:10])
    assert cli(site.state, "link", "revoke", made["id"]).code == 0
    gone = site.curl(path, known=False)
    assert gone[0] == 404 and gone == site.curl(f"/b/{'0' * 26}.iso", known=False)


def test_a_link_is_read_by_ranges_and_resumed_over_tls(site: ApiSite, tmp_path: Path) -> None:
    """As a BMC and as people do it: QEMU's curl driver, curl -C -, wget -c. QEMU has no option for a CA of its own."""
    made = cli(site.state, "link", "node1", "--address", "127.0.0.1", "--json").json
    url = made["urls"][0]
    status, whole = site.curl(url.removeprefix(site.url), known=False)
    assert status == 200 and CANARY in whole
    image = json.dumps({"driver": "raw", "file": {"driver": "https", "url": url, "sslverify": False}})
    for name, part in (("curl.iso", whole[:270_000]), ("wget.iso", whole[:1])):
        (tmp_path / name).write_bytes(part)
    for argv in (
        ["qemu-img", "convert", "-O", "raw", f"json:{image}", tmp_path / "qemu.iso"],
        ["curl", "-sf", "--cacert", site.ca, "-C", "-", "-o", tmp_path / "curl.iso", url],
        ["wget", "-q", f"--ca-certificate={site.ca}", "-c", "-O", tmp_path / "wget.iso", url],
    ):
        subprocess.run(list(map(str, argv)), check=True, timeout=60)
    assert {path.name for path in tmp_path.iterdir() if path.read_bytes() == whole} == {
        "qemu.iso",
        "curl.iso",
        "wget.iso",
    }
    (row,) = [row for row in cli(site.state, "link", "list", "--json").json if row["id"] == made["id"]]
    assert (row["used"], row["peers"], row["state"]) == (1, ["127.0.0.1"], "good")


def test_its_state_is_told(site: ApiSite) -> None:
    found = json.loads(site.curl("/v1/health")[1])
    assert found["listeners"]["[api]"] == f"served at {site.url}" and found["warnings"] == []


def connected(site: ApiSite) -> ssl.SSLSocket:
    """A connection with a small window, whose other end's certificate is checked."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    raw.settimeout(60)
    raw.connect((site.address, site.port))
    return ssl.create_default_context(cafile=str(site.ca)).wrap_socket(raw, server_hostname="prov.example.test")


def fingerprint(site: ApiSite) -> str:
    with connected(site) as sock:
        return hashlib.sha256(sock.getpeercert(binary_form=True) or b"").hexdigest()


def test_a_certificate_is_replaced_under_a_running_download(tmp_path: Path) -> None:
    site = api_site(tmp_path)
    enlarge(site.state, size := 48 << 20)
    with serve(site.state) as served:
        served.wait_for(READY)
        first = fingerprint(site)
        with connected(site) as sock:
            sock.sendall(f"GET /v1/hosts/node1/iso HTTP/1.1\r\nHost: 127.0.0.1\r\n{site.header}\r\n\r\n".encode())
            received = bytearray(sock.recv(1000))
            assert received.startswith(b"HTTP/1.1 200")
            assert cli(site.state, "ca", "renew", "--name", "prov.example.test").code == 0
            served.wait_for("certificates for TLS read", 2)
            assert fingerprint(site) != first
            while len(received) - received.index(b"\r\n\r\n") - 4 < size:
                part = sock.recv(1 << 20)
                assert part, "the download was broken off"
                received += part
        _, body = site.curl("/v1/hosts/node1/iso", "--resolve", "x:1:127.0.0.1")
        assert body == b"", "the new certificate has no address"
        assert cli(site.state, "iso", "node1", "-o", tmp_path / "node1.iso").code == 0
        whole = (tmp_path / "node1.iso").read_bytes()
        assert hashlib.sha256(received[-size:]).digest() == hashlib.sha256(whole).digest()


def warned(site: ApiSite, served: Served, count: int) -> list[str]:
    """The warnings of `provision status`, when there are so many."""
    deadline = time.monotonic() + 60
    while len(found := cli(site.state, "status", "--json").json["warnings"]) != count:
        assert time.monotonic() < deadline, (found, served.log)
        time.sleep(0.1)
    return [str(one) for one in found]


def test_a_bad_pair_is_told_and_changes_nothing(tmp_path: Path) -> None:
    site = api_site(tmp_path)
    certificate = site.state / "tls" / "server.pem"
    good = certificate.read_bytes()
    with serve(site.state) as served:
        served.wait_for(READY)
        first = fingerprint(site)
        certificate.write_bytes(b"damaged")
        (warning,) = warned(site, served, 1)
        assert str(certificate) in warning and "is not a PEM certificate" in warning
        assert fingerprint(site) == first
        assert "is not a PEM certificate" in str(json.loads(site.curl("/v1/health")[1])["warnings"])
        certificate.write_bytes(good)
        assert warned(site, served, 0) == []
        assert served.log.count("the old certificate stays in use") == 1
        assert fingerprint(site) == first


def test_without_a_certificate_everything_else_is_served_until_there_is_one(tmp_path: Path) -> None:
    site = api_site(tmp_path, ca=False)
    with serve(site.state) as served:
        served.wait_for("there is no certificate")
        assert "cannot be read" in warned(site, served, 1)[0]
        argv = ("init", "--ca", "--name", "prov.example.test", "--address", "127.0.0.1")
        assert cli(site.state, *argv).code == 0
        served.wait_for(READY)
        assert site.curl("/v1/health", known=False)[0] == 401
        assert served.stop() == 0


def test_a_port_that_is_taken_is_tried_again(tmp_path: Path) -> None:
    site = api_site(tmp_path)
    with socket.create_server(("127.0.0.1", site.port)) as taken, serve(site.state) as served:
        served.wait_for("the port is taken")
        assert cli(site.state, "host", "list").code == 0
        taken.close()
        served.wait_for(READY)
        assert served.log.count("the port is taken") == 1
