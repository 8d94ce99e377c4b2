"""Imports point one way, each outside thing has one door, and files stay short enough to be read at once."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

PACKAGE = ROOT / "provision"

# From the ground up. A unit (a module or a package directly below `provision`) imports from lower rows only.
LAYERS = (
    ("errors",),
    ("confined",),
    ("secret", "proc", "below", "clock", "assets", "document", "places", "server_names", "toml_lines"),
    ("writing",),
    ("messages",),
    # The domain.
    ("model", "principal"),
    ("boot", "denial", "enrolled_tpm", "link", "site_key", "slots", "ticket", "token"),
    ("host",),
    ("site",),
    (
        "cmdline",
        "boot_paths",
        "accounts",
        "link_rules",
        "peer_rules",
        "state_rules",
        "stored",
        "enrolment_rules",
        "settings_rules",
        "update_rules",
        "window_rules",
        "wrapping_rules",
    ),
    # What the operator's application takes and answers; web and command line share it.
    ("api",),
    ("policy",),
    # The parts: each knows the domain, and none of its neighbours.
    ("settings", "cpio", "gssapi", "key_pairs", "keytab", "pem", "seed_signature", "signed_file", "ustar"),
    ("inventory", "media", "net", "netcheck", "credential", "render", "store", "tls", "lab", "bmc", "tpm"),
    ("seed", "credential_files"),
    ("sealed_seed", "signed_seed", "update"),
    ("image",),
    # Everything together, then its faces.
    ("service",),
    ("edge",),
    ("web", "tftp"),
    ("server",),
    ("demo",),
    ("cli",),
)
RANK = {unit: rank for rank, row in enumerate(LAYERS) for unit in row}

# What only the named files or directories may use, and why when that is not plain.
DOORS = {
    "jinja2": ("render/", "image/page.py", "web/pages/"),  # pages are for people: values are escaped, not refused
    "pycdlib": ("media/",),
    "pefile": ("media/signing.py",),
    "sqlalchemy": ("store/",),
    "sqlite3": ("store/dialect.py",),
    "pyroute2": ("net/",),
    "yaml": ("document.py",),
    # Bills of materials, and the licences in them.
    "cyclonedx": ("image/bom.py", "image/licences.py"),
    "packageurl": ("image/bom.py",),
    "debian": ("image/licences.py", "image/packages.py"),
    "dns": ("netcheck.py",),
    "fastapi": ("web/",),
    "starlette": ("web/",),
    "uvicorn": ("web/",),
    "httptools": ("web/",),
    "ssl": (
        "tls/",
        # Which give each connection what `tls/` has made, and encrypt by it.
        "web/entrance.py",
        "web/encrypted.py",
        # The other end: what a server shows and has to prove.
        "cli/chain.py",
        "cli/trust.py",
        "cli/enrolment.py",
        "cli/client.py",
        "bmc/",  # BMCs are known by certificates of their own
    ),
    "uvloop": ("web/", "server/run.py"),
    "prometheus_client": ("service/metrics.py",),
    "httpx": (
        *("cli/client.py", "cli/alone.py"),
        "cli/ticket.py",  # which authenticates what the client asks
        "server/webhooks.py",  # which tells others of events
    ),
    "http.client": ("bmc/connection.py",),
    "typer": ("cli/",),
    "rich": ("cli/",),
    # lab/processes.py keeps programs running beside the laboratory; proc.py runs a program to its end.
    "subprocess": ("proc.py", "lab/processes.py"),
    "shutil.rmtree": ("below.py",),
    "os.system": (),
    "os.popen": (),
    "os.fork": (),
    "pty": (),
    "asyncio.create_subprocess_exec": (),
    "asyncio.create_subprocess_shell": (),
    "os.environ": (
        "settings.py",
        "proc.py",  # hands a fixed few variables on to tools
        "store/keys.py",  # systemd says by $CREDENTIALS_DIRECTORY where the master key is
        "server/run.py",  # $NOTIFY_SOCKET, by which systemd asks to be told that the service is ready
        "image/cache.py",  # $XDG_CACHE_HOME, where built images and their packages are kept
    ),
    "os.getenv": (),
    "os.environb": (),
    "os.putenv": (),
    "datetime.datetime.now": ("clock.py",),
    "datetime.datetime.utcnow": (),
    "datetime.datetime.today": (),
    "datetime.date.today": (),
    "time.time": (),
    "time.time_ns": (),
    "time.localtime": (),
    "time.gmtime": (),
    "time.ctime": (),
    "time.strftime": (),
}

MAX_LINES, LONG_LINES, LONG_FUNCTION = 400, 300, 40


def sources(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def aliases(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for, dotted: `from datetime import datetime as d` gives d: datetime.datetime."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module or name that the file imports, dotted, wherever the statement stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def used(tree: ast.Module) -> Iterator[str]:
    """Every dotted name that the file imports, or reaches through what it imports."""
    yield from imported(tree)
    names = aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            dotted = _dotted(node)
            if dotted is not None and dotted.partition(".")[0] in names:
                head, _, rest = dotted.partition(".")
                yield f"{names[head]}.{rest}"


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return f"{base}.{node.attr}" if base else None
    return None


def unit_of(dotted: str) -> str | None:
    """The unit of `provision` that a dotted name belongs to; None for the package itself and other packages."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "provision" and len(parts) > 1 else None


