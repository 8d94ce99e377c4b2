"""Programs and libraries need their interpreter and the libraries they are linked to (ld.so(8))."""

from __future__ import annotations

from collections.abc import Iterator

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
    for name in found.needed:
        # A private library beside this one is loaded already by the program that both belong to.
        paths = [f"{place}/{name}" for place in (*places, *LIBRARY_DIRECTORIES, origin)]
        yield Need(
            next((p for p in paths if p in around.tree), f"{LIBRARY_DIRECTORIES[0]}/{name}"), f"the library {name}"
        )
