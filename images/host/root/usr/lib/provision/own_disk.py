"""Which disk has the two slots of this host."""

import fcntl
from contextlib import contextmanager
from pathlib import Path

import gpt

WORK, SYS, DEV = Path("/run/provision"), "/sys", "/dev"
READ, CHANGE = "rb", "r+b"


class Refused(Exception):
    """Why something is not done."""


@contextmanager
def opened(mode, kinds):
    """The name of the disk with a partition of each of these kinds, the disk opened in `mode`, and its table; for one
    program at a time. Raises Refused, also for what is damaged there."""
    found = [name for name in _names() if _has(kinds, Path(DEV, name))]
    if len(found) != 1:
        which = " and ".join(found)
        raise Refused(f"{which} have slots, and nothing says which is meant" if found else "no disk has two slots")
    (name,) = found
    with Path(DEV, name).open(mode, buffering=0) as file:
        # Nobody else looks at it meanwhile, and neither does udev.
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield name, file, gpt.read(file)
        except gpt.Damaged as error:
            raise Refused(f"{name} {error}") from None


def _names():
    """The initramfs has left word of the disk that has this host's identity, or the place for its envelope. Others may
    be a guest's, who writes there what he likes."""
    disk, part = WORK / "disk", WORK / "sealed-part"
    if disk.exists():
        return disk.read_text().split()
    if part.exists():
        places = Path(f"{SYS}/block").glob(f"*/{part.read_text().strip()}")
        return [place.parent.name for place in places]
    return [path.parent.name for path in sorted(Path(f"{SYS}/block").glob("*/device"))]


def _has(kinds, path):
    try:
        with path.open("rb", buffering=0) as file:
            table = gpt.read(file)
    except (OSError, gpt.Damaged):
        return False
    return all(table.find(kind) for kind in kinds)