def upward(unit: str, tree: ast.Module) -> list[str]:
    """The imports of a file of `unit` that do not point down."""
    found = {unit_of(name) for name in imported(tree)} - {None, unit, "__version__"}
    return sorted(str(other) for other in found if other not in RANK or RANK[str(other)] >= RANK[unit])


# Why a circle of modules inside a package is right.
CIRCLES = {
    frozenset({"provision.web.gate", "provision.web.protocol"}): (
        "a gate holds connections, and each of them knows its gate; only the type checker follows the way back"
    ),
}
# Modules that are named in a text and loaded when they are needed: `provision.cli.commands` has a table of them.
_NAMED = re.compile(r"(provision(?:\.\w+)+):\w+")


def module_of(path: Path) -> str:
    """The dotted name of a file of the package."""
    parts = ("provision", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def loaded(tree: ast.Module, modules: Collection[str]) -> set[str]:
    """The `modules` that a file imports, wherever the statement stands, or names for its loading."""
    names = {name if name in modules else name.rpartition(".")[0] for name in imported(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := _NAMED.fullmatch(node.value)):
            names.add(found[1])
    return names & set(modules)


def circles(graph: Mapping[str, Collection[str]]) -> set[frozenset[str]]:
    """The sets of modules each of which leads to all others of its set."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen, waiting = set[str](), [start]
        while waiting:
            new = set(graph[waiting.pop()]) - seen
            seen |= new
            waiting += new
        reached[start] = seen
    return {frozenset(m for m in seen if one in reached[m]) for one, seen in reached.items() if one in seen}


def through_walls(path: str, tree: ast.Module) -> list[str]:
    """What a file (relative to the package) uses although others are its door."""
    found = set()
    for name in used(tree):
        for thing, doors in DOORS.items():
            if (name == thing or name.startswith(f"{thing}.")) and not path.startswith(tuple(doors)):
                found.add(thing)
    return sorted(found)


def test_every_unit_has_its_layer() -> None:
    units = {p.name.removesuffix(".py") for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert units - {"__init__", "__main__"} == set(RANK), "give a new module its row in LAYERS"


def packages() -> list[str]:
    """Every package below `provision`, as the design page writes it: "image/trial/"."""
    return sorted(f"{p.parent.relative_to(PACKAGE)}/" for p in PACKAGE.rglob("__init__.py") if p.parent != PACKAGE)


@pytest.mark.parametrize("package", packages())
def test_the_design_names_every_module_of_a_package(package: str) -> None:
    rows = [row for row in (ROOT / "docs/design.md").read_text().splitlines() if row.startswith(f"| `{package}`")]
    named = set(re.findall(r"`([a-z_0-9]+)`", " ".join(rows)))
    assert {path.stem for path in (PACKAGE / package).glob("*.py")} - {"__init__"} == named


def test_the_design_gives_every_unit_its_layer() -> None:
    layers = (ROOT / "docs/design.md").read_text().partition("## Layers")[2].partition("module by module")[0]
    named = set(re.findall(r"`([a-z_]+)(?:\.py|/)`", layers))
    assert named == set(RANK)


@pytest.mark.parametrize("unit", RANK)
def test_imports_point_down(unit: str) -> None:
    files = [path for path in (PACKAGE / f"{unit}.py",) if path.exists()] or sources(PACKAGE / unit)
    assert files
    assert {str(p.relative_to(PACKAGE)): up for p in files if (up := upward(unit, parsed(p)))} == {}


def test_no_modules_import_each_other_in_a_circle() -> None:
    files = {module_of(path): path for path in sources(PACKAGE)}
    graph = {module: loaded(parsed(path), files) - {module} for module, path in files.items()}
    assert circles(graph) == set(CIRCLES)


def test_a_circle_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": ()}) == {frozenset("bc")}
    text = "def f():\n    from provision.cli import output\nA = 'provision.cli.media:iso'\nimport provision.errors"
    modules = ("provision.cli", "provision.cli.output", "provision.cli.media", "provision.errors")
    assert loaded(ast.parse(text), modules) == set(modules) - {"provision.cli"}


def test_each_outside_thing_has_one_door() -> None:
    found = {}
    for path in sources(PACKAGE):
        relative = path.relative_to(PACKAGE).as_posix()
        if through := through_walls(relative, parsed(path)):
            found[relative] = through
    assert found == {}


def test_every_door_is_one() -> None:
    doors = {door for doors in DOORS.values() for door in doors}
    assert [door for door in sorted(doors) if not (PACKAGE / door).exists()] == []


@pytest.mark.parametrize(
    ("path", "text", "thing"),
    [
        ("web/boot_app.py", "from sqlalchemy.orm import Session", "sqlalchemy"),
        ("service/core.py", "import os as o\no.environ['A']", "os.environ"),
        ("service/core.py", "from os import environ", "os.environ"),
        ("seed.py", "from datetime import datetime as d\nd.now()", "datetime.datetime.now"),
        ("seed.py", "import datetime\ndatetime.datetime.now()", "datetime.datetime.now"),
        ("seed.py", "def f():\n    from time import time\n    return time()", "time.time"),
        ("media/iso.py", "import subprocess", "subprocess"),
        ("tftp/handler.py", "import asyncio\nasyncio.create_subprocess_exec('x')", "asyncio.create_subprocess_exec"),
    ],
)
def test_a_wall_is_seen(path: str, text: str, thing: str) -> None:
    assert through_walls(path, ast.parse(text)) == [thing]


def test_what_is_allowed_is_allowed() -> None:
    text = (
        "import time\nimport os\nfrom datetime import datetime\ntime.monotonic()\nos.fsync(1)\ndatetime.fromtimestamp"
    )
    assert through_walls("service/core.py", ast.parse(text)) == []
    assert through_walls("store/schema.py", ast.parse("import sqlalchemy")) == []


def test_an_import_upwards_is_seen() -> None:
    tree = ast.parse(
        "def f():\n    from provision.web import boot_app\nfrom provision import cli\nimport provision.errors"
    )
    assert upward("store", tree) == ["cli", "web"]
    assert upward("store", ast.parse("from provision.render.grub import x")) == ["render"], "neighbours do not mix"


# Who gives a file or a directory its name, and why not provision/writing.py.
RENAMES = {
    "writing.py": "the door",
    "store/segments.py": "the log's next file takes its place, and the one before keeps a number",
    "media/library.py": "a base is a directory, which takes a damaged one's place",
    "image/publish.py": "the same for an image",
    "image/build.py": "the files of an image, which are large and made beside",
    "image/cache.py": "what was made in a temporary directory, file or directory",
    "image/packages.py": "apt downloads to names of its own",
    "tls/files.py": "a certificate that waits for its key, also for a process that was killed",
    "service/images.py": "uploads that are in the state directory already",
}


def renames(tree: ast.AST) -> bool:
    """Path.rename, os.replace, and Path.replace, which unlike str.replace takes one argument."""
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    return any(
        ast.unparse(call.func) == "os.replace"
        or str(getattr(call.func, "attr", "")) in ("rename", "renames")
        or (getattr(call.func, "attr", "") == "replace" and len(call.args) == 1 and not call.keywords)
        for call in calls
    )


def test_files_get_their_names_through_one_door() -> None:
    found = {path.relative_to(PACKAGE).as_posix() for path in sources(PACKAGE) if renames(parsed(path))}
    assert found == set(RENAMES)
    assert all(renames(ast.parse(text)) for text in ("path.rename(other)", "path.replace(other)", "os.replace(a, b)"))
    assert not renames(ast.parse("text.replace('b', 'c'); replace(one, name=two); one.replace(name=two)"))


def test_files_are_short() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines())
        for top in ("provision", "tests", "bench")
        for path in sources(ROOT / top)
    }
    assert {path: n for path, n in lengths.items() if n > MAX_LINES} == {}
    if long := {path: n for path, n in lengths.items() if n > LONG_LINES}:
        warnings.warn(f"files of more than {LONG_LINES} lines: {long}", stacklevel=1)


def test_functions_are_short() -> None:
    long = {
        f"{path.relative_to(PACKAGE)}:{node.name}": lines
        for path in sources(PACKAGE)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > LONG_FUNCTION
    }
    assert long == {}
