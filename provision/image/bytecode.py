"""Python modules of an image -> their bytecode, by the image's own interpreter: no start of a host compiles any.

Of the standard library the image has bytecode alone, where the sources would be. The project's own modules keep their
sources, for people to read and to edit: theirs is beside them, and counts only for the source that it was made of.
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from provision import cpio, proc
from provision.errors import NotFound, Unavailable
from provision.image import needs_elf, tree
from provision.image.cache import Cache, digest
from provision.image.closure import needs_of
from provision.image.need import Compiled, Need, Surroundings
from provision.image.python_modules import name_of
from provision.image.tree import Node, Tree

_PYTHON = "usr/bin/python3"
_VERSION = re.compile(r"usr/bin/python3\.(\d+)")
_LIBRARY = re.compile(r"usr/lib/python3\.\d+/(?!dist-packages/).*\.py")
_PROJECT = re.compile(r"usr/lib/provision/[^/]+\.py")
_KEPT = 8

# PEP 552: bytecode without a source is compared with nothing, and has zeros for its hash. Bytecode beside its source is
# compared by hash, which costs a start next to nothing, and not by time and size: a seed and the initramfs put files
# onto a host with other times than the image's.
_UNCHECKED, _CHECKED = 1, 3

# What marshal writes depends on how many references there are to a constant, also from elsewhere in the interpreter. So
# each module is compiled in a fork of the same, new process: whatever else is compiled then makes no difference.
# Columns are left out (-X no_debug_ranges), since there is no source to point into. CPython's tables of lines then say
# the same line again and again (Objects/locations.md); once is enough, or the image were larger than with sources.
_PROGRAM = """\
import marshal, posix, sys
from _frozen_importlib_external import MAGIC_NUMBER
from _imp import source_hash
def lines(code):
    found = []
    for start, end, line in code.co_lines():
        if found and found[-1][1] == line:
            found[-1][0] += end - start
        else:
            found.append([end - start, line])
    return found
def number(value):
    found = []
    while value >= 64:
        found.append(value & 63 | 64)
        value >>= 6
    return bytes([*found, value])
