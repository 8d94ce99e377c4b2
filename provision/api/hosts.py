"""Hosts: in short, whole, and their windows."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from provision.api.inventory import Changes
from provision.api.wire import Answer, Count, Line, Request, Time, examples
from provision.host import Addressing, Host, Install, Netboot, Storage
from provision.model import ContentId, InterfaceName, LabelKey, LabelValue, Mac, Name, NicAddress


class HostRow(Answer):
    """A host in short."""

    model_config = examples(
        {
            "name": "node1",
            "macs": ["52:54:00:00:00:01"],
            "install": "it",
            "addressing": "static",
            "storage": "persistent",
            "netboot": "window",
            "labels": {"rack": "a"},
        }
    )

    name: Name
    macs: tuple[Mac, ...]
    install: Install
    addressing: Addressing | None
    storage: Storage
    netboot: Netboot
    labels: dict[LabelKey, LabelValue]


class StoredIdentity(Answer):
    """The identity that a host last said it has on its own disk: its seed's revision, which versions of its credentials
    are in it, and since when. `current`: the server would give the same seed now. `wiping`: the host is told to wipe it
    as soon as it says something. `sealed`: it is an envelope, so that only ciphertext is there."""

    revision: ContentId
    credentials: dict[Name, Count]
    reported: Time
    current: bool
    wiping: bool
    sealed: bool = False


class FailedVersion(Answer):
    """A base image that a host has run and not kept: its id, its name when it still has one, and why. It is not tried
    again unless it is being `retried`."""

    version: ContentId
    image: Line | None
    reason: Line
    at: Time
    retried: bool


class HostSlots(Answer):
    """What a host last said of the two slots on its disk: the one that it is `running`, the one that is its `default`,
    and the ids of the base images in `a` and `b`; `image` is the name of what runs. `doing` is what becomes of an
    update to `version`: `idle`, `fetching`, `waiting` (until it may reboot), `rebooting`, `trying`, `refused` or
    `failed`, for a `reason`."""

    model_config = examples(
        {
            "running": "a",
            "default": "a",
            "a": "d" * 64,
            "b": "e" * 64,
            "image": "debian-12",
            "doing": "failed",
            "version": "e" * 64,
            "reason": "libvirt does not answer",
            "reported": "2026-03-01T12:00:00+00:00",
            "failed": [
                {
                    "version": "e" * 64,
                    "image": "debian-13",
                    "reason": "libvirt does not answer",
                    "at": "2026-03-01T12:00:00+00:00",
                    "retried": False,
                }
            ],
        }
    )

    running: Line
    default: Line
    a: ContentId | None
    b: ContentId | None
    image: Line | None
    doing: Line
    version: ContentId | None
    reason: Line | None
    reported: Time
    failed: tuple[FailedVersion, ...]


class HostDetail(Host):
    """One host, whole, with its revision, what its image lacks, identity and slots on its disk, and whether a TPM of it
    is enrolled or may be. `base` is the image that it boots: that of a roll-out, its own, or the site's."""

    model_config = examples(
        {
            "name": "node1",
            "interfaces": {
                "mgmt": {
                    "macs": ["52:54:00:00:00:01"],
                    "network": "mgmt",
                    "addressing": "static",
                    "ipv4": "10.0.0.11",
                }
            },
            "credentials": ["token"],
            "labels": {"rack": "a"},
            "revision": "b" * 64,
            "missing": ["its credential 'token'"],
            "tpm_standing": "none",
        }
    )

    host_revision: ContentId = Field(alias="revision")
    missing: tuple[Line, ...]
    tpm_standing: Line = "none"
    stored: StoredIdentity | None = None
    slots: HostSlots | None = None


class Decommission(Request):
    """`lost`: the host cannot say any more that it has wiped its identity, so its credentials are exposed."""

    model_config = examples({"lost": False})

    lost: bool = False


class Decommissioned(Answer):
    """What is to become of the identity on a host's disk: `wiping` when the host does that at its next word. `sealed`:
    only ciphertext is there, which the host's own TPM opens."""

    model_config = examples({"host": "node1", "wiping": True, "sealed": False})

    host: Name
    wiping: bool
    sealed: bool = False


