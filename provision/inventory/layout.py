"""How the files say it: defaults, groups and hosts as trees, merged one host at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

from provision.document import Node, Path, place


@dataclass
class Layout:
    """The trees of all files together; `hosts` and `groups` hold mappings only."""

    site: Node | None = None
    defaults: Node | None = None
    groups: dict[str, Node] = field(default_factory=dict)
    hosts: dict[str, Node] = field(default_factory=dict)
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The known groups that each host names, in its order."""

    def merged(self, name: str) -> Node:
        """A host with everything it inherits: the site's defaults, then its groups in order, then its own lines."""
        layers = [self.groups[group] for group in self.members.get(name, ())]
        layers = [*([self.defaults] if self.defaults else []), *layers, self.hosts[name]]
        result = layers[0]
        for layer in layers[1:]:
            result = merge(result, layer)
        return result

    def locate(self, path: Path) -> tuple[str, int]:
        """File and line of the value at `path` ("site", ... or "hosts", NAME, ...), or of what is nearest above it."""
        if len(path) > 1 and path[0] == "hosts" and path[1] in self.hosts:
            return place(self.merged(str(path[1])), path[2:])
        if self.site and path[:1] == ("site",):
            return place(self.site, path[1:])
        return "inventory", 0


def merge(base: Node, over: Node) -> Node:
    """`over` laid on `base`: mappings merge, lists and scalars replace, and null takes away what was inherited."""
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    result = dict(base.value)
    for key, node in over.value.items():
        if key not in result:
            result[key] = node
        elif node.value is None:
            del result[key]
        else:
            result[key] = merge(result[key], node)
    return Node(over.file, over.line, result)
