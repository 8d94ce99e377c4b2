"""The hash that is signed in a PE image is the one that is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.errors import Invalid
from provision.media.authenticode import digest

SHIM = Path("/usr/lib/shim/shimx64.efi.signed")
SIGNED = [SHIM, *sorted(Path("/usr/lib/grub/x86_64-efi-signed").glob("*.efi.signed"))]


@pytest.mark.parametrize("file", SIGNED, ids=lambda path: path.name)
def test_it_is_the_digest_inside_of_the_signature(file: Path) -> None:
    image = file.read_bytes()
    assert digest(image, file.name) in image


def test_what_is_signed_counts_and_nothing_else() -> None:
    image = bytearray(SHIM.read_bytes())
    before = digest(bytes(image), "shim")
    at = int.from_bytes(image[0x3C:0x40], "little")
    image[at + 24 + 64] ^= 1
    assert digest(bytes(image), "shim") == before, "the checksum"
    image[-1] ^= 1
    assert digest(bytes(image), "shim") == before, "the signature"
    image[0x2000] ^= 1
    assert digest(bytes(image), "shim") != before


@pytest.mark.parametrize("size", [0, 0x40, 0x90, 0x200, 0x5000])
def test_a_piece_of_an_image_is_refused(size: int) -> None:
    with pytest.raises(Invalid, match=r"^shim: is not a whole PE image"):
        digest(SHIM.read_bytes()[:size], "shim")


def test_a_section_that_goes_beyond_the_end_is_refused() -> None:
    image = bytearray(SHIM.read_bytes())
    at = int.from_bytes(image[0x3C:0x40], "little")
    table = at + 24 + int.from_bytes(image[at + 20 : at + 22], "little")
    image[table + 16 : table + 20] = b"\xff\xff\xff\x7f"
    with pytest.raises(Invalid):
        digest(bytes(image), "shim")
