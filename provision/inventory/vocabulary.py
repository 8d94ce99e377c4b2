"""The words in which an inventory's mistakes are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from provision import model as types
from provision.host import Host, Interface
from provision.messages import Vocabulary
from provision.site import Site

_LABEL_WORDS = "lower-case letters, digits and '-', at most 63, with a letter or digit at both ends"
_WORDS: Mapping[str, str] = {
    get_args(alias)[1].pattern: words
    for alias, words in (
        (types.Name, f"a name has {_LABEL_WORDS}"),
        (types.Domain, "a DNS name has labels of lower-case letters, digits and '-' with dots between"),
        (types.Realm, "a realm has letters, digits, '.' and '-'"),
        (
            types.InterfaceName,
            "an interface name has at most 15 of a-z, 0-9 and '-', a letter first",
        ),
        (types.LabelKey, "a label's name has at most 63 of a-z, 0-9 and ._/-"),
        (types.LabelValue, "a label's value has at most 63 letters, digits and ._-"),
        (types.SrvName, "write a service as '_name._tcp' or '_name._udp'; the site's domain is added"),
        (types.SeedPath, "write a path below /etc with no spaces and no '..'"),
        (
            types.AccountName,
            "an account's name has at most 32 of a-z, 0-9, '_' and '-', no digit first; give no number",
        ),
        (types.FileMode, "write a mode as four octal digits, such as 0600"),
    )
}
_NO_SWITCH = "'active-backup' is the mode that needs nothing of the switch"
_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    # Bond modes by their numbers (Documentation/networking/bonding.rst), and by what switches call them.
    "active-backup": ("1", "failover"),
    "balance-xor": ("2", "xor"),
    "802.3ad": ("4", "lacp", "8023ad", "802.1ax"),
    "balance-tlb": ("5", "tlb"),
    "balance-alb": ("6", "alb"),
    "static": ("manual", "fixed"),
    "dhcp": ("auto", "dhcp4", "dhcpv4"),
    "management": ("mgmt", "oob"),
    "persistent": ("disk", "flash"),
    "none": ("diskless", "ram", "no"),
    "always": ("yes", "true", "on"),
    "never": ("no", "false", "off"),
}
_UNSUPPORTED: Mapping[str, str] = dict.fromkeys(("0", "balance-rr", "rr", "3", "broadcast"), _NO_SWITCH)
INVENTORY = Vocabulary(
    words=_WORDS,
    synonyms=_SYNONYMS,
    unsupported=_UNSUPPORTED,
    extra_keys={
        Host: ("groups",),
        Interface: ("mac",),
        Site: ("defaults", "groups", "ca_certificate_files"),
    },
    hidden_keys={Host: ("name",)},
    elsewhere="only a host names its groups",
)
