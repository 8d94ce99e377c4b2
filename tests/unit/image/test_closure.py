"""What is kept brings along what it needs; what is needed and dropped names both rules."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from provision.image import elf
from tests.helpers.image_samples import TOP, closed, file, link, module, note, paths

ALL_NEEDED = "rules:\n  files:\n    - needed: [/**]\n    - keep: [/usr/bin/start]\n"
TRUE = Path("/bin/true").read_bytes()
LIB = "usr/lib/x86_64-linux-gnu"


def needing(*names: str) -> bytes:
    """A program of this machine, with other libraries for its own; names are padded to what stands there."""
    [library] = elf.dynamic(TRUE).needed
    [name] = names
    assert len(name) == len(library)
    return TRUE.replace(library.encode() + b"\0", name.encode() + b"\0")


def test_libraries_and_interpreter_of_a_program(tmp_path: Path) -> None:
    nodes = [
        file("usr/bin/start", needing("liba.so.1")),
        link(f"{LIB}/liba.so.1", "liba.so.1.2"),
        file(f"{LIB}/liba.so.1.2", elf.stub("liba.so.1", ())),
        file("usr/lib64/ld-linux-x86-64.so.2", "x"),
        file(f"{LIB}/libb.so.1", elf.stub("libb.so.1", ())),
    ]
    found = closed(nodes, ALL_NEEDED, tmp_path)
    assert found.problems == ()
    assert paths(found) == {node.path for node in nodes[:4]}
    assert found.kept[f"{LIB}/liba.so.1.2"].by == "usr/bin/start"
    missing = closed(nodes[:1] + nodes[3:], ALL_NEEDED, tmp_path)
    assert [str(p) for p in missing.problems] == [
        "recipe.yaml:6: /usr/bin/start needs the library liba.so.1, which no package has; drop /usr/bin/start too, "
        "or add the package that has it"
    ]


def test_a_needed_file_that_a_rule_drops_names_both_rules(tmp_path: Path) -> None:
    nodes = [
        file("usr/bin/start", "#!/usr/bin/mid\n"),
        file("usr/bin/mid", "#!/usr/bin/perl -w\n"),
        file("usr/bin/perl"),
    ]
    text = f"{ALL_NEEDED}    - drop: [/usr/bin/p*]\n"
    [problem] = closed(nodes, text, tmp_path).problems
    assert str(problem) == (
        "recipe.yaml:7: /usr/bin/p*: drops /usr/bin/perl, but /usr/bin/mid needs the interpreter /usr/bin/perl, and is "
        "kept by /usr/bin/start, 'keep /usr/bin/start' (recipe.yaml:6); drop /usr/bin/mid too, or keep /usr/bin/perl"
    )


def test_links_are_followed_also_in_the_middle_of_a_path(tmp_path: Path) -> None:
    nodes = [
        link("usr/bin/start", "/opt/current/start"),
        link("opt/current", "v2"),
        file("opt/v2/start"),
        link("usr/bin/loop", "loop"),
    ]
    assert paths(closed(nodes, ALL_NEEDED, tmp_path)) == {node.path for node in nodes[:3]}
    text = ALL_NEEDED.replace("bin/start", "bin/loop")
    assert "leads in a circle" in str(closed(nodes, text, tmp_path).problems)


def test_env_starts_another_program(tmp_path: Path) -> None:
    nodes = [file("usr/bin/start", "#!/usr/bin/env -S python3 -u\n"), file("usr/bin/env"), file("usr/bin/python3")]
    assert paths(closed(nodes, ALL_NEEDED, tmp_path)) == {node.path for node in nodes}
    unread = [file("usr/bin/start", "#!/usr/bin/gone\n", 0o644)]
    assert closed(unread, ALL_NEEDED, tmp_path).problems == (), "nobody can execute it"


def opener(priority: str) -> bytes:
    row = {"feature": "x", "priority": priority, "soname": ["libnone.so.2", "libopen.so.1"]}
    return note(0x407C0C0A, b"FDO", json.dumps([row]).encode())


@pytest.mark.parametrize("priority", ["required", "recommended", "suggested"])
def test_libraries_that_a_program_says_it_opens(tmp_path: Path, priority: str) -> None:
    library = file("usr/lib/x86_64-linux-gnu/libopen.so.1")
    start = file("usr/bin/start", opener(priority))
    found = closed([start, library], ALL_NEEDED, tmp_path)
    assert found.problems == () and (library.path in found.kept) is (priority != "suggested")
    gone = closed([start], ALL_NEEDED, tmp_path)
    dropped = closed([start, library], f"{ALL_NEEDED}    - drop: [/{library.path}]\n", tmp_path)
    for without in (gone, dropped):
        assert all("which it opens while it runs" in str(problem) for problem in without.problems)
        assert bool(without.problems) is (priority == "required")


@pytest.mark.parametrize(
    ("accept", "started"), [("yes", "x@.service"), ("no\nAccept=1", "x@.service"), ("no", "x.service")]
)
def test_a_socket_starts_a_service_or_one_for_each_connection(tmp_path: Path, accept: str, started: str) -> None:
    top = "usr/lib/systemd/system"
    nodes = [file(f"{top}/x.socket", f"[Socket]\nAccept={accept}\n", 0o644)]
    nodes += [file(f"{top}/{name}", "", 0o644) for name in ("x.service", "x@.service")]
    keep = ALL_NEEDED.replace("/usr/bin/start", f"/{top}/x.socket")
    assert paths(closed(nodes, keep, tmp_path)) == {f"{top}/x.socket", f"{top}/{started}"}


UNIT = (
    "[Unit]\nRequires=b.service\nWants=c.service\n[Service]\nExecStartPre=-/usr/bin/gone\nExecStart=+/usr/bin/run $X\n"
)


def test_units(tmp_path: Path) -> None:
    top = "usr/lib/systemd/system"
    nodes = [
        file(f"{top}/a.service", UNIT, 0o644),
        file(f"{top}/b.service", "[Service]\nExecStart=one \\\n two\n", 0o644),
        file(f"{top}/c.service", "", 0o644),
        file(f"{top}/d.service", "", 0o644),
        link(f"{top}/a.service.wants/d.service", "../d.service"),
        file(f"{top}/a.service.d/more.conf", "[Service]\nExecStartPost=/usr/bin/post\n", 0o644),
        file(f"{top}/t@.socket", "", 0o644),
        file(f"{top}/t@.service", "", 0o644),
        link("etc/systemd/system/x.wants/t@1.socket", f"/{top}/t@.socket"),
        *(file(f"usr/bin/{name}") for name in ("run", "one", "post")),
        file(f"{top}/e.service", "", 0o644),
    ]
    keep = ALL_NEEDED.replace("/usr/bin/start", f"/{top}/a.service, /etc/**")
    found = closed(nodes, keep, tmp_path)
    assert found.problems == ()
    assert paths(found) == {node.path for node in nodes[:-1]}
    soft = closed(nodes, f"{keep}    - drop: [/{top}/c.service]\n", tmp_path)
    assert soft.problems == () and f"{top}/c.service" not in soft.kept, "a wish gives way to a rule"
    [hard] = closed(nodes, f"{keep}    - drop: [/usr/bin/run]\n", tmp_path).problems
    assert "/usr/lib/systemd/system/a.service needs the program /usr/bin/run" in str(hard)


def test_python_imports(tmp_path: Path) -> None:
    top = "usr/lib/python3.11"
    nodes = [
        file("usr/bin/start", "#!/usr/bin/python3\nimport json.decoder\n"),
        file("usr/bin/python3"),
        file(f"{top}/json/__init__.py", "from .encoder import x\nfrom . import scanner\n", 0o644),
        file(f"{top}/json/decoder.py", "try:\n    import _json\nexcept ImportError:\n    pass\n", 0o644),
        file(f"{top}/json/encoder.py", "", 0o644),
        file(f"{top}/json/scanner.py", "import sys\n", 0o644),
        file(f"{top}/lib-dynload/_json.cpython-311-x86_64-linux-gnu.so", "x", 0o644),
        file(f"{top}/json/tool.py", "", 0o644),
    ]
    found = closed(nodes, ALL_NEEDED, tmp_path)
    assert found.problems == () and paths(found) == {node.path for node in nodes[:-1]}
    python = "  python:\n    - drop: [{}]\n"
    rules = "rules:\n  packages:\n    - needed: ['*']\n  files:\n    - keep: [/usr/bin/start]\n"
    optional = closed(nodes, rules + python.format("_json"), tmp_path)
    assert optional.problems == () and nodes[6].path not in optional.kept
    [problem] = closed(nodes, rules + python.format("json.encoder"), tmp_path).problems
    assert "drops /usr/lib/python3.11/json/encoder.py" in str(problem)


def test_nothing_needs_the_files_of_what_is_in_the_interpreter_itself(tmp_path: Path) -> None:
    top = "usr/lib/python3.11/importlib"
    nodes = [
        file(f"{top}/__init__.py", "from . import _bootstrap\n", 0o644),
        file(f"{top}/util.py", "from ._bootstrap_external import x\nfrom . import abc\n", 0o644),
        *(file(f"{top}/{name}.py", "", 0o644) for name in ("abc", "_bootstrap", "_bootstrap_external")),
    ]
    dropped = "rules:\n  python:\n    - drop: [importlib._bootstrap, importlib._bootstrap_external]\n"
    found = closed(nodes, dropped, tmp_path)
    assert found.problems == () and paths(found) == {node.path for node in nodes[:3]}


MODULES = [
    module("scsi/iscsi_tcp", depends="libiscsi"),
    module("scsi/libiscsi", softdep="pre: crc32c"),
    module("lib/crc32c_generic", alias="crypto-crc32c", softdep=""),
    module("lib/libcrc32c", alias="crc32c"),
    module("fs/xfs", depends=""),
]
KEEP_ISCSI = "rules:\n  modules:\n    - needed: ['*']\n    - keep: [iscsi-tcp]\n"


def test_imports_of_a_python_that_is_newer_than_this_one(tmp_path: Path) -> None:
    text = (
        "x = (\n"
        "import plain, other.inner as o\n"
        "from many import (\n    first,\n    second,\n)\n"
        "import in prose\n"
        "def f():\n    from lazy import it\n"
    )
    with pytest.raises(SyntaxError):
        ast.parse(text)
    top = "usr/lib/python3.13"
    names = ("plain", "other/__init__", "other/inner", "many/__init__", "many/second", "lazy", "absent")
    nodes = [file("usr/bin/start", f"#!/usr/bin/python3\n{text}"), file("usr/bin/python3")]
    nodes += [file(f"{top}/{name}.py", "") for name in names]
    found = closed(nodes, ALL_NEEDED, tmp_path)
    assert found.problems == ()
    assert paths(found) == {node.path for node in nodes} - {f"{top}/absent.py"}
    # At the top of the module a rule that drops it is an error, inside a function it is not.
    rules = "rules:\n  packages:\n    - needed: ['*']\n  files:\n    - keep: [/usr/bin/start]\n"
    rules += "  python:\n    - drop: [{}]\n"
    assert closed(nodes, rules.format("plain"), tmp_path).problems
    assert not closed(nodes, rules.format("lazy"), tmp_path).problems


def kernel(names: str) -> set[str]:
    return {node.path for node in MODULES if node.path.rsplit("/", 1)[-1].removesuffix(".ko") in names.split()}


def test_kernel_modules(tmp_path: Path) -> None:
    assert paths(closed(MODULES, KEEP_ISCSI, tmp_path)) == kernel("iscsi_tcp libiscsi libcrc32c")
    asks = "requests:\n  - {by: iscsi-*, asks: [crypto-crc32c, aes]}\n"
    assert paths(closed(MODULES, KEEP_ISCSI + asks, tmp_path)) == kernel("iscsi_tcp libiscsi libcrc32c crc32c_generic")
    unknown = "requests:\n  - {by: iscsi-*, asks: [crypto-none]}\n"
    assert "asked for while it runs, which no package has" in str(
        closed(MODULES, KEEP_ISCSI + unknown, tmp_path).problems
    )


@pytest.mark.parametrize("name", ["libiscsi", "libcrc32c"])
def test_a_veto_on_what_a_module_needs_is_an_error(tmp_path: Path, name: str) -> None:
    [problem] = closed(MODULES, f"{KEEP_ISCSI}    - drop: [{name}]\n", tmp_path).problems
    assert str(problem).startswith(f"recipe.yaml:7: {name}: drops /{TOP}/kernel/")


def test_what_is_declared_is_opened(tmp_path: Path) -> None:
    nodes = [file("usr/bin/start", "x"), file("usr/lib/plug/a.so"), file("usr/lib/plug/b.so")]
    opens = "opens:\n  - {by: /usr/bin/st*, opens: [/usr/lib/plug/*.so]}\n"
    assert paths(closed(nodes, ALL_NEEDED + opens, tmp_path)) == {node.path for node in nodes}
    unused = closed(nodes, ALL_NEEDED + opens.replace("/usr/bin/st*", "/usr/bin/other"), tmp_path)
    assert paths(unused) == {"usr/bin/start"}
    [problem] = closed(nodes, ALL_NEEDED + opens.replace("plug/*", "gone/*"), tmp_path).problems
    assert "declared in 'opens', which no package has" in str(problem)
    [problem] = closed(
        nodes, ALL_NEEDED + opens.replace("/usr/lib/plug/*.so", '"/usr/lib/plug/{a,gone}.so"'), tmp_path
    ).problems
    assert "/usr/lib/plug/gone.so" in str(problem), "each member of a brace group counts"
