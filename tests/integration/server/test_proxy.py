"""The API behind a real nginx: who asks is whom the proxy names, and nobody else is believed."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import certificates
from tests.helpers.api_site import ApiSite, api_site, free_port
from tests.helpers.cli_runner import cli
from tests.helpers.documents import Document
from tests.helpers.serving import Served, serve
from tests.helpers.site_fixture import CANARY

CLIENT, OTHER = "127.0.0.7", "127.0.0.8"
"""Addresses of clients; all of 127.0.0.0/8 is this machine's."""
_OPENSSL = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=proxy -keyout {} -out {}"
_CONF = """\
worker_processes 1; daemon off; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {root}; proxy_temp_path {root}; fastcgi_temp_path {root};
  uwsgi_temp_path {root}; scgi_temp_path {root};
  ssl_certificate {root}/front.pem; ssl_certificate_key {root}/front.key;
  server {{ listen 127.0.0.1:{port} ssl; {location} }}
  server {{ listen 127.0.0.1:{plain}; {location} }}
}}
"""


@dataclass(frozen=True)
class Front:
    """nginx before the API: its port with TLS, one without, and where its files are."""

    site: ApiSite
    served: Served
    proxy_port: int
    port: int
    plain: int
    root: Path

    def curl(self, path: str, *arguments: str | Path, client: str = CLIENT, known: bool = True) -> tuple[int, bytes]:
        """Status and body of a request by way of nginx, from an address of the client's."""
        return curl(f"https://127.0.0.1:{self.port}{path}", "--interface", client, *self.header(known), *arguments)

    def straight(self, path: str, *arguments: str | Path) -> tuple[int, bytes]:
        """The same to the proxy's own door, without nginx."""
        return curl(f"https://127.0.0.1:{self.proxy_port}{path}", *self.header(True), *arguments)

    def header(self, known: bool) -> list[str]:
        return ["--header", self.site.header] if known else []

    @property
    def pair(self) -> list[str | Path]:
        """What nginx proves itself with."""
        return ["--cert", self.root / "proxy.pem", "--key", self.root / "proxy.key"]

    def audit(self, event: str) -> list[dict[str, Any]]:
        rows = cli(self.site.state, "audit", "--limit", "500", "--json").json
        return [row for row in rows if row["event"] == event]


def curl(url: str, *arguments: str | Path) -> tuple[int, bytes]:
    argv = ["curl", "--silent", "--insecure", "--max-time", "60", "--write-out", "\n%{http_code}"]
    ran = subprocess.run([*argv, *map(str, arguments), url], capture_output=True, timeout=90)
    body, _, status = ran.stdout.rpartition(b"\n")
    return int(status), body


def location(site: ApiSite, root: Path, port: int) -> str:
    """The documentation's own block, with this machine's ports and files."""
    (block,) = re.findall(r"```nginx\n(.*?)```", Document.read("docs/deployment.md").text, re.DOTALL)
    block = block.replace("https://10.20.0.1:8444", f"https://127.0.0.1:{port}").replace(
        "prov.example.net", "prov.example.test"
    )
    return str(block.replace("/etc/nginx/provision-ca.pem", str(site.ca)).replace("/etc/nginx", str(root)))


