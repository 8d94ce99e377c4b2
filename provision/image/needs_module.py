"""Kernel modules need others: by symbols, by soft dependencies, and by name while they run (modprobe.d(5))."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from provision.image import modules
from provision.image.need import Need, Surroundings
from provision.image.tree import Node


def needs(node: Node, data: bytes, around: Surroundings) -> Iterator[Need]:
    """`depends` must be there; of a soft dependency or a request, one at least of the modules that can serve it.

    Firmware comes along as far as packages have it.
    """
    name = modules.name_of(node.path)
    module = around.modules.by_name.get(name) if name else None
    if module is None:
        return
    for dependency in module.depends:
        other = around.modules.by_name.get(dependency)
        if other:
            yield Need(other.path, f"the kernel module {dependency}")
        elif dependency not in around.modules.builtin:
            yield Need(f"{modules.TOP}{dependency}.ko", f"the kernel module {dependency}")
    for wish in module.soft:
        yield from asked(wish, f"the kernel module {wish}, a soft dependency", around, must_exist=False)
    for name in module.firmware:
        # Most of it serves hardware of some kinds only, and few packages of a recipe have any.
        yield Need(f"{modules.FIRMWARE}{name}", f"the firmware {name}", hard=False, must_exist=False)
    for request in around.loaded.recipe.requests:
        if fnmatchcase(module.name, modules.spelled(request.by)):
            for wish in request.asks:
                yield from asked(wish, f"the kernel module {wish}, asked for while it runs", around)


def asked(name: str, what: str, around: Surroundings, must_exist: bool = True) -> Iterator[Need]:
    """Everything that can serve the name; hard only if rules drop all of it and the kernel has none built in."""
    found = [module.path for module in around.modules.asked(name)]
    builtin = around.modules.is_builtin(name)
    if not found:
        if must_exist and not builtin:
            yield Need(f"{modules.TOP}{modules.spelled(name)}.ko", what)
        return
    hard = not builtin and all(path in around.dropped for path in found)
    for path in found:
        yield Need(path, what, hard=hard)
