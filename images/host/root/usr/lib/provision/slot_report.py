"""What this host says of its two slots, and what they remember: docs/media-format.md, "Alive" and "Updates".

A slot's version is ID:SEQUENCE:ATTEMPT of the update that wrote it, or ID alone from the factory. So what this host has
seen last, and what has failed on it, is kept where it belongs, and is gone with it.
"""

import json
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SLOTS, SAID = "/usr/lib/provision/slots", "/run/provision/slots.said"
UNIFIED, CMDLINE = "/usr/lib/provision/unified-slots", "/proc/cmdline"
_VERSION = re.compile(r"([0-9a-f]{64})(?::([0-9]{1,18}):([0-9]{1,9}))?")
_OTHER = {"a": "b", "b": "a"}


@dataclass(frozen=True)
class Version:
    """What a slot holds: the base image's id, the sequence of its description, and the attempt; all 0 for nothing that
    is known."""

    id: str = ""
    sequence: int = 0
    attempt: int = 0


def version(text):
    """A version as the slot has it."""
    found = _VERSION.fullmatch(text or "")
    return Version(found[1], int(found[2] or 0), int(found[3] or 0)) if found else Version()


@dataclass(frozen=True)
class Slots:
    """The slots: which one (`a` or `b`) is `running`, the `default`, on trial (`trying`, with so many starts left:
    `tries`) or `failed`; None for none."""

    running: str
    default: str
    trying: str
    tries: int
    failed: str
    versions: dict

    @property
    def here(self):
        """The version that runs."""
        return self.versions[self.running]

    @property
    def is_unproven(self):
        """Whether this host runs a slot on trial."""
        return self.trying == self.running != self.default

    @property
    def broken(self):
        """The version whose trial failed last; of no id for none. One that the boot loader could not even start has
        used its trial, and this host runs the other slot."""
        slot = self.failed or (self.trying if not self.tries else None)
        return self.versions[slot] if slot and slot != self.running else Version()

    @property
    def newest(self):
        """The highest sequence that this host has taken."""
        return max(one.sequence for one in self.versions.values())


def is_unified(path=CMDLINE):
    """Whether firmware has started this host's image itself, signed and in one file."""
    return re.search(r"(?:^|\s)provision\.image=", Path(path).read_text()) is not None


def slots(*arguments):
    """What the host's program for its slots prints; raises OSError with what it says when it fails."""
    done = subprocess.run([UNIFIED if is_unified() else SLOTS, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError((done.stderr.strip().splitlines() or ["slots: failed"])[-1])
    return done.stdout.strip()


def look():
    """The slots of this host; None when it was not booted from one. Raises OSError."""
    if slots("running") not in _OTHER:
        return None
    said = json.loads(slots("state"))
    versions = {name: version(said["versions"][name]) for name in _OTHER}
    return Slots(said["running"], said["default"], said["trying"], said["tries"], said["failed"], versions)


def words(text):
    """A reason as the server takes it."""
    return re.sub(r"[^A-Za-z0-9 ,;:.()_/+='-]", " ", text).strip(" ,;:.()_/+='-")[:200] or "no reason was given"


def say(found, doing, path=SAID):
    """Leave word for the server, which hears it with the next message that this host is up. An image that cannot read
    its own slot leaves none: the server would not take the message."""
    if not found.here.id:
        return
    line = " ".join((found.running, found.default, *(found.versions[name].id or "-" for name in _OTHER), doing))
    new = Path(f"{path}.new")
    new.write_text(line)
    new.rename(path)


def settled(found):
    """What this host says of an update when nothing goes on: that the last one has failed, or nothing."""
    broken = found.broken
    if not broken.id:
        return "idle"
    return f"failed {broken.id} {max(1, broken.attempt)} it did not prove itself"


def on_consoles(line):
    """Say it in the journal, and on every console of the kernel."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    for console in Path("/sys/class/tty/console/active").read_text().split():
        with suppress(OSError):
            Path("/dev", console).write_text(f"\r\n{line}\r\n")
