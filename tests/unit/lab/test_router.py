"""Router advertisements."""

from __future__ import annotations

from provision.lab import router


def test_a_router_advertisement_has_a_sound_checksum_and_lifetime_zero() -> None:
    sent = router.advertisement()
    header, body = sent[14:54], sent[54:]
    assert router.checksum(header[8:24], header[24:40], body) == 0
    assert body[0] == 134 and body[6:8] == b"\0\0"
    assert not router.is_solicitation(sent)
    assert router.is_solicitation(sent[:54] + b"\x85" + sent[55:])
