"""Programs and libraries need their interpreter, the libraries they are linked to (ld.so(8)), and those that they say
they open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from provision.image import elf
from provision.image.need import Need, Surroundings
from provision.image.tree import Node, follow

LIBRARY_DIRECTORIES = ("usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib")


def needs(node: Node, data: bytes, around: Surroundings) -> Iterator[Need]:
    """The libraries by the dynamic linker's own search: the file's run path, then Debian's directories."""
    if not elf.is_elf(data) or node.path.endswith(".ko"):
        return
    found = elf.dynamic(data)
    if found.interpreter:
        yield Need(follow("", found.interpreter), f"the interpreter {found.interpreter}")
    origin = node.path.rpartition("/")[0]
    places = [follow("", d.replace("$ORIGIN", f"/{origin}")) for d in found.runpath]
    # A private library beside this one is loaded already by the program that both belong to.
    where = (*places, *LIBRARY_DIRECTORIES, origin)
    for name in found.needed:
        yield Need(_library((name,), where, around), f"the library {name}")
    for opened in elf.dlopens(data):
        if opened.priority != "suggested":
            hard = opened.priority == "required"
            what = f"the library {opened.names[0]}, which it opens while it runs"
            yield Need(_library(opened.names, where, around), what, hard=hard, must_exist=hard)


def _library(names: Sequence[str], where: Sequence[str], around: Surroundings) -> str:
    """The path of the first that some package has; where the first should be if none has."""
    paths = [f"{place}/{name}" for name in names for place in where]
    return next((path for path in paths if path in around.tree), f"{LIBRARY_DIRECTORIES[0]}/{names[0]}")
