"""The kernel command line of a host: its base's arguments, then the site's, then its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from provision.errors import Invalid
from provision.host import Host
from provision.site import Site

LIMIT = 1535
"""Bytes for the arguments. Linux takes 2047 on x86; boot loaders add BOOT_IMAGE=, initrd= and BOOTIF= to that."""

RESERVED = ("initrd", "BOOT_IMAGE", "BOOTIF")
"""Words that boot loaders write or act on themselves: SYSLINUX would load an `initrd=` of an APPEND line."""


_SEPARATORS = ("-", "--")  # for SYSLINUX no arguments at all; for the kernel the end of its own


def reserved(argument: str) -> str:
    """The word of `argument` that belongs to boot loader or kernel, in whatever case it is written; "" for none.

    Boot loaders look for their words behind every space, within quotes too.
    """
    for word in argument.replace('"', " ").split():
        name, equals, _ = word.partition("=")
        if name.lower() in (one.lower() for one in RESERVED):
            return name + equals
    return argument if argument.replace('"', "") in _SEPARATORS else ""


def split(text: str) -> tuple[str, ...]:
    """The arguments of a command line: words, with what stands in double quotes kept together."""
    return tuple(re.findall(r'(?:[^\s"]|"[^"]*"?)+', text))


def faults(places: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """What speaks against the arguments of all `places`, one after the other: each fact with its way out. The name of a
    place says where its arguments are written."""
    written = [(argument, place) for place, arguments in places.items() for argument in arguments]
    for argument, place in written:
        if word := reserved(argument):
            yield f"the kernel argument {word} belongs to the boot loader", f"remove it from {place}"
    addresses = [place for argument, place in written if argument.startswith("ip=")]
    if len(addresses) > 1:
        where = " and ".join(dict.fromkeys(addresses))
        yield f"the kernel argument ip= is given {len(addresses)} times, in {where}", "keep one of them"
    size = len(" ".join(argument for argument, _ in written))
    if size > LIMIT:
        longest = max(places, key=lambda place: sum(map(len, places[place])))
        yield f"the kernel arguments have {size} bytes, and {LIMIT} fit", f"shorten {longest}"


def host_faults(base_arguments: Sequence[str], site: Site, host: Host) -> Iterator[tuple[str, str]]:
    """The same of a host's whole command line."""
    return _faults_of(base_arguments, site.kernel_arguments, host.kernel_arguments)


def command_line(base_arguments: Sequence[str], site: Site, host: Host) -> tuple[str, ...]:
    """All arguments in the order in which the kernel sees them; the kernel lets the last of two equals win.

    Raises Invalid with the first of their faults.
    """
    fault = _first_fault(tuple(base_arguments), site.kernel_arguments, host.kernel_arguments)
    if fault is not None:
        raise Invalid(host.name, *fault)
    return (*base_arguments, *site.kernel_arguments, *host.kernel_arguments)


@lru_cache(maxsize=1024)
def _first_fault(base: tuple[str, ...], site: tuple[str, ...], host: tuple[str, ...]) -> tuple[str, str] | None:
    return next(_faults_of(base, site, host), None)


def _faults_of(base: Sequence[str], site: Sequence[str], host: Sequence[str]) -> Iterator[tuple[str, str]]:
    return faults(
        {
            "the --cmdline of its base image": base,
            "the site's kernel_arguments": site,
            "the host's kernel_arguments": host,
        }
    )
