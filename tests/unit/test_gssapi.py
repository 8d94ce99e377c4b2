"""The door to the Kerberos library, as far as it goes without a KDC."""

from __future__ import annotations

from ctypes import c_uint32
from pathlib import Path

import pytest

from provision import gssapi
from provision.errors import Unavailable
from provision.gssapi import Failure, Initiator, accept
from tests.helpers.tickets import write_keytab

SPNEGO = bytes.fromhex("06062b0601050502")


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"\x60",
        b"\x60\x84",
        b"\x60\xff" + SPNEGO,
        b"NTLMSSP\0\x01\0\0\0",
        b"\x60\x0a" + b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02",
        b"\xa1\x07" + SPNEGO,
        b"\x60\x20" + b"\0" * 4 + SPNEGO,
    ],
)
def test_what_is_not_spnego_is_not_given_to_the_library(token: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gssapi, "_library", lambda: pytest.fail("it was"))
    with pytest.raises(Failure, match="is not one of SPNEGO"):
        accept(token, Path("/nonexistent"), None, None)


@pytest.mark.parametrize(
    "rest", [b"", b"\xa0\x00", b"\xa0\x84\xff\xff\xff\xff", b"\0" * 1000, b"\xa0\x82\x01\x00" * 30]
)
def test_what_only_begins_like_it_is_refused(rest: bytes, tmp_path: Path) -> None:
    for head in (bytes([0x60, min(len(rest) + 8, 127)]), b"\x60\x82\xff\xff"):
        with pytest.raises(Failure):
            accept(head + SPNEGO + rest, write_keytab(tmp_path / "keytab"), tmp_path / "replays", None)


@pytest.mark.parametrize("said", ["", "Success", "Unknown error"])
def test_where_the_mechanism_says_nothing_the_library_does(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of tokens that were changed here and there: "refused: Success" would help no admin."""
    words = {gssapi._OF_MECHANISM: said, gssapi._OF_LIBRARY: "Unspecified GSS failure."}
    monkeypatch.setattr(gssapi, "_words", lambda _, kind: words[kind])
    with pytest.raises(Failure, match="Unspecified GSS failure"):
        gssapi._check(13 << 16, c_uint32(0))


def test_without_a_keytab_nobody_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(Failure):
        accept(b"\x60\x0a" + SPNEGO + b"\xa0\x00", tmp_path / "none", None, None)


def test_without_a_ticket_there_is_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path / 'none'}")
    with pytest.raises(Failure, match=r"cannot find mechanisms|No Kerberos credentials"):
        Initiator("localhost")


def test_a_machine_without_the_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gssapi, "LIBRARY", "libgssapi_of_nobody.so.2")
    gssapi._library.cache_clear()
    try:
        with pytest.raises(Unavailable, match=r"libgssapi_of_nobody.so.2: .* is not installed; .*libgssapi-krb5-2"):
            gssapi.require()
    finally:
        gssapi._library.cache_clear()
