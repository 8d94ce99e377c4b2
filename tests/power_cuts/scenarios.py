"""What a host does while the power may go: each scenario is recorded once, on a machine that really does it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from uuid import UUID

from provision import proc
from provision.lab.crashes import Crashed, How, State
from provision.lab.processes import WaitFailed
from provision.lab.write_log import Entry, read
from provision.media import gpt, identity
from tests.boot import seeds
from tests.power_cuts import records
from tests.power_cuts.machines import Bench, Moment, empty, logged, raw

KEYTABS = {name: f"\x05\x02canary-of-the-{name}-identity".encode() for name in ("old", "new", "oem")}
NONE = "none"
# A host that was decommissioned, without a server that says so.
_FORGET = """[Unit]
DefaultDependencies=no

[Service]
Type=oneshot
ExecStart=/usr/lib/provision/forget-identity
StandardOutput=tty
TTYPath=/dev/console
"""
_WIPED = r"^the identity on vda1 is wiped$"


def seed(which: str) -> bytes:
    """A host's seed, the `old` or the `new` one, that names the machine's disk; the root of the old one wipes it."""
    units = {
        "/etc/systemd/system/forget.service": _FORGET.encode(),
        "/etc/systemd/system/sysinit.target.d/forget.conf": b"[Unit]\nWants=forget.service\n",
    }
    return seed_of(which, units if which == "old" else {})


def seed_of(which: str, more: Mapping[str, bytes]) -> bytes:
    """The seed with that one of the KEYTABS, and more files by path."""
    revision = hashlib.sha256(which.encode()).hexdigest()
    about = {"format": 1, "host": "node7", "revision": revision, "storage": "persistent", "disk": {"serial": "boot-7"}}
    tree = {
        "/etc/hostname": (0o644, b"node7\n"),
        "/etc/krb5.keytab": (0o600, KEYTABS[which]),
        "/etc/provision/host.json": (0o600, json.dumps(about, indent=2).encode()),
    }
    tree |= {path: (0o644, content) for path, content in more.items()}
    return seeds.seed("node7", tree, revision=revision)


def holds(disk: Path) -> str:
    """Whose identity is on the disk: "old", "new", "oem" or "none". Raises ValueError when it is neither."""
    content = records.newest(disk)
    if content is None:
        return NONE
    (which,) = (name for name, keytab in KEYTABS.items() if keytab in content)
    return which


@dataclass
class Machines:
    """The paused machines of one firmware, each made when it is first asked for."""

    bench: Bench
    _made: dict[str, Moment] = field(default_factory=dict)
    _making: Lock = field(default_factory=Lock)

    def with_seed(self, which: str) -> Moment:
        """One that boots with the `old` or the `new` seed, or with `none`."""
        with self._making:
            if which not in self._made:
                self._made[which] = self.bench.pause(which, b"" if which == NONE else seed(which))
            return self._made[which]


@dataclass(frozen=True)
class Recording:
    """What a scenario wrote to a disk, which is in the file `before` as it was."""

    before: Path
    log: Path
    entries: tuple[Entry, ...]

    @property
    def points(self) -> int:
        """At how many moments the power may go."""
        return len(self.entries) + 1

    @contextmanager
    def crashed(self, work: Path) -> Iterator[Crashed]:
        """Its disk for states, in the file `work`."""
        copy(self.before, work)
        with Crashed(work, self.log, self.entries) as disk:
            yield disk


@dataclass(frozen=True)
class Scenario:
    """`before` is whose identity the disk has at first. `kept`: at its end there is one."""

    name: str
    before: str
    kept: bool
    act: Callable[[Machines, tuple[str, ...]], None]

    def record(self, machines: Machines, directory: Path) -> Recording:
        """Let it happen, unless it has: what there is in `directory` is taken."""
        directory.mkdir(parents=True, exist_ok=True)
        before, log, disk = directory / "before.img", directory / "log", directory / "disk.img"
        if not (directory / "recorded").exists():
            empty(before)
            if self.before != NONE:
                put(before, seed(self.before))
            copy(before, disk)
            self.act(machines, logged(disk, log))
            disk.unlink()
            (directory / "recorded").touch()
        return Recording(before, log, read(log))

    def facts(self, disk: Path) -> dict[str, str]:
        """What a disk says of this."""
        return facts(disk)

    def boot(self, machines: Machines, recording: Recording, state: State, disk: Path, again: bool) -> str:
        """Boot the host on a disk in this state, in the new file `disk`, as whoever finds it so would: with the new
        seed when it has no identity, or when its operator boots it `again`. Returns what is wrong then, in words that
        begin with "brick" or "lost", or ""."""
        with recording.crashed(disk) as crashed:
            crashed.put(state)
        try:
            return self._judged(machines, disk, again)
        finally:
            disk.unlink()

    def _judged(self, machines: Machines, disk: Path, again: bool) -> str:
        which = holds(disk)
        seeded = self.kept and (again or which == NONE)
        try:
            verdict = machines.with_seed("new" if seeded else NONE).verdict(raw(disk), disk.name)
        except WaitFailed as error:
            return f"brick: {error}"
        wanted = "stored" if seeded else "none" if which == NONE else "taken"
        if not verdict[wanted]:
            return f"lost: it says {verdict['line']!r}, where its disk holds the identity {which!r}"
        after, due = holds(disk), "new" if seeded else which
        return "" if after == due else f"lost: it holds {after} after a boot that says {verdict['line']!r}"


def put(disk: Path, archive: bytes) -> Path:
    """Give an empty disk its configuration partition, with a seed in both copies; returns `disk`."""
    first, last = 2048, 2048 + 32768 - 1
    part = gpt.Partition(identity.TYPE, UUID(int=1), first, last, identity.NAME)
    gpt.write_table(disk, gpt.Table(UUID(int=2), (part,)))
    with disk.open("r+b") as file:
        for place in (0, 1):
            for offset, data in identity.write(part.size, place, place + 1, archive):
                file.seek(part.offset + offset)
                file.write(data)
    return disk


def _store(moment: Moment, drive: tuple[str, ...]) -> None:
    verdict = moment.verdict(drive, "recorded")
    assert verdict["stored"], verdict["line"]


def _wipe(machines: Machines, drive: tuple[str, ...]) -> None:
    with machines.with_seed(NONE).resumed(drive, "recorded") as vm:
        vm.wait_for(_WIPED, 240)


SCENARIOS = (
    Scenario("first boot", NONE, True, lambda machines, drive: _store(machines.with_seed("new"), drive)),
    Scenario("newer identity", "old", True, lambda machines, drive: _store(machines.with_seed("new"), drive)),
    Scenario("decommission", "old", False, _wipe),
)


def facts(disk: Path) -> dict[str, str]:
    """What a disk says: whose identity it holds, and which partitions it has."""
    try:
        held = holds(disk)
    except ValueError:
        held = "an identity that nobody has stored"
    return {"identity": held, "table": str(records.table(disk))}


Facts = Callable[[Path], Mapping[str, str]]


def look(recording: Recording, found: Sequence[State], work: Path, facts: Facts = facts) -> list[str]:
    """What is wrong with any of the states by its bytes alone.

    A disk holds what it would hold if all writes, or those before any point since the last flush, had come in order:
    so there is one of the identities all the time, unless there was none, and a table that was there stays. And it
    never holds anything "broken".
    """
    seen: list[tuple[State, Mapping[str, str]]] = []
    with recording.crashed(work) as disk:
        for state in found:
            disk.put(state)
            seen.append((state, facts(work)))
    orderly = {state.point: said for state, said in seen if state.how is How.KEPT}
    return [
        f"{state.how} after {state.point} of {recording.points - 1} writes: {name} is {value}"
        for state, said in seen
        for name, value in said.items()
        if value == "broken" or value not in {orderly[at].get(name) for at in range(state.durable, state.point + 1)}
    ]


def copy(source: Path, target: Path) -> None:
    """Copy a disk, most of which is empty."""
    proc.run(["cp", "--sparse=always", source, target], package="coreutils")
