"""Hostile names in every place that takes one: nothing outside of the state's own directories comes or goes."""

from __future__ import annotations

import io
import json
import re
import stat
import tarfile
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import pytest
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from provision import below, cpio
from provision.api.operations import Operation, OperationState
from provision.errors import Exit, Invalid, Problems, ProvisionError
from provision.image import recipe, tree
from provision.image.gather import own_files
from provision.media import base as bases
from provision.media.importing import ImportRequest
from provision.web import boot_app
from provision.web.guard import Guard
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_peer_credentials
from tests.helpers.cli_runner import cli
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import Reply, Site, closed_site, edge, request, site
from tests.integration.attacks.fake_service import archive, member

ID = "0" * 32
HOSTILE = (
    *("../../outside/victim", "..", ".", "/etc/passwd", "/", "", "key", "a/../../../outside", "....//....//outside"),
    *("%2e%2e%2f%2e%2e%2foutside", "..%2f..%2foutside", "%252e%252e%252f", "..\\..\\outside", "C:\\x", "a\\b", "a\0b"),
    *("\0", "a\nb", "a\r\nX-Injected: 1", "node1\n", "node1.", "node1 ", " node1", "NODE1", "node1/", "node1/.", "-rf"),
    *("n\u043ede1", "\uff0e\uff0e\uff0foutside", "\u2024\u2024/outside", "\u202eedon", "node1\u200b", "a" * 64),
    *("a" * 5000, "x" * 256 + "/..", "$(touch outside)", "`id`", "a;b", "a|b", "*", "?", "[a]", "~root", "#"),
    *(f"{ID}/..", f"{ID}/../..", f"../tmp/{ID}", f"{ID}\0", f"{ID}\n", "loaders-x", "import-x", "\x1b[2J", "é", "nul"),
)
made_up = st.text(st.characters(codec="utf-8"), max_size=80) | st.from_regex(r"(\.\./){1,9}\w*")
names = st.sampled_from(HOSTILE) | made_up
some = settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("names")
    (directory / "outside").mkdir()
    (directory / "outside" / "victim").write_bytes(b"what-must-not-be-read")
    with site(directory) as opened:
        yield opened


def around(here: Site) -> dict[str, Any]:
    """Everything beside the state directory, and of that what no request of these changes."""
    top = here.state.parent
    changing = ("state/provision.db", "state/audit", "state/tmp/", "state/bases/.")
    found = {}
    for path in sorted(top.rglob("*")):
        name = path.relative_to(top).as_posix()
        if not name.startswith(changing):
            status = path.lstat()
            found[name] = (status.st_mode, status.st_ino, path.read_bytes() if stat.S_ISREG(status.st_mode) else b"")
    return found


A_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def judged(reply: Reply, hostile: str) -> None:
    """The answer is one, and says nothing of what was asked for."""
    assert 200 <= reply.status < 500, reply
    assert b"what-must-not-be-read" not in reply.body and b"root:x:0" not in reply.body
    assert "x-injected" not in reply.headers
    if reply.status >= 400:
        odd = [c for c in reply.body.decode() if not c.isprintable()]
        assert odd == [] and len(reply.body) < 16_000
        said = json.loads(reply.body)
        # An inventory's problems name the operator's own files, and what may be a name is said back.
        harmless = len(hostile) < 12 or said["subject"] == "inventory" or A_NAME.fullmatch(hostile)
        assert harmless or hostile not in said["detail"]


def routes(app: Guard) -> list[tuple[str, str]]:
    """Every method and path that the application has."""
    found = [r for r in app.app.routes if isinstance(r, APIRoute | Route)]
    return sorted({(method, route.path) for route in found for method in route.methods or () if method != "HEAD"})


