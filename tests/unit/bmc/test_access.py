"""What is told of a BMC is held to what can be one, and shows no password."""

from __future__ import annotations

import pytest

from provision.bmc.access import Pin, normalize, parse
from provision.errors import Invalid
from provision.secret import Secret
from tests.helpers.redfish import PASSWORD, certificate, fingerprint

WORD = Secret(PASSWORD.encode())


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://10.0.0.201", "10.0.0.201", 443),
        ("https://bmc-1.example.test:8443/", "bmc-1.example.test", 8443),
        ("https://[fd00::1]:444", "[fd00::1]", 444),
        ("https://[fd00::1]", "[fd00::1]", 443),
    ],
)
def test_an_address_and_a_port(url: str, host: str, port: int) -> None:
    access = parse(url, "root", WORD, Pin())
    assert (access.host, access.port) == (host, port)
    assert access.url == url.rstrip("/")
    assert PASSWORD not in repr(access)


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.201",
        "https://root:secret@10.0.0.201",
        "https://10.0.0.201/redfish",
        "https://10.0.0.201?x=1",
        "https://10.0.0.201#x",
        "https://10.0.0.201:99999",
        "https://10.0.0.201:x",
        "https://",
        "https://a b",
        "https://a\r\nb",
        "https://[fd00::1",
        "10.0.0.201",
        "",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as told:
        parse(url, "root", WORD, Pin())
    assert told.value.subject == "url" and "secret" not in str(told.value)


@pytest.mark.parametrize("user", ["", "a:b", "a b", "a\n", "ä", "x" * 65])
def test_a_user_that_no_header_takes(user: str) -> None:
    with pytest.raises(Invalid, match="user name"):
        parse("https://b", user, WORD, Pin())


@pytest.mark.parametrize("word", [b"", b"a\nb", b"a\0", b"x" * 257])
def test_a_password_that_no_header_takes(word: bytes) -> None:
    with pytest.raises(Invalid, match="password"):
        parse("https://b", "root", Secret(word), Pin())


def test_a_fingerprint_in_its_spellings() -> None:
    plain = fingerprint(certificate()[0])
    colons = ":".join(plain[i : i + 2] for i in range(0, 64, 2)).upper()
    for text in (plain, colons, f"sha256:{plain}", f"SHA256={colons}", f"sha256 {plain}"):
        assert normalize(text) == plain
    for text in ("", "abcd", plain + "0", plain.replace(plain[0], "g")):
        with pytest.raises(Invalid, match="SHA-256"):
            normalize(text)


def test_one_pin() -> None:
    pem = certificate()[0]
    with pytest.raises(Invalid, match="one of them"):
        parse("https://b", "root", WORD, Pin(pem, fingerprint(pem)))
    with pytest.raises(Invalid, match="PEM"):
        parse("https://b", "root", WORD, Pin("nonsense"))
    with pytest.raises(Invalid, match="Redfish id"):
        parse("https://b", "root", WORD, Pin(), "a/b")
    shown = [str(parse("https://b", "root", WORD, pin).pin) for pin in (Pin(), Pin(pem), Pin("", fingerprint(pem)))]
    assert shown == ["the system's CAs", "its own CA", f"sha256 {fingerprint(pem)}"]
