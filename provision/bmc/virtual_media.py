"""The virtual CD of a machine: an image that its BMC reads by URL."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from provision.bmc import documents
from provision.bmc.connection import Refused
from provision.bmc.documents import Document
from provision.bmc.machine import SETTLE_SECONDS, Machine
from provision.errors import NotFound
from provision.secret import Secret

_CD = frozenset({"CD", "DVD"})
_READ = "see whether the BMC reaches this server, and trusts its certificate"


@dataclass(frozen=True)
class Slot:
    """A virtual drive: its path and id, and whether something is in it."""

    path: str
    id: str
    inserted: bool


def slots(machine: Machine) -> list[Slot]:
    """The machine's virtual CDs, the one to take first."""
    found = list(_read(machine, _collections(machine)))
    order = {name: place for place, name in enumerate(machine.identity.vendor.slots)}
    return sorted(found, key=lambda slot: order.get(slot.id, len(order)))


def slot(machine: Machine) -> Slot:
    """The virtual CD to take; raises NotFound when the machine has none."""
    found = slots(machine)
    if not found:
        raise NotFound(machine.subject, "has no virtual CD", "see whether its licence allows one, or boot by pxe")
    return found[0]


def _collections(machine: Machine) -> Iterable[str]:
    for path in filter(None, (machine.identity.system, machine.identity.manager)):
        if collection := documents.path(machine.get(path), "VirtualMedia"):
            yield collection


def _read(machine: Machine, collections: Iterable[str]) -> Iterable[Slot]:
    """The virtual CDs of the first collection that has any."""
    for collection in collections:
        members = [(path, machine.get(path)) for path in machine.members(collection)[:16]]
        found = [Slot(path, _id(path), _inserted(shown)) for path, shown in members if _is_cd(shown)]
        if found:
            yield from found
            return


def _id(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _is_cd(shown: Document) -> bool:
    return not _CD.isdisjoint(documents.texts(shown, "MediaTypes"))


def _inserted(shown: Document) -> bool:
    return shown.get("Inserted") is True or bool(documents.text(shown, "Image"))


def insert(machine: Machine, into: Slot, url: Secret) -> None:
    """Let the BMC read the image at `url`, which is told to nobody else.

    Raises Unavailable when it takes it in none of its vendor's ways, or does not show it afterwards.
    """
    tries = machine.identity.vendor.insert
    for last, names in ((names is tries[-1], names) for names in tries):
        try:
            _order(machine, into, "InsertMedia", {name: _parameter(name, url) for name in names})
            break
        except Refused as error:
            # Others than these say that it was understood: another way would not help.
            if last or error.answered not in (400, 409, 415, 422, 501):
                raise
    fact = f"nothing is in its virtual CD {into.id}"
    machine.wait(lambda: machine.get(into.path).get("Inserted") is True, SETTLE_SECONDS, fact, _READ)


def eject(machine: Machine, out_of: Slot) -> None:
    """Take out what is in the drive; nothing when it is empty."""
    if not _inserted(machine.get(out_of.path)):
        return
    body: Any = {} if machine.identity.vendor.eject_body else None
    _order(machine, out_of, "EjectMedia", body)
    fact = f"something is still in its virtual CD {out_of.id}"
    machine.wait(lambda: not _inserted(machine.get(out_of.path)), SETTLE_SECONDS, fact, "eject it by the BMC's page")


def _order(machine: Machine, drive: Slot, action: str, body: Any) -> None:
    """By the action, or by PATCH with BMCs that have none (VirtualMedia before 1.3)."""
    target = documents.at(machine.get(drive.path), "Actions", f"#VirtualMedia.{action}", "target")
    if isinstance(target, str):
        machine.request("POST", target, body)
    else:
        machine.patch(drive.path, {"Image": None, **(body or {}), "Inserted": action == "InsertMedia"})


def _parameter(name: str, url: Secret) -> Any:
    text = url.reveal().decode()
    scheme = text.partition(":")[0].upper()
    values = {"Image": text, "TransferProtocolType": scheme, "TransferMethod": "Stream"}
    return values.get(name, True)
