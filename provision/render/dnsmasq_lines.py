"""Which dnsmasq configurations are ours: every line of one is looked at, and what was never rendered is refused.

The command line reads configurations from the service's socket and hands them to root's dnsmasq, which knows directives
that run programs and read or write files. So the reader trusts none: the grammar here has the directives of the
template, with values that can only be what they are there for.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from provision import boot_paths
from provision.boot_paths import BootIso, UnifiedKernel
from provision.errors import Invalid

MAX_LINE = 1000
"""Bytes of a line. dnsmasq takes 1024 at a time, and what stands behind them for another line."""
MAX_BYTES = 16 << 20

_BYTE = "(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_IP = rf"(?:{_BYTE}\.){{3}}{_BYTE}"
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_NAME = rf"{_LABEL}(?:\.{_LABEL})*\.(?![0-9]+$){_LABEL}"
_MAC = "[0-9a-f]{2}(?::[0-9a-f]{2}){5}"
_URL = rf"http://{_IP}(?::[0-9]{{1,5}})?"
_NET = rf"net-{_LABEL}"
_INTERFACE = "[A-Za-z0-9][A-Za-z0-9_.@:-]{0,14}"

_HEAD = (
    "port=0",
    "bind-dynamic",
    "except-interface=lo",
    "no-hosts",
    "no-resolv",
    "dhcp-authoritative",
    rf"domain={_DOMAIN}",
    "dhcp-leasefile=/var/lib/provision-dhcp/leases",
    "dhcp-lease-max=[0-9]{1,9}",
    "dhcp-match=set:arch-bios,option:client-arch,0",
    "dhcp-match=set:arch-efi,option:client-arch,7",
    "dhcp-match=set:arch-efi,option:client-arch,9",
    "dhcp-match=set:arch-http,option:client-arch,16",
)
"""What every configuration begins with: without it dnsmasq would do more than DHCP, on more interfaces."""

_NETWORK = (
    rf"interface={_INTERFACE}",
    rf"dhcp-range=set:{_NET},{_IP},(?:{_IP}|static),{_IP},12h",
    rf"dhcp-option=tag:{_NET},option:(?:router|dns-server|ntp-server)(?:,{_IP})*",
    rf"dhcp-boot=tag:{_NET},tag:arch-bios,lpxelinux\.0,,{_IP}",
    rf"dhcp-option-force=tag:{_NET},tag:arch-bios,210,{_URL}{re.escape(boot_paths.PXE)}",
    rf"dhcp-option-force=tag:{_NET},tag:arch-bios,211,5i",
    rf"dhcp-boot=tag:{_NET},tag:arch-efi,shimx64\.efi,,{_IP}",
    rf"dhcp-option-force=tag:{_NET},tag:arch-http,60,HTTPClient",
    rf"dhcp-boot=tag:{_NET},tag:arch-http(?:,tag:!uki)?,{_URL}{re.escape(boot_paths.http(BootIso()))},,{_IP}",
    rf"dhcp-boot=tag:{_NET},tag:arch-http,tag:uki,{_URL}{re.escape(boot_paths.http(UnifiedKernel()))},,{_IP}",
    rf"dhcp-host={_MAC}(?:,{_MAC})*(?:,set:uki)?(?:,{_IP})?,{_NAME}",
)

_HEAD_LINES = tuple(map(re.compile, _HEAD))
_LINE = re.compile("|".join(f"(?:{line})" for line in _NETWORK))
_SERVED = re.compile(rf"interface=({_INTERFACE})")
_COMMENT = re.compile("#[ -~]*")


def require(text: str, interfaces: Collection[str] | None) -> None:
    """Raise Invalid, naming the line and nothing of it, when `text` is not what this release renders.

    `interfaces` are those of the settings: DHCP is served on no other, and on one at least. None when the settings are
    elsewhere.
    """
    if len(text) > MAX_BYTES or not text.endswith("\n"):
        raise _foreign(0)
    head, served = list(_HEAD_LINES), 0
    # Not splitlines(): it knows line ends that dnsmasq does not.
    for number, line in enumerate(text[:-1].split("\n"), start=1):
        if not line or (_COMMENT.fullmatch(line) and len(line) <= MAX_LINE):
            continue
        expected = head.pop(0) if head else _LINE
        if len(line) > MAX_LINE or not expected.fullmatch(line):
            raise _foreign(number)
        if found := _SERVED.fullmatch(line):
            served += 1
            if interfaces is not None and found[1] not in interfaces:
                raise _foreign(number)
    if head or not served:
        raise _foreign(0)


def _foreign(number: int) -> Invalid:
    where = f"line {number}" if number else "the whole"
    fact = f"{where} of what the service gave is not a DHCP configuration that this release makes for these settings"
    return Invalid("dnsmasq", fact, "restart the service after an upgrade or new settings; else find out who answers")
