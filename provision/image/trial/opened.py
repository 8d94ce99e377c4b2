"""What a booted image has opened, and what it never did; images/usecases/opened writes it.

lost N              events that the kernel's buffer had no room for
module NAME         a kernel module that is loaded
link PATH -> TARGET a symbolic link of the running host
opened PATH         a name that was given to open(2), execve(2) or the kernel's own opening of files, once each
end
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from provision.errors import Invalid
from provision.image import patterns
from provision.image.tree import OWN

ALLOWED = ("/etc/**", "/usr/share/ca-certificates/**", "/usr/lib/locale/**", "/usr/lib/os-release", "/**/vmlinuz*")
"""Never proposed, opened or not: what people configure, and what is wanted for other places than the laboratory."""
_LINKS = 40
_LINE = re.compile(r"(lost|module|link|opened) (.+)")
# What patterns and YAML read in their own way; a question mark stands for any one character.
_PECULIAR = re.compile(r"[^A-Za-z0-9/._+@:~-]|:$")
_MODULE = re.compile(r".*/kernel/.*/([^/]+)\.ko")


@dataclass(frozen=True)
class Opened:
    """The record: names as they were given, links by path, loaded modules, and how many events were lost."""

    names: frozenset[str]
    links: Mapping[str, str]
    modules: frozenset[str]
    lost: int


@dataclass(frozen=True)
class Row:
    """One package: files never opened of how many, their bytes, and their share of the packed root in bytes."""

    package: str
    unused: tuple[str, ...]
    files: int
    size: int
    packed: int


@dataclass(frozen=True)
class Proposal:
    """`rows` by what they would save, the most first; `opened` of `files` were; `modules` are files never loaded.

    Of the image's `size`, kernel and initrd in bytes, `floor` would be left without all of these. Files in one piece
    with others (a platform's `together`) have no share of their own, so they count as opened.
    """

    rows: tuple[Row, ...]
    opened: int
    files: int
    modules: Row
    lost: int
    size: int
    floor: int


def parse(text: str) -> Opened:
    """Read the record; raises Invalid when it was cut off or has a line of another form."""
    lines = text.split("\n")
    if lines[-2:] != ["end", ""]:
        raise Invalid("the record of opened files", "is not whole", "run it again")
    found: dict[str, list[str]] = {"lost": [], "module": [], "link": [], "opened": []}
    for number, line in enumerate(lines[:-2], start=1):
        # Names may be anything, also empty; only those without a line break can be a file of an image.
        match = _LINE.fullmatch(line)
        if match:
            found[match[1]].append(match[2])
        elif line.startswith(("lost", "module", "link")):
            raise Invalid(f"line {number} of the record of opened files", f"'{line[:60]}' cannot be read")
    links = {path: target for path, _, target in (line.partition(" -> ") for line in found["link"])}
    modules = frozenset(name.replace("-", "_") for name in found["module"])
    return Opened(frozenset(found["opened"]), links, modules, sum(map(int, found["lost"])))


def resolve(name: str, links: Mapping[str, str]) -> str:
    """The file that an absolute name leads to through links; a name in a circle of links is returned as it is."""
    done, left, followed = "/", [part for part in name.split("/") if part], 0
    while left:
        part = left.pop(0)
        if part in (".", ".."):
            done = posixpath.dirname(done) if part == ".." else done
            continue
        path = posixpath.join(done, part)
        target = links.get(path)
        if target is None:
            done = path
            continue
        followed += 1
        if followed > _LINKS:
            return name
        done = "/" if target.startswith("/") else done
        left = [step for step in target.split("/") if step] + left
    return done


def used(opened: Opened, paths: Iterable[str]) -> set[str]:
    """Which of an image's files were opened. Of a name that is not absolute nobody knows the directory: it stands for
    every file that ends with it, so that nothing is proposed by mistake."""
    known = set(paths)
    absolute = {resolve(name, opened.links) for name in opened.names if name.startswith("/")}
    given = (posixpath.normpath(name) for name in opened.names if not name.startswith("/"))
    endings = {re.sub(r"^(\.\./)+", "", name) for name in given} - {".", ".."}
    relative = {path for path in known if any(path[i + 1 :] in endings for i, c in enumerate(path) if c == "/")}
    loaded = {path for path in known if (m := _MODULE.fullmatch(path)) and m[1].replace("-", "_") in opened.modules}
    return (absolute & known) | relative | loaded


def propose(report: Mapping[str, Any], opened: Opened, allowed: Iterable[str] = ALLOWED) -> Proposal:
    """What of a built image (its report.json) could go, as far as this run tells; the recipe's own files stay."""
    wanted = tuple(allowed)
    files = [row for row in report["files"] if row["size"]]
    was = used(opened, (row["path"] for row in files))
    by_package: dict[str, list[Mapping[str, Any]]] = {}
    modules = []
    for row in files:
        if row["path"] in was or row["package"] == OWN or any(patterns.matches(p, row["path"]) for p in wanted):
            continue
        if _MODULE.fullmatch(row["path"]):
            modules.append(row)
        else:
            by_package.setdefault(row["package"], []).append(row)
    counts = {package["name"]: package["files"] for package in report["packages"]}
    rows = [_row(name, unused, counts.get(name, 0)) for name, unused in by_package.items()]
    every_module = sum(1 for row in files if _MODULE.fullmatch(row["path"]))
    ordered = tuple(sorted(rows, key=lambda row: (-row.packed, row.package)))
    never = _row("kernel modules", modules, every_module)
    size = sum(entry["size"] for entry in report["image"]["files"].values())
    floor = size - never.packed - sum(row.packed for row in ordered)
    return Proposal(ordered, len(was), len(files), never, opened.lost, size, floor)


def rules(proposal: Proposal) -> str:
    """The proposal as rules of a recipe, to be read, thought about and pasted."""
    lines = [
        f"# {proposal.opened} of {proposal.files} files were opened while the use cases ran."
        + (f" {proposal.lost} events were lost: some of these files may be in use." if proposal.lost else ""),
        f"# {len(proposal.modules.unused)} of {proposal.modules.files} kernel modules were not loaded,"
        f" {proposal.modules.packed:,} bytes packed: they serve other machines than this one.",
        f"# {summary(proposal)}",
        "rules:",
        "  files:",
    ]
    for row in proposal.rows:
        lines.append(f"    # {row.package}: {len(row.unused)} files, {row.size:,} bytes, {row.packed:,} packed")
        lines.append("    - drop:")
        lines += [f"        - {_PECULIAR.sub('?', path)}" for path in row.unused]
    return "\n".join(lines) + "\n"


def summary(proposal: Proposal) -> str:
    """What the image would be without everything that was never opened or loaded, as a sentence."""
    left, whole = (f"{size / (1 << 20):.1f}" for size in (proposal.floor, proposal.size))
    return f"The use cases need {left} of the {whole} MiB of kernel and initrd: kernel, initramfs and what was opened."


def _row(name: str, unused: list[Mapping[str, Any]], files: int) -> Row:
    # A recipe names the sources of bytecode.
    paths = tuple(sorted(row["compiled"]["source"] if "compiled" in row else row["path"] for row in unused))
    return Row(name, paths, files, sum(r["size"] for r in unused), sum(r["packed"] for r in unused))