BODIES: dict[str, Any] = {
    "/v1/inventory": lambda n: {"files": [{"name": n, "text": "", "attachments": {n: ""}}], "dry_run": True},
    "/v1/credentials": lambda n: [{"host": n, "name": n, "data": b64encode(b"x").decode()}],
    "/v1/images/{name}": lambda n: {
        "names": {n: n, ID: n},
        "kernel": n,
        "initrds": [n, ID],
        "loaders": {n: n, "a": ID},
        "kernel_arguments": [n],
    },
    "/v1/hosts/{name}/window": lambda n: {"minutes": n, "boots": n},
    "/up": lambda n: {"host": n, "key": n},
}
PLACES = ("hosts", "host", "label", "value", "server", "head", "path", "mode", "limit", "images", "dry_run")


def asked(app: Guard, method: str, path: str, hostile: str) -> list[Reply]:
    """The route with the hostile name in its path, its query and its body, one after the other."""
    kind = {"content-type": "application/json"}
    peer = "uid=0" if path.startswith("/v1/") else "10.0.0.11"
    body = json.dumps(BODIES[path](hostile)).encode() if path in BODIES else b"x"
    plain = re.sub(r"\{\w+\}", "node1", path)
    there = re.sub(r"\{\w+\}", lambda _: hostile, path)
    query = "&".join(f"{place}={quote(hostile, safe='')}" for place in PLACES)
    # A server gives an application the path without its percent signs: this is what they stood for.
    asked = [there] if "?" not in there and there != path else []
    with patch("provision.netcheck.check", lambda *_: []):
        return [
            *(request(app, method, one, body=body, headers=kind, peer=peer) for one in asked),
            *(
                []
                if path.endswith("/window")
                else [request(app, method, f"{plain}?{query}", body=body, headers=kind, peer=peer)]
            ),
            *([request(app, method, plain, body=body, headers=kind, peer=peer)] if path in BODIES else []),
        ]


def walk(here: Site, app: Guard, hostile: str) -> None:
    """Every route with the name in every place; nothing has happened after it."""
    before = around(here)
    for method, path in routes(app):
        if path == "/v1/openapi.json":
            continue  # it names nothing
        for reply in asked(app, method, path, hostile):
            judged(reply, hostile)
    assert all(one.problem is None or one.problem.status < 500 for one in ended(here))
    assert around(here) == before


@pytest.fixture(scope="module")
def applications(here: Site) -> tuple[Guard, Guard]:
    return operator_app.create(here.service, by_peer_credentials), boot_app.create(here.service.netboot, edge())


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda name: ascii(name)[:30])
def test_no_route_follows_a_name(here: Site, applications: tuple[Guard, Guard], hostile: str) -> None:
    for app in applications:
        walk(here, app, hostile)


@some
@given(hostile=made_up)
def test_no_route_follows_a_name_that_is_made_up(here: Site, applications: tuple[Guard, Guard], hostile: str) -> None:
    for app in applications:
        walk(here, app, hostile)


def test_the_walk_has_every_route(here: Site) -> None:
    assert len(routes(operator_app.create(here.service, by_peer_credentials))) > 24
    assert len(routes(boot_app.create(here.service.netboot, edge()))) > 6
    known = {path for _, path in routes(operator_app.create(here.service, by_peer_credentials))} | {"/up"}
    assert set(BODIES) <= known


def ended(here: Site) -> list[Operation]:
    """Every operation, none of which is under way any more."""
    for thread in threading.enumerate():
        if thread.name.startswith("operation "):
            thread.join(60)
    return here.service.operations.listing(ROOT)


def upload(app: Guard, data: bytes) -> str:
    return str(json.loads(request(app, "POST", "/v1/uploads", body=data, peer="uid=0").body)["id"])


