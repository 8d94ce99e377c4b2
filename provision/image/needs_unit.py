"""systemd's units need the programs they start and the units they cannot do without (systemd.unit(5), .service(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from provision.image.need import Need, Surroundings
from provision.image.needs_script import program_path
from provision.image.tree import Node, Tree

DIRECTORIES = ("etc/systemd/system", "usr/lib/systemd/system")
SUFFIXES = (".service", ".socket", ".target", ".timer", ".path", ".mount", ".automount", ".slice", ".swap", ".scope")
_EXEC = re.compile(r"Exec(Start|StartPre|StartPost|Condition|Reload|Stop|StopPost)")
_HARD = ("Requires", "Requisite", "BindsTo", "Sockets", "Service", "Unit")
_SOFT = ("Wants", "Upholds", "OnFailure")
_STARTERS = (".socket", ".timer", ".path")
_PREFIX = re.compile(r"[@\-:+!|]*")


@dataclass(frozen=True)
class Line:
    """One assignment of a unit file."""

    section: str
    key: str
    value: str


def lines(data: bytes) -> Iterator[Line]:
    """The assignments of a unit file, continued lines joined."""
    section = ""
    for raw in re.sub(r"\\\n", " ", data.decode(errors="replace")).splitlines():
        line = raw.strip()
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line and line[0] not in "#;":
            key, _, value = line.partition("=")
            yield Line(section, key.strip(), value.strip())


def is_unit(path: str) -> bool:
    """Whether a path is a system unit, or a drop-in of one."""
    if not path.startswith(DIRECTORIES):
        return False
    return path.endswith(SUFFIXES) or (path.endswith(".conf") and path.rpartition("/")[0].endswith(".d"))


def find(tree: Tree, unit: str) -> str | None:
    """The path of a unit, or of the template that it is an instance of; None when no package has it."""
    template = re.sub(r"@[^.]*\.", "@.", unit)
    for name in dict.fromkeys((unit, template)):
        for directory in DIRECTORIES:
            if f"{directory}/{name}" in tree:
                return f"{directory}/{name}"
    return None


def needs(node: Node, data: bytes, around: Surroundings) -> Iterator[Need]:
    """Programs, required units, and whatever hooks itself to this unit by `.wants`, `.requires` and `.d`."""
    if not is_unit(node.path):
        return
    for line in lines(data):
        if line.section == "Service" and _EXEC.fullmatch(line.key) and line.value:
            yield from _program(line, around.tree)
        elif line.key in _HARD or line.key in _SOFT:
            for unit in line.value.split():
                path = find(around.tree, unit) if "%" not in unit else None
                if path and path != node.path:
                    yield Need(path, f"the unit {unit}", hard=line.key in _HARD)
    name = node.path.rsplit("/", 1)[-1]
    for suffix in _STARTERS:
        # What it starts has its own name unless it says otherwise.
        if name.endswith(suffix) and not any(line.key in ("Service", "Unit") for line in lines(data)):
            instance = "@" if suffix == ".socket" and _accepts(data) else ""
            started = f"{name.removesuffix(suffix)}{instance}.service"
            yield Need(find(around.tree, started) or f"{DIRECTORIES[1]}/{started}", f"the unit that {name} starts")
    yield from hooked(node.path.rsplit("/", 1)[-1], around.tree)


def _accepts(data: bytes) -> bool:
    """Whether a socket starts an instance of a template for every connection."""
    said = [line.value.lower() for line in lines(data) if (line.section, line.key) == ("Socket", "Accept")]
    return bool(said) and said[-1] in ("yes", "true", "on", "1")


def hooked(unit: str, tree: Tree) -> Iterator[Need]:
    """What stands in the directories that add to a unit."""
    for directory in DIRECTORIES:
        for kind in ("wants", "requires", "d"):
            for path in tree.below(f"{directory}/{unit}.{kind}"):
                yield Need(path, f"{path.rsplit('/', 1)[-1]} of {unit}", hard=False)


def _program(line: Line, tree: Tree) -> Iterator[Need]:
    prefix = _PREFIX.match(line.value)
    signs = prefix[0] if prefix else ""
    words = line.value[len(signs) :].split()
    if words and "%" not in words[0] and "$" not in words[0]:
        program = words[0].strip('"')
        yield Need(program_path(tree, program), f"the program {program}", "-" not in signs, "-" not in signs)
