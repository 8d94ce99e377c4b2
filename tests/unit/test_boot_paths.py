"""Boot paths: what is made is what is parsed, in every place, and no other path is anything."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision import assets, boot_paths
from provision.boot_paths import (
    BootIso,
    EnvelopeFile,
    GrubByUuid,
    GrubConfig,
    GrubForMac,
    Initrd,
    Kernel,
    Loader,
    Place,
    PxelinuxByUuid,
    PxelinuxConfig,
    PxelinuxDefault,
    Request,
    SeedFile,
    SignedSeed,
    UnifiedKernel,
)
from provision.tftp import handler

macs = st.binary(min_size=6, max_size=6).map(lambda data: data.hex(":"))
ids = st.binary(min_size=32, max_size=32).map(bytes.hex)
uuids = st.uuids().map(str)
REQUESTS: dict[Any, st.SearchStrategy[Any]] = {
    PxelinuxConfig: st.builds(PxelinuxConfig, macs),
    PxelinuxByUuid: st.builds(PxelinuxByUuid, uuids),
    PxelinuxDefault: st.just(PxelinuxDefault()),
    GrubConfig: st.just(GrubConfig()),
    GrubByUuid: st.builds(GrubByUuid, uuids),
    GrubForMac: st.builds(GrubForMac, macs),
    Kernel: st.builds(Kernel, ids),
    Initrd: st.builds(Initrd, ids, st.integers(0, 99)),
    SeedFile: st.builds(SeedFile, st.none() | ids),
    BootIso: st.just(BootIso()),
    EnvelopeFile: st.just(EnvelopeFile()),
    UnifiedKernel: st.just(UnifiedKernel()),
    SignedSeed: st.builds(SignedSeed, st.binary(min_size=16, max_size=16).map(bytes.hex)),
    Loader: st.builds(Loader, st.from_regex("[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)),
}
requests = st.one_of(*REQUESTS.values())
places = st.sampled_from(Place)
# Paths that look like one of ours, of which a part is another or is missing.
words = st.sampled_from(
    ["boot", "seed", "seed.cpio", "current", "kernel", "initrd", "1", "100", "pxelinux.cfg", "grub"]
)
odd = st.lists(
    words | ids | uuids | macs | macs.map(lambda mac: "01-" + mac.replace(":", "-")) | st.text(max_size=5), max_size=5
).map("/".join)
paths = odd | st.builds(
    lambda place, request, cut: boot_paths.path(place, request)[cut:] if has(place, request) else "",
    places,
    requests,
    st.integers(-3, 3),
)


def has(place: Place, request: Any) -> bool:
    return type(request) in boot_paths.kinds(place)


def test_every_kind_is_tried() -> None:
    assert set(REQUESTS) == set(get_args(Request)) == set().union(*(boot_paths.kinds(place) for place in Place))


@given(place=places, request=requests)
def test_what_is_made_is_what_is_parsed(place: Place, request: Any) -> None:
    if has(place, request):
        assert boot_paths.parse(place, boot_paths.path(place, request)) == request
    else:
        with pytest.raises(KeyError):
            boot_paths.path(place, request)


@given(place=places, path=paths)
def test_what_is_parsed_is_what_is_made(place: Place, path: str) -> None:
    """A number and hexadecimal digits may be written in two ways; what is made of them is the same again."""
    request = boot_paths.parse(place, path)
    if request is not None:
        made = boot_paths.path(place, request)
        assert boot_paths.parse(place, made) == request
        plain = re.sub(r"initrd(/?)0(?=[0-9])", r"initrd\1", path).lower()
        assert made == (path if isinstance(request, Loader) else plain)


@given(path=paths.filter(lambda path: not f"/{path}".startswith(boot_paths.PXE)))
def test_http_and_tftp_agree(path: str) -> None:
    over_tftp = boot_paths.parse(Place.TFTP, path)
    over_http = [boot_paths.parse(Place.HTTP, root + path) for root in ("/", boot_paths.PXE)]
    shared = [request for request in over_http if request is not None and has(Place.TFTP, request)]
    assert shared == ([over_tftp] if over_tftp is not None and has(Place.HTTP, over_tftp) else [])


@given(request=requests)
def test_grub_takes_the_path_of_http(request: Any) -> None:
    """What GRUB's configuration names is asked for over TFTP by the path with which it begins over HTTP."""
    if isinstance(request, Kernel | Initrd | SeedFile):
        assert boot_paths.http(request) == "/" + boot_paths.path(Place.TFTP, request)


HOSTILE = (
    "..",
    ".",
    "",
    "/",
    "../key",
    "%2e%2e",
    "..\\key",
    "a\0",
    "a\n",
    "\uff10" * 64,
    "0" * 63,
    "0" * 65,
    "current\n",
)


@pytest.mark.parametrize("place", Place)
@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
@pytest.mark.parametrize(
    "template",
    [
        "boot/{}/kernel",
        "boot/{}/initrd/0",
        f"boot/{'0' * 64}/initrd/{{}}",
        "boot/seed/{}/seed.cpio",
        "pxelinux.cfg/{}",
        "pxelinux.cfg/01-{}",
        "grub/{}",
        "grub/uuid/{}.cfg",
        "grub/host-{}.cfg",
        "images/{}/kernel",
        f"images/{'0' * 64}/initrd{{}}",
        "{}/key",
    ],
)
def test_a_hostile_name_is_no_path(place: Place, name: str, template: str) -> None:
    path = template.format(name)
    for root in ("/", boot_paths.PXE) if place is Place.HTTP else ("",):
        assert boot_paths.parse(place, root + path) is None


def test_a_loader_is_one_name() -> None:
    """It is looked up in the set of a base image, which has none of these."""
    assert boot_paths.parse(Place.TFTP, "..") == Loader("..")
    for path in ("a/b", "/a", "", "../key"):
        assert boot_paths.parse(Place.TFTP, path) is None
    assert boot_paths.parse(Place.HTTP, "/key") is None


def test_loaders_ask_for_what_there_is() -> None:
    """The templates name configurations beside GRUB's own by its `$prefix`."""
    uuid, mac = "12345678-1234-1234-1234-123456789abc", "52:54:00:00:00:01"
    asked = set()
    for template in (assets.directory("templates") / "grub").glob("*.j2"):
        for name in re.findall(r'"\$prefix/([^"]+)"', template.read_text()):
            path = boot_paths.GRUB + name.replace("$uuid", uuid).replace("$net_default_mac", mac)
            asked |= {type(boot_paths.parse(place, path)) for place in (Place.TFTP, Place.TREE)}
    assert asked == {GrubConfig, GrubByUuid, GrubForMac, type(None)}


def test_tftp_serves_what_it_parses() -> None:
    assert set(handler._ROUTES) == boot_paths.kinds(Place.TFTP)
