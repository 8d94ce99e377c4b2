"""A host's disk in each format is one disk: what the usual tools make of it, by the API and by a link."""

from __future__ import annotations

from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

import pytest

from provision import proc
from provision.api.links import LinkMedium, MakeLink
from provision.boot import OPERATOR, DiskFormat
from provision.errors import Exit, NotFound
from provision.media.reader import Reader
from provision.service.links import Asked
from provision.service.service import Service
from tests.helpers.cli_runner import cli, good
from tests.helpers.formats import add_formats
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, NOW, settings


def as_raw(path: Path, target: Path) -> bytes:
    """The raw disk that the file is of."""
    if path.suffix == ".qcow2":
        proc.run(["qemu-img", "convert", "-O", "raw", path, target], package="qemu-utils")
    else:
        proc.run(["zstd", "-q", "-d", path, "-o", target], package="zstd")
    return target.read_bytes()


@pytest.mark.parametrize(("name", "file"), [("qcow2", "node1.qcow2"), ("raw.zst", "node1.img.zst")])
def test_a_disk_in_another_format_is_the_same_disk(state: Path, tmp_path: Path, name: str, file: str) -> None:
    add_formats(state)
    good(cli(state, "disk", "node1"))
    told = good(cli(state, "disk", "node1", "--format", name, "--json")).json
    assert (told["file"], told["format"], told["medium"]) == (file, name, "disk")
    assert (tmp_path / file).stat().st_mode & 0o777 == 0o600
    raw = (tmp_path / "node1.img").read_bytes()
    assert as_raw(tmp_path / file, tmp_path / "again") == raw and CANARY in raw


def test_a_batch_has_them_too(state: Path, tmp_path: Path) -> None:
    add_formats(state)
    rows = good(cli(state, "disk", "--selector", "rack=a", "--out", tmp_path / "b", "--format", "qcow2", "--json")).json
    assert [row["file"] for row in rows] == ["node1.qcow2", "node2.qcow2"]


def test_a_base_from_before_has_to_be_imported_again(state: Path) -> None:
    ran = cli(state, "disk", "node1", "--format", "qcow2")
    assert ran.code == Exit.CONFLICT
    assert "was imported before there were disk images in the format qcow2; import it again" in ran.err


def test_a_link_gives_the_format_that_its_path_asks_for(state: Path, tmp_path: Path) -> None:
    base, asked = add_formats(state), Asked(OPERATOR, ip_address("10.0.0.201"))
    with closing(Service.open(settings(state), lambda: NOW)) as service:
        order = MakeLink(medium=LinkMedium.DISK, format=DiskFormat.RAW_ZST, minutes=60, uses=1)
        (url,) = service.links.make("node1", order, ROOT).urls
        path = "/b/" + url.rpartition("/")[2]
        assert path.endswith(".zst")
        with Reader(service.links.take(path, asked, sends=True).plan) as reader:
            (tmp_path / "by-link.zst").write_bytes(reader.pread(0, reader.plan.size))
        assert CANARY in as_raw(tmp_path / "by-link.zst", tmp_path / "again")
        # It is one disk, so the same use goes on in another format.
        for suffix, size in (("img", base.disk.size), ("qcow2", base.disk_as(DiskFormat.QCOW2).size)):
            taken = service.links.take(path.replace(".zst", f".{suffix}"), asked, sends=True)
            assert taken.plan.size == size
        for suffix in ("iso", "raw", "zst/", "raw.zst"):
            with pytest.raises(NotFound):
                service.links.take(path.replace(".zst", f".{suffix}"), asked, sends=True)