def table(code):
    found, last = [], code.co_firstlineno
    for size, line in lines(code):
        for left in range(size // 2, 0, -8):
            if line is None:
                found.append(bytes([0xF8 | min(left, 8) - 1]))
            else:
                delta, last = line - last, line
                found.append(bytes([0xE8 | min(left, 8) - 1]) + number(abs(delta) << 1 | (delta < 0)))
    return b"".join(found)
def short(code):
    constants = tuple(short(each) if type(each) is type(code) else each for each in code.co_consts)
    made = code.replace(co_consts=constants, co_linetable=table(code))
    return made if lines(made) == lines(code) else code
def one(line):
    number, optimize, flags, path = line.decode().rstrip("\\n").split("\\t")
    with open("source-" + number, "rb") as file:
        source = file.read()
    try:
        code = compile(source, path, "exec", 0, True, int(optimize))
    except (SyntaxError, ValueError):
        return
    head = MAGIC_NUMBER + int(flags).to_bytes(4, "little")
    head += source_hash(int.from_bytes(MAGIC_NUMBER, "little"), source) if int(flags) & 2 else bytes(8)
    with open("code-" + number, "wb") as file:
        file.write(head + marshal.dumps(short(code)))
for line in sys.stdin.buffer:
    child = posix.fork()
    if not child:
        one(line)
        posix._exit(0)
    if posix.waitpid(child, 0)[1]:
        sys.exit(1)
"""


@dataclass(frozen=True)
class _Way:
    """How one module is compiled: to which path, with which of Python's levels of optimization, PEP 552's flags."""

    source: Node
    path: str
    optimize: int
    flags: int

    @property
    def is_alone(self) -> bool:
        """Whether the image has the bytecode instead of the source."""
        return self.path == f"{self.source.path}c"


def source_of(node: Node) -> str | None:
    """The path of the module that a file of an image is the bytecode of; None for any other file."""
    return node.content.source if isinstance(node.content, Compiled) else None


def compiled(kept: Mapping[str, Node], around: Surroundings, cache: Cache) -> dict[str, Node]:
    """The kept files with their modules compiled; what is not Python in the interpreter's eyes stays as it is.

    Bytecode of a finished image is taken as it is. Raises Unavailable when the image's interpreter does not run here.
    """
    result = dict(kept)
    for path, node in kept.items():
        if source_of(node) == path:
            del result[path]
            result[f"{path}c"] = replace(node, path=f"{path}c")
    interpreter = _interpreter(kept, around.tree)
    ways = list(_ways(result, interpreter)) if interpreter else []
    if interpreter and ways:
        made = _made(ways, _Python.of(interpreter, around), cache)
        for way in ways:
            if way.path in made:
                source, needs = way.source.path, tuple(_needs(way, kept, around))
                if way.is_alone:
                    del result[source]
                content = Compiled(tree.Literal(made[way.path]), source, needs)
                result[way.path] = replace(way.source, path=way.path, content=content)
    return result


def _needs(way: _Way, kept: Mapping[str, Node], around: Surroundings) -> Iterator[Need]:
    """What of the image a module needs that has no source there: bytecode tells a Python of its own version only."""
    for need in needs_of(way.source, around) if way.is_alone else ():
        try:
            if around.tree.walk(need.path)[0] in kept:
                yield need
        except NotFound:
            continue


def _interpreter(kept: Mapping[str, Node], everything: Tree) -> Node | None:
    path = everything.walk(_PYTHON)[0]
    return kept.get(path) if _VERSION.fullmatch(path) else None


def _ways(image: Mapping[str, Node], interpreter: Node) -> Iterator[_Way]:
    version = _VERSION.fullmatch(interpreter.path)
    tag = f"cpython-3{version[1] if version else ''}"
    # What a link leads to, such as a file of /etc, stays there.
    linked = {node.target for node in image.values() if node.is_link}
    for path, node in sorted(image.items()):
        if not node.is_file or path in linked:
            continue
        if _LIBRARY.fullmatch(path) and name_of(path):
            yield _Way(node, f"{path}c", 2, _UNCHECKED)
        elif _PROJECT.fullmatch(path):
            place = PurePosixPath(path)
            target = str(place.parent / "__pycache__" / f"{place.stem}.{tag}.pyc")
            # A finished image has it, and may have it no other way.
            if target not in image or source_of(image[target]) is None:
                yield _Way(node, target, 0, _CHECKED)


@dataclass(frozen=True)
class _Python:
    """The image's interpreter and all that it needs to come up, by where that is while it runs; `loader` starts it."""

    loader: str
    files: Mapping[str, Node]

    @classmethod
    def of(cls, interpreter: Node, around: Surroundings) -> _Python:
        """It and its libraries; and the text encodings, which it imports before anything else, all of them: nothing
        here may depend on what a recipe keeps."""
        files, pending, loader = {"python3": interpreter}, [interpreter], ""
        while pending:
            node = pending.pop()
            for need in needs_elf.needs(node, node.content.read(), around):
                name, found = need.path.rpartition("/")[2], around.tree.get(around.tree.walk(need.path)[0])
                loader = name if need.what.startswith("the interpreter") else loader
                if found is not None and name not in files:
                    files[name] = found
                    pending.append(found)
        library = f"usr/lib/{PurePosixPath(interpreter.path).name}/encodings"
        return cls(loader, files | {path: around.tree[path] for path in around.tree.below(library)})

    def run(self, ways: Sequence[_Way], scratch: Path) -> None:
        """Compile the modules to `code-0` and so on in an empty directory, in their order."""
        for path, node in self.files.items():
            (scratch / path).parent.mkdir(parents=True, exist_ok=True)
            (scratch / path).write_bytes(node.content.read())
        (scratch / self.loader).chmod(0o755)
        for number, way in enumerate(ways):
            (scratch / f"source-{number}").write_bytes(way.source.content.read())
        lines = [f"{number}\t{way.optimize}\t{way.flags}\t/{way.source.path}" for number, way in enumerate(ways)]
        # Its own directory is named by a variable, so it is not isolated (-I), but by what is not in its environment.
        argv = [str(scratch / self.loader), "--library-path", str(scratch), str(scratch / "python3")]
        argv += ["-B", "-P", "-S", "-s", "-X", "utf8", "-X", "no_debug_ranges", "-W", "ignore", "-c", _PROGRAM]
        env = {"PYTHONHOME": str(scratch / "usr"), "PYTHONHASHSEED": "0"}
        try:
            proc.run(argv, package="libc-bin", stdin="".join(f"{x}\n" for x in lines).encode(), cwd=scratch, env=env)
        except Unavailable as error:
            remedy = "build on amd64, with $XDG_CACHE_HOME where programs may run"
            raise Unavailable("the image's python3", f"does not run on this machine: {error.fact}", remedy) from None


def _made(ways: Sequence[_Way], python: _Python, cache: Cache) -> dict[str, bytes]:
    """The bytecode by path, made again only when a module or the interpreter changed."""
    files = [(path, _sha256(node)) for path, node in python.files.items()]
    modules = [(way.source.path, _sha256(way.source), way.path, way.optimize, way.flags) for way in ways]
    archive = cache.made("bytecode", digest(files, modules, _PROGRAM), partial(_compile, ways, python))
    cache.prune("bytecode", _KEPT)
    return {member.path: member.data for member in cpio.read(io.BytesIO(archive.read_bytes()), str(archive))}


def _compile(ways: Sequence[_Way], python: _Python, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="python-", dir=target.parent) as temporary:
        scratch = Path(temporary)
        python.run(ways, scratch)
        codes = {way.path: scratch / f"code-{number}" for number, way in enumerate(ways)}
        entries = [cpio.file(path, code.read_bytes()) for path, code in codes.items() if code.exists()]
    target.write_bytes(cpio.pack(cpio.tree(entries)))


def _sha256(node: Node) -> str:
    return hashlib.sha256(node.content.read()).hexdigest()
