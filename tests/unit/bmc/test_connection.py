"""A BMC is an untrusted peer: it gets the password when it is known only, and can neither hold nor fill anybody."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from provision.bmc import connection as connections
from provision.bmc.access import Pin, parse
from provision.bmc.connection import Connection, Refused
from provision.errors import Unavailable
from provision.secret import Secret
from tests.helpers.redfish import PASSWORD, USER, Asked, Bmc, certificate, fingerprint, served

ROOT = "/redfish/v1"


@pytest.fixture
def bmc() -> Iterator[Bmc]:
    with served() as there:
        yield there


def to(bmc: Bmc, **fields: Any) -> Connection:
    return Connection("node1", bmc.access(**fields), seconds=5.0)


def failure(connection: Connection, path: str = ROOT) -> str:
    with pytest.raises(Unavailable) as told:
        connection.request("GET", path)
    text = str(told.value)
    assert PASSWORD not in text and "\x1b" not in text and "\n" not in text and "text of" not in text
    return text


def test_an_answer_with_its_tag(bmc: Bmc) -> None:
    reply = to(bmc).request("GET", ROOT)
    assert reply.body["Vendor"] == "Contoso" and reply.etag and PASSWORD not in repr(reply)


# Known by its certificate


def test_its_ca_lets_it_in(bmc: Bmc) -> None:
    assert to(bmc, pin=Pin(certificate()[0])).request("GET", ROOT).status == 200


@pytest.mark.parametrize("pin", [Pin(), Pin(certificate("other")[0]), Pin(fingerprint="ab" * 32)])
def test_another_gets_no_password(bmc: Bmc, pin: Pin) -> None:
    text = failure(to(bmc, pin=pin))
    assert "certificate" in text and "provision bmc set" in text
    assert bmc.asked == [], "nothing was sent"


def test_an_expired_one_is_known_by_its_fingerprint() -> None:
    old = certificate("old", days=-1)
    with served(names=old) as bmc:
        assert "expired" in failure(to(bmc, pin=Pin(old[0])))
        assert bmc.asked == []
        assert to(bmc, pin=Pin(fingerprint=fingerprint(old[0]))).request("GET", ROOT).status == 200


# What it answers


def spoil(bmc: Bmc, status: int, data: bytes = b"{}", **headers: str) -> None:
    bmc.spoils = lambda asked, handler: (status, headers, data)


@pytest.mark.parametrize("data", [b"[]", b"1", b"\xff", b"{" * 9000, b"[" * 200_000, b"<html>", b'{"a":'])
def test_garbage(bmc: Bmc, data: bytes) -> None:
    spoil(bmc, 200, data)
    assert "not a JSON object" in failure(to(bmc))


def test_a_redirect_is_not_followed(bmc: Bmc) -> None:
    spoil(bmc, 302, Location=f"{bmc.url}/redfish/v1/Systems")
    assert "redirect (302), which is not followed" in failure(to(bmc))
    assert len(bmc.asked) == 1


def test_errors_have_the_id_of_a_message_at_most(bmc: Bmc) -> None:
    assert "answered 404 (Base.1.8.ResourceMissingAtURI)" in failure(to(bmc), f"{ROOT}/nothing")
    for told in ("x" * 1000, "a\x1b[31mb.c", {"a": 1}, None, "Base 1", PASSWORD):
        spoil(bmc, 500, json.dumps({"error": {"@Message.ExtendedInfo": [{"MessageId": told}]}}).encode())
        assert "answered 500;" in failure(to(bmc))
    bodies: list[Any] = [{"error": []}, {"error": {"@Message.ExtendedInfo": {}}}, [], {"error": {"code": "A.1.0.B"}}]
    for body in bodies:
        spoil(bmc, 500, json.dumps(body).encode())
        failure(to(bmc))


@pytest.mark.parametrize("told", ["Base.1.8.{}", "{}.1", "Base.x{}", "{}"])
@pytest.mark.parametrize("password", ["opensesame", "Open.Sesame.1"])
def test_an_id_that_repeats_what_was_sent_is_none(bmc: Bmc, told: str, password: str) -> None:
    """A password and the secret of a link have the form of words of an id."""
    secret = "abcdefghijklmnopqrstuvwxyz"
    connection = to(bmc, password=password)
    for word in (password, secret):
        spoil(bmc, 500, json.dumps({"error": {"code": told.format(word)}}).encode())
        with pytest.raises(Refused) as caught:
            connection.request("POST", f"{ROOT}/x", {"Image": f"https://10.0.0.1/b/{secret}.iso"})
        assert caught.value.message == "" and word not in str(caught.value)


def test_a_wrong_password(bmc: Bmc) -> None:
    with pytest.raises(Refused, match="does not let this user do that") as told:
        to(bmc, password="wrong").request("GET", ROOT)
    assert told.value.answered == 401


def test_a_body_without_an_end(bmc: Bmc) -> None:
    def endless(asked: Asked, handler: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            handler.wfile.write(b"10000\r\n" + b" " * 65536 + b"\r\n")

    bmc.spoils = endless
    assert "does not end" in failure(to(bmc))


@pytest.mark.parametrize("piece", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n"])
def test_what_comes_slowly_is_cut_off(bmc: Bmc, piece: bytes) -> None:
    """Each byte comes long before any limit of a single read is over."""
    gone = threading.Event()

    def slowly(asked: Asked, handler: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        handler.wfile.write(piece)
        while not gone.wait(0.1):
            handler.wfile.write(b"x" if piece[:2] != b"HT" else piece if b"100" in piece else b"y")
        return 0, {}, b""

    bmc.spoils = slowly
    try:
        assert "no whole answer in 1 seconds" in failure(Connection("node1", bmc.access(), seconds=1.0))
    finally:
        gone.set()


def test_requests_are_bounded(bmc: Bmc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_REQUESTS", 3)
    connection = to(bmc)
    for _ in range(3):
        connection.request("GET", ROOT)
    assert "more than 3 requests" in failure(connection)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/redfish",
        "https://elsewhere.test/redfish/v1",
        "//elsewhere.test/redfish/v1",
        "/redfish/v1/../../admin",
        "/redfish/v1/..",
        "/redfish/v1/x?y",
        "/redfish/v1/x y",
        "/redfish/v1/x\r\nHost: elsewhere",
        "/redfish/v1/" + "x" * 500,
    ],
)
def test_what_a_bmc_calls_a_path(bmc: Bmc, path: str) -> None:
    assert "not a path" in failure(to(bmc), path)
    assert bmc.asked == []


# What is no BMC


@contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """A server that answers this without TLS, or nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                if answer is not None:
                    peer.sendall(answer)
                peer.recv(65536)
                done.wait()

        done = threading.Event()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            done.set()
            thread.join()


def somewhere(port: int) -> Connection:
    url = f"https://127.0.0.1:{port}"
    return Connection("node1", parse(url, USER, Secret(PASSWORD.encode()), Pin(fingerprint="ab" * 32)), seconds=1.0)


def test_no_tls() -> None:
    with listening(b"HTTP/1.1 200 OK\r\n\r\n") as port:
        assert "does not speak TLS" in failure(somewhere(port))


def test_silence() -> None:
    with listening(None) as port:
        assert "no whole answer in 1 seconds" in failure(somewhere(port))


def test_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "cannot be reached (Connection refused)" in failure(somewhere(port))


def test_no_http(bmc: Bmc) -> None:
    def garbage(asked: Asked, handler: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        handler.wfile.write(b"\0\1garbage\r\n\r\n")
        return 0, {}, b""

    bmc.spoils = garbage
    assert "not HTTP" in failure(to(bmc))
