"""A host is declared compromised in the middle of what is being sent of it: no further byte goes, on any channel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.api.tokens import NewToken
from provision.boot import Medium
from provision.principal import PrincipalRole
from provision.web.links import LinkDownloads, over_tls
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_token
from tests.helpers.api_site import ApiSite, api_site, enlarge
from tests.helpers.cli_runner import cli
from tests.helpers.links import BMC, make
from tests.helpers.netns import isolated, lan
from tests.helpers.principals import ROOT
from tests.helpers.serving import serve
from tests.helpers.site_fixture import CANARY, INVENTORY, MAC1, Reply, Site, closed_site, request, site
from tests.helpers.wired import eventually

PEER = "192.0.2.7"
LARGE = 64 << 20


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def token(here: Site, role: PrincipalRole, **selector: str) -> dict[str, str]:
    """What the owner of a new token sends."""
    made = here.service.tokens.create(NewToken(name=str(role), role=role, selector=selector), ROOT)
    return {"authorization": f"Bearer {made.token}"}


def by_a_token(here: Site, **asked: Any) -> Reply:
    app = operator_app.create(here.service, by_token(here.service))
    headers = token(here, PrincipalRole.OPERATOR) | asked.pop("headers", {})
    return request(app, "GET", "/v1/hosts/node1/iso", headers=headers, peer=PEER, **asked)


def by_a_link(here: Site, **asked: Any) -> Reply:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it is no link")

    app = LinkDownloads(nothing, here.service, over_tls)
    return request(app, "GET", make(here).path, scheme="https", peer=BMC, **asked)


WAYS = {"a token": by_a_token, "a link": by_a_link}


@pytest.mark.parametrize("part", ["", "bytes=0-600000"])
@pytest.mark.parametrize("way", WAYS)
def test_no_further_byte_of_it_goes(here: Site, way: str, part: str) -> None:
    done: list[int] = []

    def declare() -> None:
        if not done:
            done.append(1)
            here.service.compromises.declare("node1", ROOT)

    reply = WAYS[way](here, headers={"range": part} if part else {}, on_body=declare)
    assert done and reply.status in (200, 206)
    assert reply.error is not None and len(reply.body) < 256 * 1024 and CANARY not in reply.body


@pytest.mark.parametrize("way", WAYS)
def test_what_was_begun_is_not_gone_on_with_when_all_is_replaced(here: Site, way: str) -> None:
    """The next content of a credential is not for who had begun to read with the one before."""

    def replace() -> None:
        if here.service.core.store.snapshot.compromised.get("node1") is None:
            here.service.compromises.declare("node1", ROOT)
            here.secret("node1", b"another-secret-of-node1")

    reply = WAYS[way](here, on_body=replace)
    assert reply.error is not None and CANARY not in reply.body and b"another-secret" not in reply.body


def test_only_an_admin_who_sees_the_host_may(here: Site) -> None:
    app = operator_app.create(here.service, by_token(here.service))
    refused = {
        ("reader", ()): 403,
        ("auditor", ()): 403,
        ("operator", ()): 403,
        ("operator", (("rack", "a"),)): 403,
        ("admin", (("rack", "z"),)): 404,
        ("admin", (("rack", "a"),)): 200,
    }
    for (role, selector), status in refused.items():
        headers = token(here, PrincipalRole(role), **dict(selector))
        reply = request(app, "POST", "/v1/hosts/node1/compromised", headers=headers, peer=PEER)
        assert reply.status == status, (role, selector, reply)
        assert bool(here.service.core.state("node1").exposed) is (status == 200)
        here.service.tokens.revoke(role, ROOT)
    unknown = request(app, "POST", "/v1/hosts/node9/compromised", headers=token(here, PrincipalRole.ADMIN), peer=PEER)
    assert unknown.status == 404


def test_an_attacker_with_the_same_content_again_gets_nothing(here: Site) -> None:
    """An admin seals what the host had, by a load of many and under another version: it stays exposed."""
    here.service.compromises.declare("node1", ROOT)
    for value in (CANARY, b"another-secret-of-node1", CANARY):
        here.secret("node1", value)
    with pytest.raises(Exception, match="others may have") as refused:
        here.service.media.plan("node1", Medium.ISO, ROOT)
    assert CANARY.decode() not in str(refused.value)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiSite]:
    made = api_site(tmp_path_factory.mktemp("compromised"), toml="")
    enlarge(made.state, LARGE)
    with serve(made.state) as server:
        server.wait_for("serving the operators")
        yield made


def test_a_download_over_tls_is_cut_off(served: ApiSite, tmp_path: Path) -> None:
    argv = ["curl", "--silent", "--cacert", str(served.ca), "--header", served.header, "--limit-rate", "2M"]
    with subprocess.Popen([*argv, f"{served.url}/v1/hosts/node1/iso"], stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        got = len(curl.stdout.read(512 * 1024))
        declared = cli(served.state, "host", "compromised", "node1", "--json")
        assert declared.code == 0 and declared.json["exposed"] == ["token"]
        got += len(curl.stdout.read())
        assert curl.wait(60) != 0, "it is told that this is not all"
    assert got < LARGE
    refused = cli(served.state, "iso", "node1", "-o", str(tmp_path / "x.iso"))
    assert refused.code != 0 and "others may have its credential 'token'" in refused.err


TOML = '[[listen]]\nnetwork = "mgmt"\ninterface = "eth1"\nhttp_port = 8080\ntftp_port = 6969\n'
SLOW = """\
import socket, sys
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
sock.connect(("10.0.0.1", 8080))
sock.sendall(b"GET %s HTTP/1.1\\r\\nHost: 10.0.0.1\\r\\n\\r\\n" % sys.argv[1].encode())
got = sock.recv(512)
print(got.split(b"\\r\\n")[0].decode(), flush=True)
sys.stdin.readline()
try:
    while more := sock.recv(65536):
        got += more
    print("closed")