@contextmanager
def nginx(root: Path, conf: str, port: int) -> Iterator[None]:
    (root / "nginx.conf").write_text(conf)
    with subprocess.Popen(["nginx", "-p", str(root), "-c", str(root / "nginx.conf")]) as process:
        try:
            end = time.monotonic() + 30
            while curl(f"https://127.0.0.1:{port}/")[0] == 0:
                assert process.poll() is None and time.monotonic() < end, (root / "error.log").read_text()
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    root, ports = tmp_path_factory.mktemp("proxy"), [free_port() for _ in range(3)]
    for name in ("proxy", "stranger"):
        line = _OPENSSL.format(root / f"{name}.key", root / f"{name}.pem")
        subprocess.run(line.split(), check=True, capture_output=True, timeout=60)
    certificates.write_pair(root, certificates.server(), "front")
    site = api_site(tmp_path_factory.mktemp("site"))
    with (site.state / "provision.toml").open("a") as file:
        file.write(f'[api.proxy]\nport = {ports[0]}\naddresses = ["127.0.0.1"]\ncertificate = "{root}/proxy.pem"\n')
        file.write(f'public_name = "front.test"\npublic_port = {ports[1]}\n')
    conf = _CONF.format(root=root, port=ports[1], plain=ports[2], location=location(site, root, ports[0]))
    with serve(site.state) as served:
        served.wait_for("to its proxy")
        with nginx(root, conf, ports[1]):
            yield Front(site, served, ports[0], ports[1], ports[2], root)
        assert "internal error" not in served.log and "Traceback" not in served.log


def test_a_client_of_the_proxy_is_who_asks(front: Front) -> None:
    assert front.curl("/v1/principal")[0] == 200
    assert front.curl("/v1/health", known=False)[0] == 401
    assert front.audit("login-failed")[-1]["address"] == CLIENT
    health = json.loads(front.curl("/v1/health")[1])
    assert health["listeners"]["[api.proxy]"].startswith("served at https://127.0.0.1:")


def test_a_link_names_the_proxy_and_is_honoured_there(front: Front) -> None:
    made = cli(front.site.state, "link", "node1", "--address", CLIENT, "--json")
    assert made.code == 0, made.err
    url = made.json["urls"][0]
    assert url.startswith(f"https://front.test:{front.port}/b/") and len(url) <= 60
    name = ("--resolve", f"front.test:{front.port}:127.0.0.1", "--interface")
    assert curl(url, *name, OTHER)[0] == 404, "the link is for another client"
    assert curl(url, *name, CLIENT)[0] == 200
    assert curl(url.replace("front.test", "other.test"), "--resolve", f"other.test:{front.port}:127.0.0.1")[0] == 421


def test_the_limit_of_failed_logins_is_a_clients_own(front: Front) -> None:
    wrong = "Authorization: Bearer provision_" + "A" * 43
    statuses = {front.curl("/v1/health", "--header", wrong, client="127.0.0.9", known=False)[0] for _ in range(14)}
    assert statuses == {401, 429}
    assert front.curl("/v1/health", "--header", wrong, client="127.0.0.10", known=False)[0] == 401


@pytest.mark.parametrize(
    "forged",
    [
        ("X-Forwarded-For: 10.9.9.9",),
        ("X-Forwarded-For: 10.9.9.9", "X-Forwarded-For: 10.9.9.8"),
        ("Forwarded: for=10.9.9.9;proto=https", "X-Real-IP: 10.9.9.9"),
        ("X-Forwarded-Proto: http",),
        ("Connection: X-Forwarded-For, X-Forwarded-Proto",),
    ],
)
def test_a_header_that_a_client_forges_is_not_the_proxys(front: Front, forged: tuple[str, ...]) -> None:
    given = [word for line in forged for word in ("--header", line)]
    before = len(front.audit("login-failed"))
    assert front.curl("/v1/health", *given, known=False)[0] in (401, 429)
    entries = front.audit("login-failed")[max(0, before - 1) :]
    assert {entry["address"] for entry in entries} <= {CLIENT, "127.0.0.9", "127.0.0.10"}
    assert front.curl("/v1/health", *given)[0] == 200


def test_whoever_comes_to_the_proxy_without_tls_gets_nothing(front: Front) -> None:
    status, body = curl(f"http://127.0.0.1:{front.plain}/v1/hosts/node1/iso", *front.header(True))
    assert status == 400 and CANARY not in body and b"not that they speak TLS" in body


