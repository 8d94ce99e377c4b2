"""How BMCs differ: one data file of `vendors/` for each vendor, chosen by what the BMC says of itself."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

_DIRECTORY = Path(__file__).parent / "vendors"
PARAMETERS = ("Image", "Inserted", "WriteProtected", "TransferProtocolType", "TransferMethod")
"""What InsertMedia may be told (DSP2046, VirtualMedia 1.6)."""


class Tags(StrEnum):
    """Which entity tag a PATCH has."""

    GIVEN = "given"
    """The one that the BMC gave."""
    STRONG = "strong"
    """The same as a strong one: the BMC gives weak ones, and refuses them."""
    NONE = "none"


class Via(StrEnum):
    """From what a machine boots once."""

    PXE = "pxe"
    HTTP_BOOT = "http-boot"
    CD = "cd"


@dataclass(frozen=True)
class Vendor:
    """What is done with the BMCs of one vendor, whose names (in lower case) begin with one of `names`.

    `slots` are ids of virtual CDs in the order in which they are taken; others follow. `insert` are sets of parameters,
    tried in turn until one is taken. `eject_body` says whether EjectMedia has an empty object as its body. `targets`
    are the boot devices' names, `usual` is what takes an override back, `mode` is the BootSourceOverrideMode, "" for
    none. `settings` says that the override goes to the settings object. `shut_down` are the reset types that ask the
    operating system, in the order of preference.
    """

    title: str
    names: tuple[str, ...]
    slots: tuple[str, ...]
    insert: tuple[tuple[str, ...], ...]
    eject_body: bool
    targets: Mapping[Via, str]
    usual: Mapping[str, str]
    mode: str
    settings: bool
    tags: Tags
    shut_down: tuple[str, ...]


def parse(document: Mapping[str, Any]) -> Vendor:
    """The vendor of a data file; raises KeyError, TypeError or ValueError for one that is wrong."""
    media, boot = document["media"], document["boot"]
    insert = tuple(tuple(names) for names in media["insert"])
    if unknown := {name for names in insert for name in names} - set(PARAMETERS):
        raise ValueError(f"InsertMedia has no parameter {min(unknown)}")
    return Vendor(
        title=document["title"],
        names=tuple(document["names"]),
        slots=tuple(media["slots"]),
        insert=insert,
        eject_body=media["eject_body"],
        targets={via: boot["targets"][via.value] for via in Via},
        usual={str(name): str(value) for name, value in boot["usual"].items()},
        mode=boot["mode"],
        settings=boot["settings"],
        tags=Tags(boot["tags"]),
        shut_down=tuple(document["power"]["shut_down"]),
    )


@cache
def known() -> tuple[Vendor, ...]:
    """Every vendor, and at the end what is done with all others."""
    files = sorted(_DIRECTORY.glob("*.toml"), key=lambda file: (file.stem == "other", file.stem))
    return tuple(parse(tomllib.loads(file.read_text())) for file in files)


def choose(said: Iterable[str]) -> Vendor:
    """The vendor of a BMC that says this of itself, its maker and its machine."""
    words = [word.lower() for word in said]
    *named, other = known()
    return next((v for v in named if any(word.startswith(v.names) for word in words)), other)
