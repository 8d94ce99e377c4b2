"""What somebody on the LAN answers to the host's programs: slow, endless, cut off, or nonsense."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.host_programs import load

PROGRAM: Any = load("answers")
FETCH: Any = load("fetch-seed")
ENROLL: Any = load("enroll")
ENVELOPE: Any = load("open-envelope")

Serve = Callable[[socket.socket], None]


@contextmanager
def answering(serve: Serve) -> Iterator[str]:
    """The URL of somebody who takes each connection, hears a request, and does as `serve` says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        ended = threading.Event()

        def run() -> None:
            while not ended.is_set():
                try:
                    peer, _ = listener.accept()
                except TimeoutError:
                    continue
                with peer:
                    try:
                        peer.recv(65536)
                        serve(peer)
                    except OSError:
                        pass

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join(30)


def ask(server: str, most: int = 1000, seconds: int = 1) -> tuple[int, bytes]:
    status, content = PROGRAM.ask(server, "GET", "/", most=most, silence=1, seconds=seconds)
    return status, content


def sends(content: bytes) -> Serve:
    return lambda peer: peer.sendall(content)


def drips(head: bytes, drop: bytes) -> Serve:
    """A little now and then, and for longer than anybody waits."""

    def serve(peer: socket.socket) -> None:
        peer.sendall(head)
        last = time.monotonic() + 20
        while time.monotonic() < last:
            peer.sendall(drop)
            time.sleep(0.2)

    return serve


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
)
def test_an_answer_that_does_not_end_is_none(head: bytes, drop: bytes) -> None:
    """A byte now and then is never silence; the host would not start as long as that goes on."""
    with answering(drips(head, drop)) as server:
        begun = time.monotonic()
        with pytest.raises(OSError, match=r"does not end|no HTTP"):
            ask(server)
        assert time.monotonic() - begun < 10


def test_who_asks_for_a_tpm_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    for program in (ENROLL, ENVELOPE):
        monkeypatch.setattr(program, "_SECONDS", 1)
    with answering(drips(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b"x")) as server:
        with pytest.raises(OSError, match="does not end"):
            ENROLL.post(server, "/enroll/begin", {})
        with pytest.raises(OSError, match="does not end"):
            ENVELOPE._ask(f"{server}/envelope", "GET", None)


@pytest.mark.parametrize(
    ("answer", "words"), [(b"[" * 60000, "it answered 403"), (b'{"detail": "\\u001b[2J no"}', r"\?\[2J no")]
)
def test_what_refuses_an_enrolment_is_one_line(answer: bytes, words: str) -> None:
    head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(answer)
    with answering(sends(head + answer)) as server, pytest.raises(ENROLL.Refused, match=words):
        ENROLL.post(server, "/enroll/begin", {})


def test_a_large_one_is_not_read_to_its_end() -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    with answering(sends(head + bytes(1001))) as server, pytest.raises(OSError, match="more than"):
        ask(server)
    with answering(sends(head + bytes(1000))) as server:
        assert ask(server) == (200, bytes(1000))


_LINES = st.sampled_from(
    (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 9 \r\n", b"HTTP/9 200\r\n", b"Content-Length: -1\r\n", b"Content-Length: x\r\n",
     b"Transfer-Encoding: chunked\r\n", b"-1\r\n", b"ffffffffffffffff\r\n", b"\r\n", b"\xff\xfe: \x00\r\n")
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(st.one_of(_LINES, st.binary(max_size=64)), max_size=12))
def test_nonsense_is_one_kind_of_error(parts: list[bytes]) -> None:
    """Any other would end the program, and with it its patience."""
    with answering(sends(b"".join(parts))) as server:
        try:
            status, content = ask(server)
        except OSError:
            return
    assert isinstance(status, int) and len(content) <= 1000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 10**6,
        *(b'{"detail": ' + one for one in (b"[" * 10**6, b"9" * 10**5 + b"}")),
    ],
)
def test_a_reason_that_cannot_be_read_has_other_words(content: bytes) -> None:
    assert PROGRAM.detail(content, "it says no") == "it says no"


def test_a_reason_cannot_act_on_a_console() -> None:
    said = PROGRAM.detail(json.dumps({"detail": "\x1b[2J\r\nlogin: \x9b" + "x" * 1000}).encode(), "")
    assert said.startswith("?[2J??login: ?xx") and len(said) == 600


def test_a_host_asks_on_whatever_it_is_answered() -> None:
    """One answer of somebody on the LAN would have left it without an identity."""
    said: list[str] = []
    no = b"HTTP/1.1 403 Forbidden\r\n\r\n" + b"[" * 10**6
    with answering(sends(no)) as server:
        assert FETCH.fetch([server], [], list, said.append, patience=1, pause=0.1) is None
    assert said == [f"provision-seed: {server}: it does not answer as a provisioning server"]
