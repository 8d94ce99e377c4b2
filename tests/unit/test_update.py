"""Descriptions of updates, as the host's own program reads them: everything that is not the site's, for this host and
this request is refused in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision.host import Reboot
from provision.update import KernelFiles, SlotFile, Update, UpdateFile, encode
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
    content=KernelFiles(
        'console=ttyS0 a="b c"',
        UpdateFile(4096, "01" * 32),
        (UpdateFile(512, "02" * 32), UpdateFile(1024, "03" * 32)),
    ),
)
MADE = encode(UPDATE, KEY)
SIGNED = replace(UPDATE, content=SlotFile(UpdateFile(8192, "04" * 32)))


def of_grub(**changes: Any) -> bytes:
    assert isinstance(UPDATE.content, KernelFiles)
    return encode(replace(UPDATE, content=replace(UPDATE.content, **changes)), KEY)


def read(file: bytes, keys: list[bytes] = KEYS, host: str = "node7", nonce: str = NONCE) -> Any:
    return READER.read(file, keys, host, "example.test", nonce)


def test_the_host_reads_what_the_site_has_signed_for_it() -> None:
    for keys in (KEYS, KEYS[1:]):
        found = read(MADE, keys)
        assert (found.version, found.sequence, found.attempt) == (UPDATE.version, 17, 2)
        assert (found.reboot, found.arguments) == ("when-empty", 'console=ttyS0 a="b c"')
        files = {name: [(one.name, one.size, one.sha256) for one in each] for name, each in found.files.items()}
        assert files == {
            "kernel": [("kernel", 4096, "01" * 32)],
            "initrd": [("initrd/0", 512, "02" * 32), ("initrd/1", 1024, "03" * 32)],
        }


def test_so_it_does_with_what_firmware_starts() -> None:
    found = read(encode(SIGNED, KEY))
    assert (found.version, found.sequence, found.attempt, found.reboot) == (UPDATE.version, 17, 2, "when-empty")
    assert found.arguments is None and [*found.files] == ["slot"]
    ((one,),) = found.files.values()
    assert (one.name, one.size, one.sha256) == ("slot", 8192, "04" * 32)


@pytest.mark.parametrize(
    ("file", "keys", "host", "nonce", "why"),
    [
        (MADE, KEYS[:1], "node7", NONCE, "not signed by this site"),
        (MADE, KEYS, "node8", NONCE, "another host's"),
        (encode(replace(UPDATE, site="other.test"), KEY), KEYS, "node7", NONCE, "another host's"),
        (MADE, KEYS, "node7", "00" * 16, "made for an earlier request"),
        (of_grub(initrds=()), KEYS, "node7", NONCE, "does not say what it is"),
        (of_grub(arguments="two\nlines"), KEYS, "node7", NONCE, "does not say what it is"),
        (encode(SIGNED, KEY).replace(b"\nslot 8192", b"\nslot 8193"), KEYS, "node7", NONCE, "not signed by this site"),
        (MADE.replace(b"update 1", b"update 2"), KEYS, "node7", NONCE, "not one that this image knows"),
    ],
)
def test_anything_else_is_refused(file: bytes, keys: list[bytes], host: str, nonce: str, why: str) -> None:
    with pytest.raises(READER.Refused, match=why):
        read(file, keys, host, nonce)
