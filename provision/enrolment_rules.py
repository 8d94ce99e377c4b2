"""Whether a machine may show its TPM, and whether that is believed to be the host's; pure.

A genuine TPM is not yet the host's TPM: whoever is on the LAN may have one of his own, with its maker's certificate.
So a certificate counts only from a machine that has answered on a management network, where MACs are relied on anyway;
elsewhere somebody has to compare the fingerprint, now or, by a vendor's list, beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass

from provision.boot import Channel, ChannelKind, Requester
from provision.denial import Denial
from provision.enrolled_tpm import EnrolledTpm, EnrolmentWindow


@dataclass(frozen=True)
class Shown:
    """What a machine has proved: the fingerprint of its endorsement key, and the maker's certificate in words; "" with
    the reason of `doubt` when there is none that counts."""

    fingerprint: str
    certificate: str
    doubt: str


@dataclass(frozen=True)
class Verdict:
    """How a TPM is known to be the host's; "" with the reason of `doubt` when somebody has to look."""

    known: str
    doubt: str = ""


def may_show(
    host: str | None, channel: Channel, requester: Requester, window: EnrolmentWindow | None, own: EnrolledTpm | None
) -> Denial | None:
    """Why the machine may not show its TPM. `host` is whose MAC it has by the kernel's word, `window` is open, and
    `own` is enrolled."""
    asks = str(requester.address)
    if requester.local:
        return Denial("local-peer", asks, "The request comes from an address of this server", "Let the host itself ask")
    if requester.address is None or channel.prefix is None or requester.address not in channel.prefix:
        fact = f"{asks} is not inside {channel.prefix}, the prefix of network '{channel.network}'"
        return Denial("off-prefix", asks, fact, "Enrol the host without a router in between")
    if requester.mac is None:
        fact = f"{asks} has no neighbour entry on {channel.interface}"
        return Denial("no-neighbour", asks, fact, "Put the host on the same L2 segment as this server")
    if host is None:
        fact = f"No host with the address {requester.mac} is in the inventory"
        return Denial("unknown-host", requester.mac, fact, "Add its MAC to a host and run 'provision apply'")
    if own is not None:
        fact = f"A TPM is enrolled for {host} already"
        return Denial("tpm-enrolled", host, fact, f"If it was replaced, run 'provision tpm remove {host}' first")
    if window is None:
        return Denial(
            "enrolment-closed", host, f"{host} has no open enrolment window", f"Run 'provision enroll {host}'"
        )
    return None


def judge(host: str, channel: Channel, requester: Requester, imported: str | None, shown: Shown) -> Verdict | Denial:
    """Whose the TPM is that was shown. `imported` is the fingerprint that a list has given for the host."""
    if imported is not None:
        if imported == shown.fingerprint:
            return Verdict("imported")
        fact = f"This is not the TPM that was imported for {host}"
        remedy = f"Look who has its address; if the TPM was replaced, run 'provision tpm remove {host} --imported'"
        return Denial("tpm-other", host, fact, remedy)
    if not shown.certificate:
        return Verdict("", shown.doubt)
    if channel.kind is not ChannelKind.MANAGEMENT:
        return Verdict("", f"network '{channel.network}' is general: anybody there may have a TPM with a certificate")
    if requester.confirmed is not True:
        return Verdict("", f"{requester.mac} did not answer by ARP that it has {requester.address}")
    return Verdict(f"certificate {shown.certificate}")