class Compromised(Answer):
    """What ended when a host was declared compromised: the credentials that are `exposed` until each has new content;
    whether a window was open; how many links, and which tokens, are revoked; how many boots by its BMC were cancelled;
    whether it had a `tpm`, which is to be enrolled anew; whether what it said it has on its disk is `sealed`: only
    ciphertext, which that TPM opens.
    """

    model_config = examples(
        {
            "host": "node1",
            "exposed": ["token"],
            "window": True,
            "links": 1,
            "tokens": ["rack-7"],
            "boots": 0,
            "tpm": False,
            "sealed": False,
        }
    )

    host: Name
    exposed: tuple[Name, ...]
    window: bool
    links: Count
    tokens: tuple[Name, ...]
    boots: Count
    tpm: bool = False
    sealed: bool = False


class ReplaceMac(Request):
    """One NIC of a host, by its MAC or by the name of its interface, and the MAC of the one that is there now.
    `dry_run`: only say what that changes."""

    model_config = examples({"old": "mgmt", "new": "52:54:00:00:00:11", "dry_run": True})

    old: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
    new: NicAddress
    dry_run: bool = False


class ReplacedMac(Answer):
    """What replacing a NIC changes, or has changed, and which NICs the host's interfaces have then: what its files are
    to say."""

    model_config = examples(
        {
            "host": "node1",
            "old": "52:54:00:00:00:01",
            "new": "52:54:00:00:00:11",
            "interfaces": {"mgmt": ["52:54:00:00:00:11"]},
            "changes": {
                "added": [],
                "removed": [],
                "changed": {
                    "node1": [
                        {
                            "path": "interfaces.mgmt.macs",
                            "old": ["52:54:00:00:00:01"],
                            "new": ["52:54:00:00:00:11"],
                        }
                    ]
                },
                "site": [],
                "lines": ["~ node1: interfaces.mgmt.macs: 52:54:00:00:00:01 -> 52:54:00:00:00:11"],
                "notes": ["no machine with the MAC 52:54:00:00:00:11 has asked for a boot yet"],
                "applied": False,
                "confirm": False,
                "etag": '"0123456789abcdef0123456789abcdef"',
            },
        }
    )

    host: Name
    old: NicAddress
    new: NicAddress
    interfaces: dict[InterfaceName, tuple[NicAddress, ...]]
    changes: Changes


class MoveHost(Request):
    """The MACs of the machine that a host is to be, in the order of those that it has, and its UUID (SMBIOS), if that
    is to be looked at. `dry_run`: only say what that changes."""

    model_config = examples({"macs": ["52:54:00:00:00:11"], "dry_run": True})

    macs: tuple[NicAddress, ...] = Field(min_length=1, max_length=64)
    uuid: UUID | None = None
    dry_run: bool = False


class MovedHost(Answer):
    """What moving a host to new hardware changes, or has changed, and which NICs and UUID it has then: what its files
    are to say."""

    model_config = examples(
        {
            "host": "node1",
            "interfaces": {"mgmt": ["52:54:00:00:00:11"]},
            "uuid": None,
            "changes": {
                "added": [],
                "removed": [],
                "changed": {},
                "site": [],
                "lines": ["~ node1: interfaces.mgmt.macs: 52:54:00:00:00:01 -> 52:54:00:00:00:11"],
                "notes": ["the old machine still has its identity on its disk: wipe that disk"],
                "applied": True,
                "confirm": False,
                "etag": '"0123456789abcdef0123456789abcdef"',
            },
        }
    )

    host: Name
    interfaces: dict[InterfaceName, tuple[NicAddress, ...]]
    uuid: UUID | None
    changes: Changes


class OpenWindow(Request):
    """A window; what is left out comes from the site's policy."""

    model_config = examples({"minutes": 30, "boots": 1})

    minutes: int | None = None
    boots: int | None = None


class Window(Answer):
    """A window: whether it is open, until when it would be, for how many boots, and how many of them were used."""

    open: bool
    expires: Time
    boots: Count
    used: Count


class OpenedWindow(Answer):
    """The window that was opened for a host; `caution` says why that is not enough yet."""

    model_config = examples(
        {"host": "node1", "open": True, "expires": "2026-03-01T13:00:00+00:00", "boots": 1, "used": 0}
    )

    host: Name
    open: bool
    expires: Time
    boots: Count
    used: Count
    caution: Line | None = None
