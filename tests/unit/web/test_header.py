"""A header leaves with the first bytes of its body, and never without or behind them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from provision.web.header import HeldHeader

STATUS = b"HTTP/1.1 200 OK\r\n"
KNOWN = STATUS + b"content-length: 2\r\n\r\n"
SENT = STATUS + b"Content-Length: 2\r\n\r\n"


class Transport:
    """Keeps what was written, one item for each call of the kernel."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        assert not self.closing
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def get_extra_info(self, name: str) -> str:
        return name


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def cycle(transport: Transport) -> Any:
    found = SimpleNamespace()
    found.transport = HeldHeader(found, transport)  # type: ignore[arg-type]
    return found


def test_header_and_body_are_one_write(cycle: Any, transport: Transport) -> None:
    cycle.transport.write(KNOWN)
    assert transport.written == []
    cycle.transport.write(b"h")
    assert transport.written == [SENT + b"h"] and cycle.transport is transport
    cycle.transport.write(b"i")
    assert transport.written == [SENT + b"h", b"i"]


def test_a_header_is_written_before_what_goes_past_it(cycle: Any, transport: Transport) -> None:
    header = cycle.transport
    header.write(KNOWN)
    header.flush()
    assert transport.written == [SENT] and cycle.transport is transport
    header.flush()
    assert transport.written == [SENT]


def test_a_body_without_a_length_is_not_waited_for(cycle: Any, transport: Transport) -> None:
    chunked = STATUS + b"transfer-encoding: chunked\r\n\r\n"
    cycle.transport.write(chunked)
    assert transport.written == [chunked] and cycle.transport is transport


def test_a_request_to_continue_is_no_header(cycle: Any, transport: Transport) -> None:
    cycle.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    cycle.transport.write(KNOWN)
    cycle.transport.write(b"hi")
    assert transport.written == [b"HTTP/1.1 100 Continue\r\n\r\n", SENT + b"hi"]


def test_an_answer_that_has_no_body_is_written_at_its_end(cycle: Any, transport: Transport) -> None:
    cycle.transport.write(KNOWN)
    cycle.transport.close()
    assert transport.written == [SENT] and transport.closing


def test_nothing_is_written_to_a_peer_that_has_left(cycle: Any, transport: Transport) -> None:
    cycle.transport.write(KNOWN)
    transport.closing = True
    cycle.transport.write(b"hi")
    assert transport.written == []


def test_everything_else_is_the_transports(cycle: Any) -> None:
    assert cycle.transport.get_extra_info("socket") == "socket"
