"""Signed seeds, as the host's own program reads them: everything that is not the site's, for this machine and this
request is refused in words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision import signed_seed
from provision.seed import File, Seed, archive
from tests.helpers.host_programs import load

load("libcrypto")
load("placing")
load("signed_file")
READER: Any = load("signed_seed")

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
KEYS = [OTHER.public_key().public_bytes_raw(), KEY.public_key().public_bytes_raw()]
REVISION, NONCE, MAC = "ab" * 32, "0f" * 16, "52:54:00:00:00:07"


def seed(about: dict[str, Any]) -> Seed:
    return Seed(REVISION, archive("node7", REVISION, {"/etc/provision/host.json": File(json.dumps(about).encode())}))


OWN = seed({"host": "node7", "interfaces": {"mgmt": {"macs": [MAC]}}})


def test_the_host_takes_what_its_site_has_signed_for_it() -> None:
    made = signed_seed.encode("node7", OWN, 7, NONCE, KEY)
    assert READER.archive(made, KEYS, NONCE, ["52:54:00:00:00:01", MAC]) == OWN.data
    assert READER.archive(made, KEYS[1:], NONCE, [MAC]) == OWN.data


@pytest.mark.parametrize(
    ("file", "keys", "nonce", "macs", "why"),
    [
        (signed_seed.encode("node7", OWN, 7, NONCE, KEY), KEYS[:1], NONCE, [MAC], "not signed by this site"),
        (signed_seed.encode("node7", OWN, 7, "00" * 16, KEY), KEYS, NONCE, [MAC], "made for an earlier request"),
        (signed_seed.encode("node7", OWN, 7, NONCE, KEY), KEYS, NONCE, ["52:54:00:00:00:01"], "the seed is node7's"),
        (signed_seed.encode("node7", seed({}), 7, NONCE, KEY), KEYS, NONCE, [MAC], "does not say whose it is"),
        (signed_seed.encode("node7", Seed(REVISION, b"x"), 7, NONCE, KEY), KEYS, NONCE, [MAC], "does not say whose"),
        (signed_seed.encode("NODE7", OWN, 7, NONCE, KEY), KEYS, NONCE, [MAC], "does not say what it is"),
        (OWN.data, KEYS, NONCE, [MAC], "not one that this image knows"),
    ],
)
def test_anything_else_is_refused(file: bytes, keys: list[bytes], nonce: str, macs: list[str], why: str) -> None:
    with pytest.raises(READER.Refused, match=why):
        READER.archive(file, keys, nonce, macs)