@pytest.mark.parametrize("tail", ["/..", "/../..", "/../../bases", "/.", "/x", "", "\n", "\0"])
def test_an_import_cleans_up_after_itself_only(here: Site, tail: str) -> None:
    """The attack that deleted the state directory: a kernel's id that climbs, while an import makes its loaders."""
    app, before = operator_app.create(here.service, by_peer_credentials), around(here)
    kernel, initrd, loader, other = (upload(app, part) for part in (b"k", b"i", b"l", b"kept"))
    (here.state / "tmp" / f"loaders-{kernel}").mkdir()
    wrong = [
        {"kernel": kernel + tail, "initrds": [initrd], "loaders": {"lpxelinux.0": loader}},
        {"kernel": kernel, "initrds": [initrd + tail], "loaders": {"lpxelinux.0": loader}},
        {"kernel": kernel, "initrds": [initrd], "loaders": {f"a{tail}": loader + tail}},
        {"kernel": kernel, "initrds": [initrd], "loaders": {"a": loader, f"a/b{tail}": loader}},
        {"kernel": kernel, "initrds": [initrd], "names": {kernel + tail: "../x"}, "loaders": {}},
        {"kernel": kernel, "initrds": [initrd], "names": {"": "../x", "/": "y"}},
    ]
    for body in wrong:
        kind = {"content-type": "application/json"}
        reply = request(app, "POST", "/v1/images/new", body=json.dumps(body).encode(), headers=kind, peer="uid=0")
        judged(reply, "outside")
        assert all(one.problem is not None and one.problem.status < 500 for one in ended(here))
        assert around(here) == before
    assert (here.state / "tmp" / other).read_bytes() == b"kept"
    assert (here.state / "key").is_file() and (here.state / "provision.db").is_file()


def test_an_upload_is_good_for_one_import_and_leaves_nothing(here: Site) -> None:
    app = operator_app.create(here.service, by_peer_credentials)
    parts = [upload(app, part) for part in (b"k", b"i", b"l")]
    body = {"kernel": parts[0], "initrds": [parts[1]], "loaders": {"i386-pc/boot.img": parts[2], "x": parts[2]}}
    before = {path.name for path in (here.state / "tmp").iterdir()} - set(parts)
    seen: list[ImportRequest] = []

    def importing(request: ImportRequest, progress: Any) -> Any:
        assert request.loaders is not None and (request.loaders / "i386-pc" / "boot.img").read_bytes() == b"l"
        assert request.kernel.read_bytes() == b"k"
        seen.append(request)
        raise Problems([], "x")

    with patch.object(here.service.core.library, "import_base", importing):
        kind = {"content-type": "application/json"}
        reply = request(app, "POST", "/v1/images/new", body=json.dumps(body).encode(), headers=kind, peer="uid=0")
        (one,) = [one for one in ended(here) if one.id in reply.headers["location"]]
    assert one.state is OperationState.FAILED and len(seen) == 1 and not seen[0].kernel.exists()
    assert {path.name for path in (here.state / "tmp").iterdir()} == before


@some
@given(parts=st.lists(names, min_size=1, max_size=3))
def test_a_join_is_below_or_no_join(tmp_path: Path, parts: list[str]) -> None:
    try:
        found = below.join(tmp_path, *parts)
    except ValueError:
        return
    assert found.parent.parts[: len(tmp_path.parts)] == tmp_path.parts and ".." not in found.parts
    assert len(found.parts) == len(tmp_path.parts) + len(parts)


def test_what_is_deleted_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "victim").write_text("x")
    (tmp_path / "own" / "deep").mkdir(parents=True)
    (tmp_path / "own" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "own" / "deep" / "link").symlink_to(tmp_path / "outside")
    below.remove(tmp_path / "own", "link")
    below.remove(tmp_path / "own", "deep")
    below.remove(tmp_path / "own", "absent")
    assert list((tmp_path / "own").iterdir()) == [] and (tmp_path / "outside" / "victim").exists()
    for name in ("..", ".", "", "../outside", "/", "a/b", "\0"):
        with pytest.raises(ValueError, match="not a valid name"):
            below.remove(tmp_path / "own", name)


CLIMBING = ("../x", "/x", "a/../../x", "a//b", "./a", "..", "a/./b", "a/..", "x" * 300)