except ConnectionResetError:
    print("reset")
print(got.hex())
"""
"""A machine that takes no more of its seed than fits into a small buffer, until it is told to go on."""
MANY = [f"token{number:02}" for number in range(12)]
LARGE_SEED = INVENTORY.replace("credentials: [token]", f"credentials: [token, {', '.join(MANY)}]", 1).replace(
    "    token: {kind: token, path: /etc/token}\n",
    "".join(f"    {name}: {{kind: token, path: /etc/{name}}}\n" for name in ("token", *MANY)),
)
"""node1's seed is far larger than what a small buffer takes."""


def window_of(state: Path) -> dict[str, Any]:
    """node1's window, as its status has it."""
    (row,) = [row for row in cli(state, "status", "--json").json["hosts"] if row["host"] == "node1"]
    found: dict[str, Any] = row["window"]
    return found


@isolated
@pytest.mark.parametrize("path", ["/boot/seed/current/seed.cpio", "/http-boot/boot.iso"])
def test_a_host_that_boots_hears_no_further_byte(tmp_path: Path, path: str) -> None:
    state = closed_site(tmp_path, LARGE_SEED, TOML)
    for name in MANY:
        (tmp_path / "load" / "node1").mkdir(parents=True, exist_ok=True)
        (tmp_path / "load" / "node1" / name).write_bytes(b"x" * 4000 + CANARY)
    assert cli(state, "credential", "load", str(tmp_path / "load")).code == 0
    with lan("eth1", "10.0.0.1/24", "10.0.0.11/24", MAC1) as host, serve(state) as served:
        served.wait_for("serving network 'mgmt'")
        assert cli(state, "window", "node1").code == 0
        argv = host.argv(sys.executable, "-c", SLOW, path)
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as slow:
            assert slow.stdin is not None and slow.stdout is not None
            assert slow.stdout.readline() == "HTTP/1.1 200 OK\n"
            if path.startswith("/boot/seed"):
                # Before a seed is charged, it is the charge that is refused; here it is to be under way.
                eventually(lambda: window_of(state)["used"] == 1, 60)
            assert cli(state, "host", "compromised", "node1").code == 0
            served.wait_for("node1: the revision that this boot began with is withdrawn")
            slow.stdin.write("\n")
            slow.stdin.flush()
            how, got = slow.stdout.read().split()
        assert how == "reset" and bytes.fromhex(got).count(CANARY) < len(MANY) / 2
        assert CANARY.decode() not in host.sh(f"curl -s http://10.0.0.1:8080{path} | tr -c '[:print:]' '\\n'")
