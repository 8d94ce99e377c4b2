"""What a machine has booted with: its firmware's log, once a quote has confirmed it. A log alone is a story."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from provision.errors import Denied, Invalid
from provision.tpm import event_log, quotes
from provision.tpm.event_log import Event
from provision.tpm.public import Public
from provision.tpm.quotes import Quote

MOST = 32 << 10
"""Bytes of a log; hosts leave out of it what is not looked at here."""
AGAIN = "Restart the host to begin again"


@dataclass(frozen=True)
class Quotation:
    """A quote as a host shows it: TPMS_ATTEST, TPMT_SIGNATURE, and the PCR values that go with them, by number."""

    message: bytes
    signature: bytes
    values: Mapping[int, bytes]


@dataclass(frozen=True)
class Confirmed:
    """What a TPM has signed, the PCR values by number, and the events that give them."""

    quote: Quote
    values: Mapping[int, bytes]
    events: tuple[Event, ...]


def confirm(shown: Quotation, key: Public, nonce: bytes, log: bytes, numbers: Sequence[int], host: str) -> Confirmed:
    """The log's events, when the key has signed for this nonce that these PCRs have the values that they give.

    Raises Denied by the rule `tpm-quote` or `tpm-log`.
    """
    try:
        quote = quotes.verify(shown.message, shown.signature, key, nonce, shown.values, host)
    except (Invalid, Denied) as error:
        raise Denied(host, f"Its quote {error.fact}", AGAIN, "tpm-quote") from None
    if tuple(sorted(shown.values)) != tuple(numbers):
        fact = f"Its quote is not of the PCRs {', '.join(map(str, numbers))}"
        raise Denied(host, fact, AGAIN, "tpm-quote")
    if not log:
        remedy = "Boot it by UEFI, with Secure Boot on or from a unified kernel"
        raise Denied(host, "Its firmware's log of what it measured is empty", remedy, "tpm-log")
    try:
        events = event_log.parse(log, host)
    except Invalid as error:
        raise Denied(host, f"Its firmware's log {error.fact}", error.remedy, "tpm-log") from None
    replayed = event_log.replay(events)
    if wrong := [number for number in numbers if replayed.get(number, bytes(32)) != shown.values[number]]:
        fact = f"Its firmware's log does not give the quoted PCR {', '.join(map(str, wrong))}"
        raise Denied(host, fact, AGAIN, "tpm-log")
    return Confirmed(quote, dict(shown.values), events)