def test_nobody_else_uses_the_proxys_door(front: Front) -> None:
    says = ["--header", f"X-Forwarded-For: {CLIENT}", "--header", "X-Forwarded-Proto: https"]
    stranger: list[str | Path] = ["--cert", front.root / "stranger.pem", "--key", front.root / "stranger.key"]
    assert front.straight("/v1/health", *front.pair, *says)[0] == 200
    assert front.straight("/v1/health", *says) == front.straight("/v1/health", *stranger, *says) == (0, b"")
    status, body = front.straight("/v1/health", *front.pair, *says, "--interface", CLIENT)
    assert status == 403 and b"did not come from the proxy" in body
    for bad in ("unknown", "10.0.0.1, ", "10.0.0.1, x", "fe80::1%lo"):
        given = ["--header", f"X-Forwarded-For: {bad}", "--header", "X-Forwarded-Proto: https"]
        assert front.straight("/v1/health", *front.pair, *given)[0] == 400
    assert front.straight("/v1/health", *front.pair)[0] == 400


def test_what_the_proxys_key_has_signed_is_not_the_proxy(front: Front, tmp_path: Path) -> None:
    """`openssl req -x509` makes a CA."""
    key, request, made = tmp_path / "k", tmp_path / "r", tmp_path / "c.pem"
    new = f"openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=x -keyout {key} -out {request}"
    sign = f"openssl x509 -req -in {request} -CA {front.root}/proxy.pem -CAkey {front.root}/proxy.key -out {made}"
    for line in (new, f"{sign} -days 9"):
        subprocess.run(line.split(), check=True, capture_output=True, timeout=60)
    says = ["--header", f"X-Forwarded-For: {CLIENT}", "--header", "X-Forwarded-Proto: https"]
    assert front.straight("/v1/health", "--cert", made, "--key", key, *says)[0] == 403


def test_the_apis_own_port_believes_no_header_of_the_proxy_either(front: Front) -> None:
    says = ["--header", f"X-Forwarded-For: {OTHER}", "--header", "X-Forwarded-Proto: https"]
    before = len(front.audit("login-failed"))
    assert front.site.curl("/v1/health", *says, *front.pair, known=False)[0] in (401, 429)
    assert OTHER not in {entry["address"] for entry in front.audit("login-failed")[before:]}


def test_one_use_of_a_link_is_one_client_of_the_proxy(front: Front) -> None:
    made = cli(front.site.state, "link", "node1", "--medium", "iso", "--json").json
    path = "/b/" + made["urls"][0].rpartition("/")[2]
    status, whole = front.curl(path, known=False)
    assert status == 200 and CANARY in whole
    assert front.curl(path, "--range", "1000-1999", known=False) == (206, whole[1000:2000])
    assert front.curl(path, client=OTHER, known=False)[0] == 404
    assert front.curl(path, "--header", f"X-Forwarded-For: {CLIENT}", client=OTHER, known=False)[0] == 404
    (row,) = [row for row in cli(front.site.state, "link", "list", "--json").json if row["id"] == made["id"]]
    assert row["peers"] == [CLIENT]


def test_pages_and_uploads_go_through_it(front: Front, tmp_path: Path) -> None:
    assert b"Log in" in front.curl("/login", known=False)[1]
    (tmp_path / "part").write_bytes(bytes(3 << 20))
    assert front.curl("/v1/uploads", "--data-binary", f"@{tmp_path / 'part'}")[0] == 200


def test_a_new_certificate_of_the_proxy_is_taken_and_the_old_one_is_none(front: Front) -> None:
    says = ["--header", f"X-Forwarded-For: {CLIENT}", "--header", "X-Forwarded-Proto: https"]
    stranger: list[str | Path] = ["--cert", front.root / "stranger.pem", "--key", front.root / "stranger.key"]
    own = (front.root / "proxy.pem").read_bytes()
    (front.root / "proxy.pem").write_bytes((front.root / "stranger.pem").read_bytes())
    old: list[str | Path] = ["--cert", front.root / "old.pem", "--key", front.root / "proxy.key"]
    (front.root / "old.pem").write_bytes(own)
    end = time.monotonic() + 60
    while front.straight("/v1/health", *stranger, *says)[0] != 200:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert front.straight("/v1/health", *old, *says) == (0, b"")
