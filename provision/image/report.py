"""`report.json`: what an image is made of, what was left out and by which rule; for people's page and for diffs."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from provision.image import bytecode
from provision.image.gather import Gathered
from provision.image.lock import Lock
from provision.image.named import named
from provision.image.need import Compiled
from provision.image.recipe import Action, Loaded
from provision.image.selection import Decision
from provision.image.tree import OWN, Node

FORMAT = 1
_OTHER = "other libraries and programs"


def report(
    about: Mapping[str, Any],
    loaded: Loaded,
    locked: Lock,
    gathered: Gathered,
    origins: Mapping[str, Mapping[str, Any]],
    differing: list[str],
) -> Any:
    """All of it as JSON can hold it; sizes in bytes. `origins` as in `origin`, for every package of the image.

    `packed` of a package is its share of the packed root file system, by what its files come to one by one. What the
    initramfs hands over counts there, and not here.
    """
    files = [_file(node, gathered) for node in gathered.nodes.values() if not node.is_directory]
    total = sum(row["weight"] for row in files) or 1
    scale = about["root_size"] / total
    for row in files:
        row["packed"] = round(row.pop("weight") * scale)
    versions = {package.name: package.version for package in locked.packages}
    packages = _packages(files, versions, origins)
    return {
        "format": FORMAT,
        "image": dict(about),
        "groups": _groups(packages, loaded.recipe.report_groups, about),
        "packages": packages,
        "files": files,
        "dropped": _dropped(gathered),
        "named": named(gathered.nodes, gathered.packages),
        "idle_rules": [str(rule) for rule in gathered.selection.idle],
        "recipe": {"name": loaded.name, "text": loaded.text, "release": loaded.release},
        "tools": locked.tools,
        "tool_differences": differing,
    }


def _file(node: Node, gathered: Gathered) -> dict[str, Any]:
    data, compiled = node.content.read(), node.content if isinstance(node.content, Compiled) else None
    path = compiled.source if compiled else node.path
    reason = gathered.closure.kept.get(path)
    decision = gathered.selection.decisions.get(path)
    why = f"/{reason.by} needs {reason.what}" if reason and reason.by else str(decision) if decision else "made here"
    return {
        "path": f"/{node.path}",
        "package": node.source,
        "mode": f"{node.mode & 0o7777:04o}",
        "size": 0 if node.is_link else len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "why": "the recipe brings it" if node.source == OWN else why,
        "weight": 0 if node.path in gathered.handed | gathered.together else len(zlib.compress(data, 1)),
        **(_compiled(compiled) if compiled else {}),
    }


def _compiled(content: Compiled) -> dict[str, Any]:
    """Of bytecode the module that it was made of, and what that needs: path, in words as what, and how hard."""
    needs = [[f"/{need.path}", need.what, need.hard] for need in content.needs]
    return {"compiled": {"source": f"/{content.source}", "needs": needs}}


def _packages(
    files: Iterable[Mapping[str, Any]], versions: Mapping[str, str], origins: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in files:
        name = row["package"]
        said = {"name": name, "version": versions.get(name, ""), **origins.get(name, {})}
        entry = found.setdefault(name, said | {"files": 0, "size": 0, "packed": 0})
        entry["files"] += 1
        entry["size"] += row["size"]
        entry["packed"] += row["packed"]
    return sorted(found.values(), key=lambda entry: (-entry["packed"], entry["name"]))


def _groups(
    packages: Iterable[Mapping[str, Any]], groups: Mapping[str, tuple[str, ...]], about: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Every byte of the image by group: the kernel, the packages of each group, and what loads the root."""
    sizes = dict.fromkeys(groups, 0) | {_OTHER: 0}
    for package in packages:
        name = package["name"]
        group = next((g for g, patterns in groups.items() if any(fnmatchcase(name, p) for p in patterns)), _OTHER)
        sizes[group] += package["packed"]
    sizes["kernel"] = about["files"]["vmlinuz"]["size"]
    sizes["initramfs"] = about["files"]["initrd"]["size"] - about["root_size"]
    return [
        {"name": name, "packed": size} for name, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    ]


def _dropped(gathered: Gathered) -> list[dict[str, Any]]:
    """What is not in the image, by the rule that kept it out, the largest first."""
    found: dict[str, dict[str, Any]] = {}
    here = {*gathered.nodes, *filter(None, map(bytecode.source_of, gathered.nodes.values()))}
    for path, decision in gathered.selection.decisions.items():
        node = gathered.packages.get(path)
        if node is None or path in here or path.startswith("boot/vmlinuz-"):
            continue
        said = _why_out(decision)
        entry = found.setdefault(said, {"rule": said, "files": 0, "size": 0, "paths": []})
        entry["files"] += 1
        entry["size"] += node.content.size if node.is_file else 0
        entry["paths"].append(f"/{path}")
    return sorted(found.values(), key=lambda entry: (-entry["size"], entry["rule"]))


def _why_out(decision: Decision) -> str:
    if decision.action is Action.NEEDED:
        return f"{decision}: nothing needs it"
    return str(decision) if decision.action is Action.DROP else "made anew from what is kept"
