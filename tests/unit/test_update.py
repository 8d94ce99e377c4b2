"""Descriptions of updates, as the host's own program reads them: everything that is not the site's, for this host and
this request is refused in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision.host import Reboot
from provision.update import Update, UpdateFile, encode
from tests.helpers.host_programs import load

load("libcrypto")
load("signed_file")
READER: Any = load("update_description")

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
KEYS = [OTHER.public_key().public_bytes_raw(), KEY.public_key().public_bytes_raw()]
NONCE = "0f" * 16
UPDATE = Update(
    host="node7",
    site="example.test",
    version="ab" * 32,
    sequence=17,
    attempt=2,
    nonce=NONCE,
    reboot=Reboot.WHEN_EMPTY,
    arguments='console=ttyS0 a="b c"',
    kernel=UpdateFile(4096, "01" * 32),
    initrds=(UpdateFile(512, "02" * 32), UpdateFile(1024, "03" * 32)),
)
MADE = encode(UPDATE, KEY)


def read(file: bytes, keys: list[bytes] = KEYS, host: str = "node7", nonce: str = NONCE) -> Any:
    return READER.read(file, keys, host, "example.test", nonce)


def test_the_host_reads_what_the_site_has_signed_for_it() -> None:
    for keys in (KEYS, KEYS[1:]):
        found = read(MADE, keys)
        assert (found.version, found.sequence, found.attempt) == (UPDATE.version, 17, 2)
        assert (found.reboot, found.arguments) == ("when-empty", UPDATE.arguments)
        files = [(one.name, one.size, one.sha256) for one in (found.kernel, *found.initrds)]
        assert files == [
            ("kernel", 4096, "01" * 32),
            ("initrd/0", 512, "02" * 32),
            ("initrd/1", 1024, "03" * 32),
        ]


@pytest.mark.parametrize(
    ("file", "keys", "host", "nonce", "why"),
    [
        (MADE, KEYS[:1], "node7", NONCE, "not signed by this site"),
        (MADE, KEYS, "node8", NONCE, "another host's"),
        (encode(replace(UPDATE, site="other.test"), KEY), KEYS, "node7", NONCE, "another host's"),
        (MADE, KEYS, "node7", "00" * 16, "made for an earlier request"),
        (encode(replace(UPDATE, initrds=()), KEY), KEYS, "node7", NONCE, "does not say what it is"),
        (encode(replace(UPDATE, arguments="two\nlines"), KEY), KEYS, "node7", NONCE, "does not say what it is"),
        (MADE.replace(b"update 1", b"update 2"), KEYS, "node7", NONCE, "not one that this image knows"),
    ],
)
def test_anything_else_is_refused(file: bytes, keys: list[bytes], host: str, nonce: str, why: str) -> None:
    with pytest.raises(READER.Refused, match=why):
        read(file, keys, host, nonce)
