"""The wire format of TFTP."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.tftp import packet
from provision.tftp.packet import Code, Op, Request, Terms, TftpError


def rrq(name: bytes, *options: bytes, mode: bytes = b"octet") -> bytes:
    return b"\0\1" + b"\0".join([name, mode, *options]) + b"\0"


def test_a_request_as_ovmf_sends_it() -> None:
    data = rrq(b"shimx64.efi", b"tsize", b"0", b"BLKSIZE", b"1468", b"windowsize", b"4")
    options = {"tsize": "0", "blksize": "1468", "windowsize": "4"}
    assert packet.parse_request(data) == Request(Op.RRQ, b"shimx64.efi", "octet", options)
    terms = packet.negotiate(options, 946736, 1500)
    assert terms == Terms(1468, 4, 1.0, (("tsize", "946736"), ("blksize", "1468"), ("windowsize", "4")))
    assert packet.oack(terms.acknowledged) == b"\0\6tsize\x00946736\0blksize\x001468\0windowsize\x004\0"


def test_an_option_said_twice_counts_once() -> None:
    assert packet.parse_request(rrq(b"f", b"blksize", b"9", b"blksize", b"10")).options == {"blksize": "9"}


@pytest.mark.parametrize(
    ("options", "block", "window", "timeout", "acknowledged"),
    [
        ({}, 512, 1, 1.0, {}),
        ({"blksize": "8"}, 8, 1, 1.0, {"blksize": "8"}),
        ({"blksize": "7"}, 512, 1, 1.0, {}),
        ({"blksize": "65464"}, 1468, 1, 1.0, {"blksize": "1468"}),
        ({"blksize": "65465"}, 512, 1, 1.0, {}),
        ({"blksize": "-1", "tsize": "x", "windowsize": "0", "timeout": "0"}, 512, 1, 1.0, {}),
        ({"windowsize": "65535"}, 512, 64, 1.0, {"windowsize": "64"}),
        ({"timeout": "3"}, 512, 1, 3.0, {"timeout": "3"}),
        ({"timeout": "255"}, 512, 1, 1.0, {}),
        ({"multicast": "", "rollover": "0"}, 512, 1, 1.0, {}),
        ({"blksize": "²", "tsize": "9" * 400}, 512, 1, 1.0, {}),
    ],
)
def test_negotiate(
    options: dict[str, str], block: int, window: int, timeout: float, acknowledged: dict[str, str]
) -> None:
    assert packet.negotiate(options, 99, 1500) == Terms(block, window, timeout, tuple(acknowledged.items()))


def test_a_tiny_mtu_still_gives_the_standard_block() -> None:
    assert packet.negotiate({"blksize": "1468"}, 1, 576).block == 544
    assert packet.negotiate({"blksize": "1468"}, 1, 68).block == 512


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"grubx64.efi", "grubx64.efi"),
        (b"//grubx64.efi", "grubx64.efi"),
        (b"/grub//x86_64-efi/./net.lst", "grub/x86_64-efi/net.lst"),
        (b"\\EFI\\BOOT\\grubx64.efi", "EFI/BOOT/grubx64.efi"),
        (b"a" * 255, "a" * 255),
    ],
)
def test_clean_name(name: bytes, path: str) -> None:
    assert packet.clean_name(name) == path


@pytest.mark.parametrize(
    "name", [b"", b"/", b"..", b"a/../b", b"..\\b", b"/.", b"a\nb", b"a\x7f", b"\xc3\xa4", b"a" * 256]
)
def test_names_that_are_refused(name: bytes) -> None:
    with pytest.raises(TftpError) as caught:
        packet.clean_name(name)
    assert caught.value.code is Code.ACCESS


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\0", b"\0\1", b"\0\1a", b"\0\1a\0", b"\0\1a\0octet", b"\0\1a\0octet\0x\0"),
        *(b"\1\1a\0octet\0", b"\0\3a\0octet\0", rrq(b"a" * 600)),
    ],
)
def test_what_is_no_request(data: bytes) -> None:
    with pytest.raises(TftpError):
        packet.parse_request(data)


def test_an_error_is_one_line_of_ascii() -> None:
    assert packet.error(Code.ACCESS, "no\n\0wäy") == b"\0\5\0\2no??w?y\0"
    assert len(packet.error(Code.UNDEFINED, "x" * 900)) == 205


@given(st.one_of(st.binary(max_size=700), st.binary(max_size=510).map(lambda b: b"\0\1" + b)))
def test_any_bytes_are_a_clean_request_or_a_tftp_error(data: bytes) -> None:
    try:
        request = packet.parse_request(data)
        path = packet.clean_name(request.name)
    except TftpError:
        return
    assert path
    assert ".." not in path.split("/")
    assert path.isprintable()
    terms = packet.negotiate(request.options, 2**40, 1500)
    assert 8 <= terms.block <= 1468
    assert 1 <= terms.window <= packet.MAX_WINDOW
    packet.oack(terms.acknowledged)
