"""Reads the signed description of an update: docs/media-format.md, "Updates"."""

import re
from dataclasses import dataclass

import signed_file
from signed_file import Refused

FORMAT = "provision-update 1"
_LINES = re.compile(
    r"host (?P<host>[a-z0-9-]{1,63})\nsite (?P<site>[a-z0-9.-]{1,253})\nversion (?P<version>[0-9a-f]{64})\n"
    r"sequence (?P<sequence>[0-9]{1,18})\nattempt (?P<attempt>[0-9]{1,9})\nnonce (?P<nonce>[0-9a-f]{32})\n"
    r"reboot (?P<reboot>when-empty|now|never)\n(?:slot (?P<slot>[0-9]{1,12} [0-9a-f]{64})\n"
    r"|arguments (?P<arguments>[ -~]{0,2047})\nkernel (?P<kernel>[0-9]{1,12} [0-9a-f]{64})\n"
    r"(?P<initrds>(?:initrd [0-9]{1,12} [0-9a-f]{64}\n){1,99}))"
)


@dataclass(frozen=True)
class File:
    """A file of an update: what it is called in requests, its size in bytes, and its SHA-256 in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Update:
    """What this host is to run; see the server's own description. `files` are by the names of what is written: kernel
    and initrds, which have `arguments`, or a whole slot, which has None."""

    version: str
    sequence: int
    attempt: int
    reboot: str
    arguments: str
    files: dict


def read(file, keys, host, site, nonce):
    """The update, when the site has signed it for this host and this very request. Raises Refused."""
    signed = signed_file.content(file, FORMAT, keys, "update")
    found = _LINES.fullmatch(signed.decode("ascii", "replace"))
    if found is None:
        raise Refused("the update does not say what it is")
    if found["nonce"] != nonce:
        raise Refused("the update is one that was made for an earlier request")
    if (found["host"], found["site"]) != (host, site):
        raise Refused("the update is another host's")
    return Update(
        version=found["version"],
        sequence=int(found["sequence"]),
        attempt=int(found["attempt"]),
        reboot=found["reboot"],
        arguments=found["arguments"],
        files=_files(found),
    )


def _files(found):
    if found["slot"]:
        return {"slot": (_file("slot", found["slot"]),)}
    initrds = enumerate(line.removeprefix("initrd ") for line in found["initrds"].splitlines())
    return {
        "kernel": (_file("kernel", found["kernel"]),),
        "initrd": tuple(_file(f"initrd/{number}", line) for number, line in initrds),
    }


def _file(name, text):
    size, sha256 = text.split()
    return File(name, int(size), sha256)
