"""Inventory files -> a checked Inventory, or every problem of them at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from provision.document import MAX_BYTES, MAX_VALUES, Node, Path, Source, dotted, place, read
from provision.errors import Invalid, Problem, Problems
from provision.host import Host
from provision.inventory.certificates import authorities
from provision.inventory.layout import Layout, merge
from provision.inventory.rules import check
from provision.inventory.unreadable import Unreadable, without
from provision.inventory.vocabulary import INVENTORY
from provision.messages import Complaint, complaints, nearest, quoted
from provision.site import Inventory, Site

__all__ = ["Source", "parse"]

_M = TypeVar("_M", bound=BaseModel)
_DUMMY_MAC = "52:54:00:00:00:01"
_NOTHING: Mapping[str, Any] = {}


def parse(files: Sequence[Source], now: datetime) -> Inventory:
    """Read an inventory from one file or several.

    `now` (aware) is the moment at which the site's CA certificates must be valid. Raises Problems with everything that
    is wrong, each with its file, line and dotted path; nothing else is raised, whatever the bytes are.
    """
    return _Parser(now).run(files)


class _Parser:
    """One reading; holds the problems found so far and the trees, so that places can be named."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.problems: list[Problem] = []
        self.layout = Layout()
        self.attachments: dict[str, Source] = {}
        self.inherited: set[tuple[str, int, str]] = set()
        self.unreadable = Unreadable()
        self.broken_file = False

    def run(self, files: Sequence[Source]) -> Inventory:
        self._read(files)
        site = self._site()
        if self.layout.defaults:
            self._layer(self.layout.defaults, ("site", "defaults"))
        for name, group in self.layout.groups.items():
            layer = merge(self.layout.defaults, group) if self.layout.defaults else group
            self._layer(layer, ("site", "groups", name))
        hosts = [host for name in self.layout.hosts if (host := self._host(name)) is not None]
        for violation in check(site, hosts, self.unreadable):
            self._add(self.unreadable.as_written(violation.path), violation.fact, violation.remedy)
        if self.problems or site is None:
            raise Problems(dict.fromkeys(self.problems))
        return Inventory(site=site, hosts=tuple(sorted(hosts, key=lambda host: host.name)))

    def _add(self, path: Path, fact: str, remedy: str = "", at: tuple[str, int] | None = None) -> None:
        file, line = at or self.layout.locate(path)
        self.problems.append(Problem(file, line, dotted(path), fact, remedy))

    # -- files ---------------------------------------------------------------------------------------------------

    def _read(self, files: Sequence[Source]) -> None:
        total = sum(len(source.text) for source in files)
        if total > MAX_BYTES:
            raise Problems([Problem("inventory", 0, "", f"larger than {MAX_BYTES >> 20} MiB", "split the site")])
        budget = MAX_VALUES
        for source in files:
            document = read(source, budget)
            budget -= document.values
            self.problems += document.problems
            self.broken_file |= document.root is None
            if document.root is not None:
                self._top(source, document.root)
        if self.layout.site is None and not self.broken_file:
            self.problems.append(Problem("inventory", 0, "", "no file has a 'site'", "write 'site:' in one of them"))

    def _top(self, source: Source, root: Node) -> None:
        for key, node in self._mapping(root, ()).items():
            if key == "site":
                self._take_site(source, node)
            elif key == "hosts":
                self._take_hosts(node)
            else:
                remedy = nearest(key, ("site", "hosts"))
                self._add((key,), f"unknown key {quoted(key)}", remedy, (node.file, node.line))

    def _take_site(self, source: Source, node: Node) -> None:
        earlier = self.layout.site
        if earlier is not None:
            fact = f"the site is also in {earlier.file}:{earlier.line}"
            self._add(("site",), fact, "keep it in one file", (node.file, node.line))
        elif self._is_mapping(node, ("site",)):
            self.layout.site = node
            self.attachments[node.file] = source
        else:
            self.broken_file = True

    def _take_hosts(self, node: Node) -> None:
        if node.value is None:
            return
        for name, host in self._mapping(node, ("hosts",)).items():
            earlier = self.layout.hosts.get(name)
            if earlier is not None:
                fact = f"the host is also in {earlier.file}:{earlier.line}"
                self._add(("hosts", name), fact, "keep one of them", (host.file, host.line))
            elif host.value is None or self._is_mapping(host, ("hosts", name)):
                self.layout.hosts[name] = Node(host.file, host.line, host.value or {})
                self._short_macs(self.layout.hosts[name], ("hosts", name))

    def _mapping(self, node: Node, path: Path) -> dict[str, Node]:
        """The node's mapping; a problem and nothing when it is something else."""
        if isinstance(node.value, dict):
            return node.value
        self._add(path, "must be a mapping of 'key: value' lines", at=(node.file, node.line))
        return {}

    def _is_mapping(self, node: Node, path: Path) -> bool:
        self._mapping(node, path)
        return isinstance(node.value, dict)

    def _short_macs(self, layer: Node, path: Path) -> None:
        """Write ``mac: X`` as ``macs: [X]``, so that layers merge."""
        interfaces = layer.value.get("interfaces") if isinstance(layer.value, dict) else None
        if interfaces is None or not isinstance(interfaces.value, dict):
            return
        for name, interface in interfaces.value.items():
            if not isinstance(interface.value, dict) or "mac" not in interface.value:
                continue
            mac = interface.value["mac"]
            if "macs" in interface.value:
                where = (*path, "interfaces", name, "mac")
                self._add(where, "both 'mac' and 'macs' are given", "keep one of them", (mac.file, mac.line))
            listed = Node(mac.file, mac.line, [mac])
            entries = ((("macs", listed) if k == "mac" else (k, v)) for k, v in interface.value.items())
            interface.value = dict(entries)

    # -- the site ------------------------------------------------------------------------------------------------

    def _site(self) -> Site | None:
        node = self.layout.site
        if node is None or not isinstance(node.value, dict):
            return None
        own = dict(node.value)
        defaults, groups = own.pop("defaults", None), own.pop("groups", None)
        if defaults is not None and defaults.value is not None and self._is_mapping(defaults, ("site", "defaults")):
            self.layout.defaults = defaults
            self._short_macs(defaults, ("site", "defaults"))
        if groups is not None and groups.value is not None:
            self._take_groups(groups)
        certificates = self._certificates(own)
        data = {key: value.plain() for key, value in own.items()}
        if certificates is not None:
            data["ca_certificates"] = certificates
        return self._validated(Site, data, Node(node.file, node.line, own), ("site",), {"domain": "invalid"})

    def _take_groups(self, groups: Node) -> None:
        for name, group in self._mapping(groups, ("site", "groups")).items():
            path = ("site", "groups", name)
            if group.value is None or self._is_mapping(group, path):
                self.layout.groups[name] = Node(group.file, group.line, group.value or {})
                self._short_macs(self.layout.groups[name], path)

    def _certificates(self, own: dict[str, Node]) -> list[str] | None:
        """All CA certificates as canonical PEM; None when they are written in no readable form."""
        texts, named = own.get("ca_certificates"), own.pop("ca_certificate_files", None)
        if texts is not None and not isinstance(texts.value, list):
            return None
        found: list[str] = []
        for index, node in enumerate(texts.value if texts and isinstance(texts.value, list) else ()):
            path = ("site", "ca_certificates", index)
            if isinstance(node.value, str):
                found += self._authorities(node, path, node.value.encode())
            else:
                self._add(path, "must be a certificate as PEM text", "begin it with '- |'", (node.file, node.line))
        if named is not None and named.value is not None:
            found += self._certificate_files(named)
        return list(dict.fromkeys(found))

    def _certificate_files(self, named: Node) -> list[str]:
        path: Path = ("site", "ca_certificate_files")
        if not isinstance(named.value, list):
            self._add(path, "must be a list of paths", at=(named.file, named.line))
            return []
        found: list[str] = []
        for index, node in enumerate(named.value):
            content = self.attachments[named.file].attachments.get(str(node.value))
            if content is None:
                fact = f"the certificate file {quoted(node.value)} is not there, or cannot be read"
                remedy = "give its path from this file on, and look at its mode and size"
                self._add((*path, index), fact, remedy, (node.file, node.line))
            else:
                found += self._authorities(node, (*path, index), content)
        return found

    def _authorities(self, node: Node, path: Path, text: bytes) -> list[str]:
        try:
            return authorities(dotted(path), text, self.now)
        except Invalid as error:
            self._add(path, error.fact, error.remedy, (node.file, node.line))
            return []

    # -- hosts ---------------------------------------------------------------------------------------------------

    def _layer(self, layer: Node, path: Path) -> None:
        """Check defaults or a group by themselves, as a host with a name and MACs of no account."""
        data = layer.plain()
        self._no_name(data, path)
        for part in ("interfaces", "labels"):
            if isinstance(data.get(part), dict):
                # An empty entry takes away what an earlier layer of some host gives.
                data[part] = {key: value for key, value in data[part].items() if value is not None}
        interfaces = data.get("interfaces") or {"any": {}}
        for interface in interfaces.values() if isinstance(interfaces, dict) else ():
            if isinstance(interface, dict):
                interface.setdefault("macs", [_DUMMY_MAC])
        before = len(self.problems)
        self._validated(Host, {**data, "interfaces": interfaces, "name": "any"}, layer, path)
        self.inherited |= {(p.file, p.line, p.fact) for p in self.problems[before:]}

    def _no_name(self, data: dict[str, Any], path: Path) -> None:
        if data.pop("name", None) is not None:
            self._add((*path, "name"), "a host's name is its key under 'hosts'", "leave 'name' out")

    def _host(self, name: str) -> Host | None:
        self._members(name)
        node = self.layout.merged(name)
        data = node.plain()
        data.pop("groups", None)
        self._no_name(data, ("hosts", name))
        data["name"] = name
        return self._validated(Host, data, node, ("hosts", name))

    def _members(self, name: str) -> None:
        host = self.layout.hosts[name].value
        groups = host.get("groups") if isinstance(host, dict) else None
        if groups is None or groups.value is None:
            return
        if not isinstance(groups.value, list):
            self._add(("hosts", name, "groups"), "must be a list", "write it as [group]", (groups.file, groups.line))
            self._lacks_a_group(name)
            return
        for index, node in enumerate(groups.value):
            if str(node.value) not in self.layout.groups and self.layout.site is not None:
                fact, remedy = f"unknown group {quoted(node.value)}", nearest(str(node.value), self.layout.groups)
                self._add(("hosts", name, "groups", index), fact, remedy, (node.file, node.line))
        known = [str(node.value) for node in groups.value if str(node.value) in self.layout.groups]
        self.layout.members[name] = tuple(dict.fromkeys(known))
        if len(known) < len(groups.value):
            self._lacks_a_group(name)

    def _lacks_a_group(self, name: str) -> None:
        """What the host does not have may be in the group that is meant, so any part of it may be cut."""
        self.unreadable.add(("hosts", name))

    # -- models --------------------------------------------------------------------------------------------------

    def _validated(
        self, model: type[_M], data: dict[str, Any], node: Node, prefix: Path, stand_ins: Mapping[str, Any] = _NOTHING
    ) -> _M | None:
        """The model; when parts of it are wrong, they are noted and the rest is tried, so that rules can see it."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            found = complaints(error, model, node, INVENTORY)
        for complaint in found:
            self._complain(complaint, node, prefix)
        rest, cuts = without(model, data, found, stand_ins)
        for path in cuts:
            self.unreadable.add((*prefix, *path))
        return rest

    def _complain(self, complaint: Complaint, node: Node, prefix: Path) -> None:
        path, fact, remedy, kind = complaint
        if kind == "extra_forbidden":
            self.unreadable.add_unknown((*prefix, *path))
        file, line = place(node, path)
        if kind == "missing" and prefix[0] == "hosts":
            # What a host lacks is to be added at the host, also when the rest of that mapping is inherited.
            file, line = place(self.layout.hosts[str(prefix[1])], path)
        if (file, line, fact) not in self.inherited:
            self._add((*prefix, *path), fact, remedy, (file, line))
