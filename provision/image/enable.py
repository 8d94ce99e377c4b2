"""Enabling units without systemctl: the links that their [Install] sections ask for (systemd.unit(5))."""

from __future__ import annotations

from collections.abc import Iterator

from provision.errors import Problem
from provision.image import needs_unit, tree
from provision.image.recipe import Loaded
from provision.image.tree import Node, Tree

_ETC = "etc/systemd/system"


def links(loaded: Loaded, packages: Tree) -> tuple[list[Node], list[Problem]]:
    """The links for all units that the recipe enables or masks, and what is wrong with its lists."""
    found: dict[str, Node] = {}
    problems: list[Problem] = []
    pending = [(unit, index) for index, unit in enumerate(loaded.recipe.units.enable)]
    done: set[str] = set()
    while pending:
        unit, index = pending.pop(0)
        if unit in done:
            continue
        done.add(unit)
        path = needs_unit.find(packages, unit)
        where = ("units", "enable", index)
        if path is None:
            problems.append(loaded.problem(where, f"no package has {unit}", "add the package, or leave the unit out"))
            continue
        lines = [line for line in needs_unit.lines(packages[path].content.read()) if line.section == "Install"]
        # A name in Also= is enabled too, if it can be.
        pending += [(u, index) for line in lines if line.key == "Also" for u in line.value.split()]
        made = {node.path: node for node in _links(unit, path, lines)}
        if not made and not any(line.key == "Also" for line in lines) and unit == loaded.recipe.units.enable[index]:
            problems.append(loaded.problem(where, f"{unit} cannot be enabled: it has no [Install] section"))
        found |= made
    found |= {f"{_ETC}/{unit}": tree.link(f"{_ETC}/{unit}", "/dev/null") for unit in loaded.recipe.units.mask}
    return list(found.values()), problems


def _links(unit: str, path: str, lines: list[needs_unit.Line]) -> Iterator[Node]:
    for line in lines:
        for word in line.value.split():
            if line.key in ("WantedBy", "RequiredBy"):
                yield tree.link(f"{_ETC}/{word}.{'wants' if line.key == 'WantedBy' else 'requires'}/{unit}", f"/{path}")
            elif line.key == "Alias":
                yield tree.link(f"{_ETC}/{word}", f"/{path}")
