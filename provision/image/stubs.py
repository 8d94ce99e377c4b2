"""Stand-ins for libraries whose size is out of proportion to their use: all symbols there, nothing behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from provision.errors import Problem
from provision.image import elf, patterns, tree
from provision.image.recipe import Opens, Rule
from provision.image.tree import Node, Tree


def nodes(rules: Iterable[Rule], packages: Tree) -> tuple[list[Node], list[Problem]]:
    """A stub for every library that a pattern of the rules matches, and what is wrong with the patterns."""
    found: list[Node] = []
    problems: list[Problem] = []
    for rule in rules:
        made = list(_made(rule.pattern, packages))
        found += made
        if not made:
            fact = "no package has such a library"
            problems.append(Problem(rule.file, rule.line, rule.pattern, fact, "correct or delete it"))
    return found, problems


def opened(rules: Iterable[Rule], allowed: Sequence[Opens], image: Mapping[str, Node]) -> Iterator[Problem]:
    """The stubs of the rules that a file of an image opens by name while it runs, unless it is `allowed` to.

    Whoever is linked to a library has it as a stub, and calls none of it on a host. Whoever opens one by name asks
    first whether it is there, and does without it if not: a stub makes them believe that it is, and answers 0.
    """
    stubbed = {path: rule for rule in rules for path, node in image.items() if _is_stub(rule.pattern, node)}
    names = {name: path for path in stubbed for name in _names(path, image[path].content.read())}
    for path, node in sorted(image.items()):
        if names and node.is_file and path not in stubbed and not path.endswith(".ko"):
            for name in sorted(_opens(path, node.content.read(), names)):
                stub = names[name]
                if not any(_matches(each, path, stub) for each in allowed):
                    rule = stubbed[stub]
                    fact = f"makes /{stub} a stub, which /{path} opens while it runs and takes for the library"
                    remedy = f"keep the library, drop /{path}, or name it in 'opens_stubs' if no host gets that far"
                    yield Problem(rule.file, rule.line, rule.pattern, fact, remedy)


def _is_stub(pattern: str, node: Node) -> bool:
    is_own = node.is_file and node.source == tree.OWN
    return is_own and patterns.matches(pattern, f"/{node.path}") and elf.is_elf(node.content.read())


def _names(path: str, data: bytes) -> set[str]:
    """What a library can be opened by."""
    return {name for name in (elf.dynamic(data).soname, path.rpartition("/")[2]) if name}


def _opens(path: str, data: bytes, names: Iterable[str]) -> set[str]:
    """Which of the libraries a file opens: as it says itself, or by strings in it, as few say anything."""
    if elf.is_elf(data):
        said = {name for one in elf.dlopens(data) for name in one.names}
        return said.intersection(names) | elf.mentioned(data, names)
    if path.endswith(".py"):
        # In quotes in a source, behind its length in bytecode.
        return {n for n in names if any(f"{a}{n}{b}".encode() in data for a, b in ('""', "''", (chr(len(n)), "")))}
    return set()


def _matches(allowed: Opens, path: str, stub: str) -> bool:
    opens = any(patterns.matches(pattern, f"/{stub}") for pattern in allowed.opens)
    return opens and patterns.matches(allowed.by, f"/{path}")


def _made(pattern: str, packages: Tree) -> Iterator[Node]:
    for path, node in packages.items():
        if not node.is_file or not patterns.matches(pattern, f"/{path}"):
            continue
        if node.source == tree.OWN:
            # In a finished image it is a stub already, which does not say its symbols' names a second time.
            yield node
        else:
            data = node.content.read()
            if elf.is_elf(data):
                soname = elf.dynamic(data).soname or path.rsplit("/", 1)[-1]
                yield tree.file(path, elf.stub(soname, elf.exported(data), elf.versions(data)))
