"""Who stands in a server's place, or reads what an operator keeps of it: no token is told, and no answer believed."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.cli import download, servers
from provision.cli.servers import Address, Login
from provision.errors import Exit
from provision.secret import Secret
from tests.helpers.authority import Authority, Pair
from tests.helpers.cli_runner import Ran, run
from tests.integration.attacks.fake_service import Behaviour, answer, endless, fake_tls, value

CANARY = f"provision_canary{'x' * 37}"
PINNED, OTHER, EXPIRED = Authority(), Authority(), Authority(days=(-9, -1))
WHO: dict[str, Any] = {
    "name": "token:laptop",
    "role": "operator",
    "authentication": "token",
    "selector": {},
    "expires": None,
}


@pytest.fixture(autouse=True)
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(download, "PAUSES", (0.0,) * 3)
    return tmp_path


def enter(port: int, ca: Authority = PINNED, host: str = "127.0.0.1") -> str:
    """Be logged in to that server by that CA; its URL."""
    address = Address(host, port)
    servers.save(Login(address, ca.pem.decode(), Secret(CANARY.encode())))
    return address.url


def refused(url: str, *command: str, **options: Any) -> Ran:
    ran = run("--server", url, *command, **options)
    for text in (ran.out, ran.err):
        assert CANARY not in text and "Traceback" not in text and "internal error" not in text, text
        assert [c for c in text if not c.isprintable() and c != "\n"] == []
    assert ran.code not in (Exit.OK, Exit.FAILED), ran
    assert len(ran.err.splitlines()) == 1, ran.err
    return ran


IMPOSTORS: dict[str, tuple[Pair, str]] = {
    "another CA of the same name": (
        OTHER.issue("127.0.0.1"),
        "its certificate was not issued by a CA that you trust for it",
    ),
    "another host of the same CA": (PINNED.issue("127.0.0.2", "other.test"), "its certificate is for other names"),
    "a name instead of the address": (PINNED.issue("localhost"), "its certificate is for other names"),
    "expired": (PINNED.issue("127.0.0.1", days=(-9, -1)), "its certificate or its CA's has expired"),
    "not valid yet": (PINNED.issue("127.0.0.1", days=(1, 9)), "its certificate or its CA's is not valid yet"),
    "the pinned CA, shown beside another's leaf": (
        Pair(OTHER.issue("127.0.0.1", shows_ca=False).chain + PINNED.pem, b""),
        "its certificate was not issued by a CA that you trust for it",
    ),
}


def impostor(name: str) -> Pair:
    pair = IMPOSTORS[name][0]
    if pair.key:
        return pair
    leaf = OTHER.issue("127.0.0.1", shows_ca=False)
    return Pair(leaf.chain + PINNED.pem, leaf.key)


@pytest.mark.parametrize("name", IMPOSTORS)
def test_no_impostor_hears_the_token(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_tls(impostor(name).context(tmp_path), value(WHO)) as (server, port):
        url = enter(port)
        assert f"{url}: {IMPOSTORS[name][1]}; " in refused(url, "host", "list").err
        assert f"{url}: {IMPOSTORS[name][1]}; " in refused(url, "login", stdin=CANARY.encode()).err
        # The system's CAs are nothing to a server whose CA is pinned.
        monkeypatch.setenv("SSL_CERT_FILE", str(OTHER.file(tmp_path)))
        refused(url, "host", "list")
        assert server.heads == []


def test_a_ca_that_has_expired_vouches_for_nobody(tmp_path: Path) -> None:
    with fake_tls(EXPIRED.issue("127.0.0.1").context(tmp_path), value(WHO)) as (server, port):
        url = enter(port, EXPIRED)
        assert "its certificate or its CA's has expired" in refused(url, "host", "list").err
        assert server.heads == []


def test_a_certificate_that_is_swapped_after_the_login_is_refused(tmp_path: Path) -> None:
    context = PINNED.issue("127.0.0.1").context(tmp_path)
    with fake_tls(context, value(WHO)) as (server, port):
        url = f"https://127.0.0.1:{port}"
        ran = run("--server", url, "login", "--fingerprint", PINNED.fingerprint, stdin=CANARY.encode())
        assert ran.code == 0, ran
        # One that has signed itself, with the name of the CA and of the host.
        context.load_cert_chain(*Authority("127.0.0.1").issue("127.0.0.1").write(tmp_path, "swapped"))
        heard = len(server.heads)
        ran = refused(url, "host", "list")
        assert "log in with its CA by --ca if that was replaced; if not, somebody else answers in its place" in ran.err
        assert len(server.heads) == heard
        # It renews its own certificate, and nobody has to do anything.
        context.load_cert_chain(*PINNED.issue("127.0.0.1").write(tmp_path, "renewed"))
        assert run("--server", url, "login", stdin=CANARY.encode()).code == 0


def test_nobody_talks_to_it_by_an_older_tls(tmp_path: Path) -> None:
    context = PINNED.issue("127.0.0.1").context(tmp_path)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with fake_tls(context, value(WHO)) as (server, port):
        url = enter(port)
        assert f"{url}: TLS 1.2 or newer fails there (" in refused(url, "host", "list").err
        for how in (("--ca", "ca.pem"), ("--fingerprint", PINNED.fingerprint), ()):
            PINNED.file(tmp_path)
            refused(url, "login", *how, stdin=CANARY.encode())
        assert server.heads == []


def test_a_name_that_stands_in_the_subject_alone_is_none(tmp_path: Path) -> None:
    with fake_tls(PINNED.issue("localhost", named=False).context(tmp_path), value(WHO)) as (server, port):
        url = enter(port, host="localhost")
        assert "its certificate is for other names" in refused(url, "host", "list").err
        assert server.heads == []


def test_by_tls_1_3_alone_the_ca_comes_from_elsewhere(tmp_path: Path) -> None:
    context = PINNED.issue("127.0.0.1").context(tmp_path)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with fake_tls(context, value(WHO)) as (_, port):
        url = f"https://127.0.0.1:{port}"
        for how in ((), ("--fingerprint", PINNED.fingerprint)):
            ran = refused(url, "login", *how, stdin=CANARY.encode())
            assert "it does not show its certificates over TLS 1.2; check the port; or use --ca" in ran.err
        assert run("--server", url, "login", "--ca", PINNED.file(tmp_path), stdin=CANARY.encode()).code == 0


def redirect(target: str, status: int) -> Behaviour:
    return lambda method, path: [answer(b"", status=f"{status} x", Location=target)]


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    context = PINNED.issue("127.0.0.1").context(tmp_path)
    with fake_tls(context, value([])) as (elsewhere, port):
        target = f"{enter(port)}/v1/hosts"
        for status in (301, 302, 307, 308):
            with fake_tls(context, redirect(target, status)) as (_, first):
                url = enter(first)
                refused(url, "host", "list")
                refused(url, "login", stdin=CANARY.encode())
        assert elsewhere.heads == []


def test_the_token_is_in_a_header_alone(tmp_path: Path) -> None:
    with fake_tls(PINNED.issue("127.0.0.1").context(tmp_path), value([])) as (server, port):
        assert run("--server", enter(port), "host", "list").code == 0
    (head,) = server.heads
    told = [line for line in head.decode().split("\r\n") if CANARY in line]
    assert told == [f"Authorization: Bearer {CANARY}"] or told == [f"authorization: Bearer {CANARY}"]


GARBAGE: dict[str, Behaviour] = {
    "nothing": lambda method, path: [],
    "no HTTP": lambda method, path: [b"SSH-2.0-OpenSSH_9.2p1\r\n"],
    "no JSON": lambda method, path: [answer(b"\xff\x1b[2J")],
    "of another kind": lambda method, path: [answer(b"<html>", "text/html")],
    "half of a header": lambda method, path: [b"HTTP/1.1 200 OK\r\nContent-Type: appl"],
    "endless": endless(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n", b"[" * (1 << 16)),
    "an endless header": lambda method, path: [b"HTTP/1.1 200 OK\r\n", *[b"a: " + b"b" * 60_000 + b"\r\n"] * 64],
    "deep": lambda method, path: [answer(b"[" * 5000 + b"]" * 5000)],
    "compressed": lambda method, path: [answer(b"\x1f\x8b", Content_Encoding="gzip")],
    "a member that acts on the terminal": value(WHO | {"role": ["\x1b[2J"]}),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_refused(tmp_path: Path, name: str) -> None:
    with fake_tls(PINNED.issue("127.0.0.1").context(tmp_path), GARBAGE[name]) as (_, port):
        url = enter(port)
        before = (tmp_path / "config/provision/servers.json").read_bytes()
        refused(url, "host", "list")
        refused(url, "host", "list", "--ansible")
        refused(url, "login", stdin=CANARY.encode().upper().replace(b"PROVISION", b"provision"))
        assert (tmp_path / "config/provision/servers.json").read_bytes() == before


def test_what_is_printed_of_a_login_does_not_act_on_the_terminal(tmp_path: Path) -> None:
    odd = WHO | {"name": "a\x1b[2J\nb", "expires": "\u202e", "selector": {"rack": "7"}}
    with fake_tls(PINNED.issue("127.0.0.1").context(tmp_path), value(odd)) as (_, port):
        ran = run("--server", enter(port), "login", stdin=CANARY.encode())
        told = "logged in as a?[2J b, role operator, for hosts with rack=7, until ?"
        assert (ran.code, ran.out) == (0, f"https://127.0.0.1:{port}: {told}\n")


def test_a_port_that_speaks_no_tls(tmp_path: Path) -> None:
    def speak(listener: socket.socket) -> None:
        for greeting in (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"\x16\x03\x03\xff\xff" + b"x" * 9,
            b"",
            b"\x16" * 99,
        ) * 3:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=speak, args=(listener,), daemon=True)
        thread.start()
        url = enter(listener.getsockname()[1])
        for _ in range(4):
            refused(url, "host", "list")
            refused(url, "login", "--fingerprint", "a" * 64, stdin=CANARY.encode())
            refused(url, "login", "--ca", str(PINNED.file(tmp_path)), stdin=CANARY.encode())
        thread.join(30)
    refused(url, "host", "list")
    refused(url, "login", "--fingerprint", "a" * 64, stdin=CANARY.encode())


def test_nobody_else_reads_or_writes_the_logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = enter(1)
    kept = tmp_path / "config" / "provision" / "servers.json"
    for path, mode in ((kept, 0o604), (kept, 0o640), (kept, 0o620), (kept.parent, 0o770), (kept.parent, 0o705)):
        right = path.stat().st_mode & 0o777
        path.chmod(mode)
        for command in (("host", "list"), ("logout",), ("login",)):
            assert refused(url, *command, stdin=CANARY.encode()).code == Exit.DENIED
        assert f"is open to other users (mode {mode:04o}); run 'chmod {right:o} {path}'" in refused(url, "status").err
        path.chmod(right)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert "belongs to the user 0, and you are 12345" in refused(url, "status").err


def test_a_process_list_shows_no_token(tmp_path: Path) -> None:
    asked, go = threading.Event(), threading.Event()

    def behave(method: str, path: str) -> Iterator[bytes]:
        asked.set()
        go.wait(60)
        yield answer(b"[]")

    with fake_tls(PINNED.issue("127.0.0.1").context(tmp_path), behave) as (_, port):
        argv = [sys.executable, "-m", "provision", "--server", enter(port), "host", "list"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert asked.wait(60)
            seen = [Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("cmdline", "environ", "comm")]
            go.set()
            out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert seen[0] and all(CANARY.encode() not in text for text in (*seen, out))
