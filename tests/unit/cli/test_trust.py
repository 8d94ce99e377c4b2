"""What a server must prove, and what is said when it does not."""

from __future__ import annotations

import ssl

import pytest

from provision.cli import trust
from provision.cli.servers import Address
from provision.errors import Invalid, Unavailable
from tests.helpers.authority import Authority

URL = "https://a.test:8443"


def test_a_pinned_ca_is_the_only_one() -> None:
    context = trust.context_of(Authority("of a test").pem.decode())
    assert [one["subject"] for one in context.get_ca_certs()] == [((("commonName", "of a test"),),)]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert not context.hostname_checks_common_name


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ä"])
def test_what_is_no_certificate_pins_nothing(text: str) -> None:
    with pytest.raises(Invalid, match="CA: is not a PEM certificate; "):
        trust.context_of(text)


def caused_by(error: BaseException) -> OSError:
    outer = OSError("something else")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    "error",
    [
        ssl.SSLEOFError(8, "EOF"),
        ssl.SSLZeroReturnError(6, "x"),
        ssl.SSLSyscallError(5, "x"),
        ssl.SSLError(5, "[SSL: UNEXPECTED_EOF_WHILE_READING] unexpected eof while reading"),
        ConnectionResetError(),
    ],
)
def test_a_connection_that_was_cut_says_nothing_of_the_server(error: OSError) -> None:
    assert trust.refusal(URL, caused_by(error)) is None


def test_other_errors_of_tls_are_told_with_their_reason() -> None:
    told = trust.refusal(URL, caused_by(ssl.SSLError(1, "[SSL: X] x")))
    assert isinstance(told, Unavailable)
    assert str(told) == f"{URL}: TLS 1.2 or newer fails there (SSLError); check the port, and what stands between"


def test_nobody_is_there() -> None:
    with pytest.raises(Unavailable, match=r"https://127.0.0.1:1: does not answer \(Connection refused\); "):
        trust.require(Address("127.0.0.1", 1), None)


def test_why_a_connection_failed_is_said_in_the_systems_words() -> None:
    assert trust.reason_of(caused_by(ConnectionRefusedError(111, "Connection refused"))) == "Connection refused"
    assert trust.reason_of(TimeoutError()) == "TimeoutError"
