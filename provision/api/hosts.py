"""Hosts: in short, whole, and their windows."""

from __future__ import annotations

from pydantic import Field

from provision.api.wire import Answer, Count, Line, Request, Time, examples
from provision.host import Addressing, Host, Install, Netboot, Storage
from provision.model import ContentId, LabelKey, LabelValue, Mac, Name


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


class HostDetail(Host):
    """One host, whole, with its revision and what its image lacks."""

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
        }
    )

    host_revision: ContentId = Field(alias="revision")
    missing: tuple[Line, ...]


class Compromised(Answer):
    """What ended when a host was declared compromised: the credentials that are `exposed` until each has new content;
    whether a window was open; how many links, and which tokens, are revoked; how many boots by its BMC were cancelled.
    """

    model_config = examples(
        {"host": "node1", "exposed": ["token"], "window": True, "links": 1, "tokens": ["rack-7"], "boots": 0}
    )

    host: Name
    exposed: tuple[Name, ...]
    window: bool
    links: Count
    tokens: tuple[Name, ...]
    boots: Count


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
    """The window that was opened for a host."""

    model_config = examples(
        {"host": "node1", "open": True, "expires": "2026-03-01T13:00:00+00:00", "boots": 1, "used": 0}
    )

    host: Name
    open: bool
    expires: Time
    boots: Count
    used: Count
