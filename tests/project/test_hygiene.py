"""Nothing in the project names a machine, a package registry or where it was made, and no test is left out silently."""

from __future__ import annotations

import ast
import re
import subprocess
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from tests.conftest import FLOODS, LONGEST
from tests.helpers.paths import ROOT
from tests.project.test_architecture import parsed, used

# Places where people and continuous integration keep their checkouts; written so that this file does not match itself.
_HOMES = "|".join(["work", "home", "Users", "builds", "workspace", "usr/src/app"])
MACHINE_PATH = re.compile(rf"(?<![\w.$}})-])/(?:{_HOMES})/")
URL = re.compile(r"(?<![\w+])https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)")
TRACKER = re.compile(r"\b(?:issues?|tickets?|PRs?|pull requests?|merge requests?) #?\d+", re.IGNORECASE)

# Public pages that a text may point at, and names that are no machine (a protocol's own, a Unix socket's).
PAGES = {
    "www.rfc-editor.org",
    "uefi.org",
    "www.kernel.org",
    "systemd.io",
    "keepachangelog.com",
    "semver.org",
    "web.mit.edu",
    "cyclonedx.org",
    "spdx.org",
    # The format of Debian's copyright files, by its present and its first names.
    "www.debian.org",
    # The first line of Git's pointers to large files.
    "git-lfs.github.com",
    # The namespace of SVG.
    "www.w3.org",
    # The text of the licence.
    "www.apache.org",
    "dep.debian.net",
}
NO_MACHINE = {"provision", "localhost", "testserver", "SERVER", "ADDR", "ADDRESS", "127.0.0.1"}


def tracked() -> list[Path]:
    """The project's text files: those that git tracks, or all but what .gitignore names where there is no git."""
    if (ROOT / ".git").exists():
        argv = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
        listed = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, timeout=30).stdout
        paths = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    else:
        ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().split()}
        paths = [p for p in ROOT.rglob("*") if p.is_file() and not ignored & set(p.relative_to(ROOT).parts)]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


def is_somewhere(host: str) -> bool:
    """Whether a URL's host is a real machine on some network: not a name or an address for documentation or tests."""
    host = host.strip("[]").partition(":")[0] if not host.startswith("[") else host.strip("[]")
    try:
        address = ip_address(host)
    except ValueError:
        # RFC 2606 and RFC 6761 keep these names free; a part of an f-string or a placeholder has no dot.
        names = (".test", ".example", ".invalid", ".localhost", "example.com", "example.net", "example.org")
        return host not in PAGES | NO_MACHINE and "." in host.strip(".") and not host.endswith(names)
    if isinstance(address, IPv6Address):
        return address.is_global
    # Documentation addresses are "private" to Python; the others that are not global are nobody's in particular.
    return IPv4Address(address).is_global


def complaints(text: str, root: Path = ROOT) -> list[str]:
    found = [match.group() for match in MACHINE_PATH.finditer(text)]
    found += [match.group() for match in URL.finditer(text) if is_somewhere(match.group(1))]
    found += [match.group() for match in TRACKER.finditer(text)]
    if len(root.parts) > 2 and str(root) in text:
        found.append(str(root))
    return found


def test_no_file_names_a_machine_or_a_registry() -> None:
    paths = tracked()
    assert len(paths) > 100
    found = {str(p.relative_to(ROOT)): what for p in paths if (what := complaints(p.read_text(errors="replace")))}
    assert found == {}


def test_the_server_s_lock_is_a_part_of_the_whole() -> None:
    """What is installed is what was tested, by the same versions and hashes."""
    whole, server = (entries(name) for name in ("requirements.lock", "requirements-server.lock"))
    assert server and {name: lines for name, lines in server.items() if whole.get(name) != lines} == {}
    assert len(server) < len(whole)


def entries(name: str) -> dict[str, set[str]]:
    """Each pin of a lock file ("typer==0.29.2"), and its hashes."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        if "==" in line:
            pin = line.rstrip(" \\")
        found.setdefault(pin, set()).update(re.findall(r"--hash=(\S+)", line))
    return found


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-server.lock"])
def test_a_lock_file_names_no_index(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    assert [line for line in lines if re.match(r"\s*(--(?!hash=)|-[if]\b)|.*://", line)] == []


@pytest.mark.parametrize(
    "text",
    [
        "see /" + "work/main/README.md",
        "cd /" + "home/alice/provision",
        "--index-url https" + "://packages.intra.example.cloud/simple",
        "https" + "://pypi" + ".org/simple",
        "http" + "://8.8.8.8/x",
        "as in iss" + "ue 17",
        "cd /opt/checkouts/provision/x",
    ],
)
def test_a_machine_is_seen(text: str) -> None:
    assert complaints(text, Path("/opt/checkouts/provision"))


@pytest.mark.parametrize(
    "text",
    [
        "http://192.0.2.1/boot/boot.iso http://192.168.7.1:8080/x http://[2001:db8::1]/",
        "https://www.rfc-editor.org/rfc/rfc9110 http://ipa.example.test/",
        "http://SERVER/pxe/ f'http://{address}/up' /var/lib/provision ./srv/x provision-seed/root/etc",
    ],
)
def test_documentation_is_not_a_machine(text: str) -> None:
    assert complaints(text) == []


def left_out(tree: ast.Module) -> list[str]:
    """The names by which a file of tests would leave a test out, or expect it to fail."""
    words = ("skip", "skipif", "xfail", "importorskip", "SkipTest", "expectedFailure", "skipTest", "skipUnless")
    return sorted({n for n in used(tree) if n.split(".")[0] in ("pytest", "unittest") and n.split(".")[-1] in words})


def test_no_test_is_left_out() -> None:
    found = {str(p.relative_to(ROOT)): what for p in (ROOT / "tests").rglob("*.py") if (what := left_out(parsed(p)))}
    assert found == {}


def test_leaving_out_is_seen() -> None:
    for text in ("pytest.skip('x')", "@pytest.mark.skipif(True)\ndef f(): ...", "pytest.importorskip('x')"):
        assert left_out(ast.parse(f"import pytest\n{text}")), text
    assert left_out(ast.parse("from pytest import xfail"))


def test_what_starts_first_is_there() -> None:
    assert [name for name in (*LONGEST, *FLOODS) if not (ROOT / "tests" / name).is_file()] == []


def test_no_test_asserts_a_constant() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant) and node.test.value
    ]
    assert found == []
