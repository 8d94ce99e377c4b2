"""Applying inventories, reading the one that was applied, and what DNS says of it."""

from __future__ import annotations

from pydantic import Field, JsonValue

from provision.api.wire import Answer, Bytes, ETag, Line, Request, examples
from provision.model import Name, TypedPath

APPLIED: JsonValue = {
    "site": {"domain": "example.test", "networks": {"mgmt": {"role": "management", "prefix": "10.0.0.0/24"}}},
    "hosts": [{"name": "node1", "interfaces": {"mgmt": {"macs": ["52:54:00:00:00:01"], "network": "mgmt"}}}],
}
"""An example of an inventory (`provision.site.Inventory`) as it was applied; what is usual is left out."""


_EXAMPLE = "c2l0ZToge2RvbWFpbjogZXhhbXBsZS50ZXN0LCBuZXR3b3Jrczoge319Cg=="
"""A site without a network, in base64."""


class File(Request):
    """One inventory file with the certificate files that it names."""

    model_config = examples({"name": "site.yaml", "text": _EXAMPLE, "attachments": {}})

    name: TypedPath
    text: Bytes
    attachments: dict[TypedPath, Bytes] = Field(default={}, max_length=1024)


class Apply(Request):
    """Inventory files; `prune`: hosts that they do not name go; `confirmed`: also many; `dry_run`: nothing is done."""

    model_config = examples({"files": [{"name": "site.yaml", "text": _EXAMPLE}], "prune": True, "dry_run": True})

    files: list[File]
    prune: bool = False
    confirmed: bool = False
    dry_run: bool = False


class Change(Answer):
    """One field: its dotted path, and its old and new value; null where there is none."""

    path: Line
    old: JsonValue
    new: JsonValue


class Changes(Answer):
    """What an inventory changes, for programs and, in `lines` and `notes`, for people.

    `applied`: it was done. `confirm`: pruning removes so many hosts that it needs to be confirmed. `etag` is of the
    inventory as it is now; sent as If-Match with the change, it keeps what others have changed meanwhile.
    """

    model_config = examples(
        {
            "added": ["node3"],
            "removed": [],
            "changed": {"node1": [{"path": "labels.rack", "old": "a", "new": "b"}]},
            "site": [],
            "lines": ["~ node1: labels.rack: a -> b", "+ node3"],
            "notes": [],
            "applied": False,
            "confirm": False,
            "etag": '"0123456789abcdef0123456789abcdef"',
        }
    )

    added: tuple[Name, ...]
    removed: tuple[Name, ...]
    changed: dict[Name, tuple[Change, ...]]
    site: tuple[Change, ...]
    lines: tuple[Line, ...]
    notes: tuple[Line, ...]
    applied: bool
    confirm: bool
    etag: ETag


class Discrepancy(Answer):
    """What DNS says otherwise than the inventory, or what else needs to be seen to: the object, fact and way out."""

    model_config = examples(
        {
            "subject": "node1.example.test",
            "fact": "has no A record (NXDOMAIN)",
            "remedy": "add one for 10.0.0.11",
        }
    )

    subject: Line
    fact: Line
    remedy: Line
