"""What hardware a machine has, as its kernel shows it in sysfs: read from there, from a copy, or from a capture.

A capture is text: the line `provision-capture 1`, then lines of fields with tabs between: `dmi`, a name and a value; or
`device`, the bound driver's name (may be empty), the modalias and the path below the top of sysfs. Hosts with the host
image print it by /usr/lib/provision/capture-platform. It has no serial numbers, UUIDs or MAC addresses: a part
of a path that has what looks like one is written as `*`.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from provision.errors import Invalid, NotFound, Problem, Problems

HEAD = "provision-capture 1"
DMI = ("sys_vendor", "product_name", "board_vendor", "board_name")
"""What is taken of the machine's own description: maker and model, never a serial number."""
_DMI_PLACE = "devices/virtual/dmi/id/"
_PRIVATE = re.compile(
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}|[0-9a-fA-F]{12,}"
)
_MOST = 64 << 20
_REMEDY = "make it with /usr/lib/provision/capture-platform on the host, or name a copy of its /sys"


@dataclass(frozen=True, order=True)
class Device:
    """One device: path below the top of sysfs, modalias, and the driver that was bound to it, if one was."""

    path: str
    alias: str
    driver: str = ""

    @property
    def address(self) -> str:
        """What its bus calls it."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Capture:
    """A machine's devices, sorted, and what its maker calls it (keys of `DMI`)."""

    devices: tuple[Device, ...]
    dmi: Mapping[str, str]

    def text(self) -> str:
        """The capture as text."""
        lines = [HEAD, *(f"dmi\t{name}\t{self.dmi[name]}" for name in DMI if name in self.dmi)]
        lines += [f"device\t{d.driver}\t{d.alias}\t{d.path}" for d in self.devices]
        return "".join(f"{line}\n" for line in lines)


def read(source: Path) -> Capture:
    """Read /sys or a copy of it as a directory or a tar archive, or a capture.

    Raises NotFound when it is not there, Invalid when it is none of these, Problems for lines of a damaged capture.
    """
    try:
        if source.is_dir():
            return _capture(_directory(source), str(source))
        with source.open("rb") as file:
            start = file.read(len(HEAD))
            if start == HEAD.encode():
                return parse(start + file.read(_MOST), source.name)
        if not tarfile.is_tarfile(source):
            raise Invalid(str(source), "is not a capture, a directory or a tar archive of a sysfs", _REMEDY)
        with tarfile.open(source) as archive:
            return _capture(_archive(archive), str(source))
    except tarfile.TarError as error:
        raise Invalid(str(source), f"is damaged ({error})", _REMEDY) from None
    except OSError as error:
        raise NotFound(str(source), f"cannot be read ({error.strerror})", _REMEDY) from None


def parse(text: bytes, name: str) -> Capture:
    """Read a capture's text; `name` is its file's, for messages. Raises Problems with every line that is none."""
    devices: list[Device] = []
    dmi: dict[str, str] = {}
    problems: list[Problem] = []
    lines = text.decode(errors="replace").splitlines()
    if not lines or lines[0] != HEAD:
        raise Invalid(name, f"does not begin with '{HEAD}'", _REMEDY)
    for number, line in enumerate(lines[1:], start=2):
        match line.split("\t"):
            case ["dmi", key, value] if key in DMI:
                dmi[key] = value
            case ["device", driver, alias, path] if alias and path:
                devices.append(_device(path, alias, driver))
            case _:
                problems.append(Problem(name, number, "", "is not a line of a capture", "make the capture again"))
    if problems:
        raise Problems(problems, name)
    return _checked(devices, dmi, name)


def _device(path: str, alias: str, driver: str) -> Device:
    return Device("/".join("*" if _PRIVATE.search(part) else part for part in path.split("/")), alias, driver)


def _checked(devices: Iterable[Device], dmi: Mapping[str, str], name: str) -> Capture:
    found = tuple(sorted(set(devices)))
    if not found:
        raise Invalid(name, "has no device with a modalias", _REMEDY)
    return Capture(found, dict(dmi))


def _capture(files: Iterable[tuple[str, str]], name: str) -> Capture:
    """From files of a sysfs: paths from `devices/` on, with their text or, for `driver`, the link's target."""
    found = dict(files)
    devices = []
    for path, text in found.items():
        place, _, last = path.rpartition("/")
        if last == "modalias" and text:
            devices.append(_device(place, text, found.get(f"{place}/driver", "").rsplit("/", 1)[-1]))
    dmi = {name: found[_DMI_PLACE + name] for name in DMI if found.get(_DMI_PLACE + name)}
    return _checked(devices, dmi, name)


def _wanted(path: str) -> bool:
    last = path.rpartition("/")[2]
    return last in ("modalias", "driver") or (path.startswith(_DMI_PLACE) and last in DMI)


def _plain(data: bytes) -> str:
    """One line of text; archives of a live sysfs fill files up with zeros."""
    return " ".join(data.rstrip(b"\0\n").decode(errors="replace").split())


def _directory(top: Path) -> Iterator[tuple[str, str]]:
    top = top if (top / "devices").is_dir() else top / "sys"
    for parent, directories, names in os.walk(top / "devices"):
        place = Path(parent)
        for name in (*names, *directories):
            path = place / name
            relative = path.relative_to(top).as_posix()
            if not _wanted(relative):
                continue
            try:
                yield relative, str(path.readlink()) if path.is_symlink() else _plain(path.read_bytes())
            except OSError:
                # Devices go while one looks, and some files answer to nobody.
                continue


def _archive(archive: tarfile.TarFile) -> Iterator[tuple[str, str]]:
    for member in archive:
        path = f"/{member.name}".partition("/devices/")[2]
        if not path or not _wanted(f"devices/{path}"):
            continue
        if member.issym():
            yield f"devices/{path}", member.linkname
        elif file := archive.extractfile(member) if member.isreg() else None:
            yield f"devices/{path}", _plain(file.read(_MOST))
