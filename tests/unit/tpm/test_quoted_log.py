"""A log is what a quote confirms, for one nonce and one key; everything else is refused, by the rule that says why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provision.errors import Denied
from provision.tpm import event_log, quoted_log
from provision.tpm.quoted_log import Quotation, confirm
from tests.helpers.firmware_log import BOOT, LOG, enforced, event, header, log_of
from tests.helpers.quoting import attestation_key, quotation

NONCE, PCRS = b"nonce of now" * 2, (4, 7, 11)
EVENTS = event_log.parse(LOG, "log")
VALUES = {pcr: event_log.replay(EVENTS).get(pcr, bytes(32)) for pcr in PCRS}
GOOD = quotation(VALUES, NONCE)
_, KEY = attestation_key()


def refused(shown: Quotation, log: bytes = LOG, nonce: bytes = NONCE) -> tuple[str, str]:
    with pytest.raises(Denied) as denied:
        confirm(shown, KEY, nonce, log, PCRS, "n1")
    return denied.value.rule, denied.value.fact


def test_what_was_quoted_is_confirmed() -> None:
    found = confirm(GOOD, KEY, NONCE, LOG, PCRS, "n1")
    assert found.events == EVENTS and found.values == VALUES and found.values[11] == bytes(32)
    assert (found.quote.resets, found.quote.restarts) == (3, 0)


def test_a_quote_is_of_one_nonce_one_key_and_just_these_pcrs() -> None:
    other = {**VALUES, 7: bytes(32)}
    less = {pcr: VALUES[pcr] for pcr in (4, 7)}
    more = {**VALUES, 8: bytes(32)}
    assert refused(GOOD, nonce=b"another") == ("tpm-quote", "Its quote is not for the nonce that was sent")
    assert refused(quotation(VALUES, NONCE, number=8))[1] == "Its quote is not signed by the host's attestation key"
    assert refused(quotation(VALUES, NONCE, magic=0xFF544348))[1] == "Its quote is not a quote"
    assert "of other PCR values" in refused(replace(GOOD, values=other))[1]
    assert "of other PCRs than were asked for" in refused(replace(GOOD, values=less))[1]
    for values in (less, more):
        assert refused(quotation(values, NONCE)) == ("tpm-quote", "Its quote is not of the PCRs 4, 7, 11")
    flipped = bytearray(GOOD.message)
    flipped[-1] ^= 1
    assert refused(replace(GOOD, message=bytes(flipped)))[0] == "tpm-quote"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (b"", "log of what it measured is empty"),
        (LOG[:-3], "in the middle of an event"),
        (b"\x5a" * 5000, "in the middle of an event"),
        (header(), "does not give the quoted PCR 4, 7"),
        (log_of(BOOT[:-1]), "does not give the quoted PCR 4"),
        (LOG + event(11, 13, b"more"), "does not give the quoted PCR 11"),
        (log_of((*BOOT[1:2], BOOT[2], BOOT[3])[::-1]), "does not give the quoted PCR 7"),
        (log_of(enforced(b"certificate")), "does not give the quoted PCR 4, 7"),
    ],
)
def test_a_log_gives_what_was_quoted_or_is_none(log: bytes, said: str) -> None:
    rule, fact = refused(GOOD, log)
    assert rule == "tpm-log" and said in fact


def test_no_log_is_longer_than_this() -> None:
    assert len(LOG) < quoted_log.MOST < event_log.MOST
