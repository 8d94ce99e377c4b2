"""What the site signs for one request, as the host's own program reads it: the content of what one of the site's keys
has signed in this form, and nothing of anything else."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision.signed_file import encode
from tests.helpers.host_programs import load

load("libcrypto")
READER: Any = load("signed_file")

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
KEYS = [OTHER.public_key().public_bytes_raw(), KEY.public_key().public_bytes_raw()]
FORM, CONTENT = "provision-thing 1", b"host node7\n\n\0\n"
MADE = encode(FORM, CONTENT, KEY)
HEAD, SIGNATURE, _ = MADE.split(b"\n", 2)


def test_its_form_is_as_documented() -> None:
    KEY.public_key().verify(bytes.fromhex(SIGNATURE.decode()), b"provision-thing 1\n" + CONTENT)
    assert MADE == b"provision-thing 1\n" + SIGNATURE + b"\n" + CONTENT


def test_the_host_reads_what_one_of_its_sites_keys_has_signed() -> None:
    for keys in (KEYS, KEYS[1:]):
        assert READER.content(MADE, FORM, keys, "thing") == CONTENT
    assert READER.content(encode(FORM, b"", KEY), FORM, KEYS, "thing") == b""


@pytest.mark.parametrize(
    ("file", "keys", "why"),
    [
        (MADE, KEYS[:1], "the thing is not signed by this site"),
        (MADE, [], "the thing is not signed by this site"),
        (MADE[:-1] + b"x", KEYS, "the thing is not signed by this site"),
        (MADE + b"x", KEYS, "the thing is not signed by this site"),
        (b"\n".join((HEAD, KEY.sign(CONTENT).hex().encode(), CONTENT)), KEYS, "not signed by this site"),
        (b"\n".join((HEAD, KEY.sign(b"provision-other 1\n" + CONTENT).hex().encode(), CONTENT)), KEYS, "not signed"),
        (b"\n".join((HEAD, "é".encode(), CONTENT)), KEYS, "the thing is not signed by this site"),
        (b"provision-thing 1\nzz\n", KEYS, "the thing is not signed by this site"),
        (b"provision-thing 1", KEYS, "the thing is not signed by this site"),
        (encode("provision-thing 2", CONTENT, KEY), KEYS, "the thing is not one that this image knows"),
        (b"", KEYS, "the thing is not one that this image knows"),
    ],
)
def test_anything_else_is_refused(file: bytes, keys: list[bytes], why: str) -> None:
    with pytest.raises(READER.Refused, match=why):
        READER.content(file, FORM, keys, "thing")