def raw_cpio(path: str, mode: int = 0o100644) -> bytes:
    name = path.encode() + b"\0"
    numbers = (1, mode, 0, 0, 1, 0, 1, 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"%08X" * 13 % numbers + name
    return head + bytes(-len(head) % 4) + b"x\0\0\0"


@pytest.mark.parametrize("path", CLIMBING)
def test_no_member_of_an_archive_climbs(path: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="not relative and normal"):
        list(cpio.read(io.BytesIO(raw_cpio(path))))
    if len(path) > 99:
        return  # no name in a tar header is as long
    deb = archive(member("./usr/bin/a", b"x"), member(f"./{path}" if path != "./a" else "././a", b"x"))
    (tmp_path / "a.tar").write_bytes(deb)
    with pytest.raises(Invalid, match="not relative and normal"):
        tree._index(tmp_path / "a.tar")


def test_a_hard_link_leads_to_the_same_archive(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(archive(member("./a", type=tarfile.LNKTYPE, linkname="/etc/shadow")))
    with pytest.raises(Invalid, match="a hard link to what it has not"):
        tree._index(tmp_path / "a.tar")


@pytest.mark.parametrize("path", ["/..", "/a/../../x", "/./x", "/a/."])
@pytest.mark.parametrize("key", ["links: {PATH: x}", "directories: {PATH: '0755'}", "stubs: [PATH]"])
def test_no_path_of_a_recipe_climbs(tmp_path: Path, key: str, path: str) -> None:
    text = f"name: ab\npackages: [ab]\n{key.replace('PATH', path)}\n".encode()
    with pytest.raises(Problems, match="dot segment"):
        recipe.parse(text, "recipe.yaml", tmp_path)


def test_a_recipe_brings_its_own_files_only(tmp_path: Path) -> None:
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (tmp_path / "root" / "etc" / "a").write_text("x")
    # Who ran a program there has left this.
    (tmp_path / "root" / "etc" / "__pycache__").mkdir()
    (tmp_path / "root" / "etc" / "__pycache__" / "a.cpython-311.pyc").write_text("x")
    assert [node.path for node in own_files(tmp_path / "root")] == ["etc/a"]
    (tmp_path / "root" / "etc" / "b").symlink_to(tmp_path / "secret")
    with pytest.raises(Invalid, match="leads out of its directory"):
        list(own_files(tmp_path / "root"))


def test_a_loader_set_is_its_own_files(tmp_path: Path) -> None:
    state = closed_site(tmp_path)
    loaders = tmp_path / "loaders"
    loaders.mkdir()
    (tmp_path / "kernel").write_bytes(b"k")
    (tmp_path / "secret").write_text("x")
    command = ("image", "import", "x", "--kernel", tmp_path / "kernel", "--initrd", tmp_path / "kernel")
    for name, said in (("lpxelinux.0", "leads out of its directory"), ("a b", "is not a plain file name")):
        (loaders / name).symlink_to(tmp_path / "secret")
        ran = cli(state, *command, "--loaders", loaders)
        assert ran.code == Exit.INVALID and said in ran.err, ran
        (loaders / name).unlink()


@pytest.mark.parametrize("file", CLIMBING)
def test_no_record_of_a_base_leads_out_of_it(here: Site, file: str, tmp_path: Path) -> None:
    record = json.loads((here.base.directory / bases.RECORD).read_text())
    directory = tmp_path / here.base.id
    directory.mkdir()
    for part in ("kernel", "initrds", "media", "loaders"):
        for changed in _changed(record[part], file):
            (directory / bases.RECORD).write_text(json.dumps({**record, part: changed}))
            with pytest.raises(ProvisionError, match="is damaged"):
                bases.load(directory)
    (directory / bases.RECORD).write_text(json.dumps({**record, "id": "f" * 64}))
    with pytest.raises(ProvisionError, match="is damaged"):
        bases.load(directory)


def _changed(value: Any, file: str) -> Iterator[Any]:
    if "file" in value:
        yield {**value, "file": file}
    elif isinstance(value, list):
        yield [{**value[0], "file": file}]
    else:
        yield from ({**value, key: {**one, "file": file}} for key, one in value.items())
