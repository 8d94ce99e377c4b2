"""The minimal set: an image boots and tries the use cases, while the kernel records every file that is opened."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path

from provision.errors import Invalid, NotFound
from provision.image.build import Image
from provision.image.packages import Progress
from provision.image.trial import opened, usecases
from provision.image.trial.opened import Opened, Proposal
from provision.image.trial.verdict import Verdict
from provision.lab.lans import Lab
from provision.lab.vm import VM
from provision.seed import File

# do_filp_open(int, struct filename *, ...) is where every opening passes, also the kernel's own; the structure begins
# with the name's address, and %si has the second argument. Documentation/trace/kprobetrace.rst of Linux. Without an
# event to be traced the kernel would give the buffer its size only when somebody first looks at it.
ARGUMENTS = "kprobe_event=p:opened,do_filp_open,path=+0(+0(%si)):string trace_event=kprobes:opened trace_buf_size=96M"
_AFTER = "/etc/provision/usecases/after"
_ROOM = 16 << 20


def run(image: Image, progress: Progress = lambda what, done: None) -> tuple[Proposal, tuple[Verdict, ...]]:
    """What of an image no use case needs; needs root. Raises NotFound without report.json, Unavailable, Invalid."""
    try:
        report = json.loads((image.directory / "report.json").read_bytes())
    except OSError:
        remedy = "fill it with 'provision image build -o'"
        raise NotFound(str(image.directory), "has no report.json", remedy) from None
    with Lab("open") as lab:
        found, verdicts = traced(lab, image, progress)
    return opened.propose(report, found), verdicts


def traced(lab: Lab, image: Image, progress: Progress) -> tuple[Opened, tuple[Verdict, ...]]:
    """Boot the image, try all use cases, and return what was opened meanwhile."""
    names = usecases.NAMES
    around = usecases.site(lab, names)
    files = usecases.files(image, around, names)
    # `after` runs when all verdicts are said.
    files[_AFTER] = File(files["/etc/provision/usecases/opened"].data)
    disk = lab.directory / "opened.img"
    with disk.open("wb") as file:
        file.truncate(_ROOM)
    machine = usecases.machine(lab, image, around, files, ARGUMENTS)
    extra = (
        "-drive",
        f"if=none,id=opened,format=raw,file={disk}",
        "-device",
        "virtio-blk-pci,drive=opened,serial=opened",
    )
    machine = replace(machine, extra=machine.extra + extra, memory=usecases.MEMORY + 256)
    with VM(lab, machine) as vm:
        verdicts = usecases.watch(vm, lab, names, progress)
    return opened.parse(unpacked(disk)), verdicts


def unpacked(disk: Path) -> str:
    """The text that stands compressed at the start of a disk; raises Invalid when there is none."""
    try:
        return zlib.decompressobj(31).decompress(disk.read_bytes()).decode(errors="replace")
    except zlib.error:
        raise Invalid("the record of opened files", "was not written", "see the use cases' own log") from None
