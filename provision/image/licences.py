"""What a package's copyright file says of licences: names as they stand there, and the SPDX identifier where one fits.

Machine-readable files have the format of https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/ (DEP-5);
its short names are another vocabulary than SPDX's, so that only names which mean the same for certain are translated.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from cyclonedx.spdx import is_supported_id
from debian.copyright import Copyright, Error

# It warns of old spellings of the format's own address, which say nothing about licences.
logging.getLogger("debian.copyright").setLevel(logging.ERROR)

# Short names that the format defines (section 7.1), in lower case. Without a version "GPL" could be any; "MIT" and
# "BSD" stand for several texts, and "public-domain" for none.
_PLAIN = {
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause",
    "cc0": "CC0-1.0",
    "expat": "MIT",
    "isc": "ISC",
    "zlib": "Zlib",
}
_GNU = {"gpl": "GPL-{}", "lgpl": "LGPL-{}", "gfdl": "GFDL-{}", "gfdl-niv": "GFDL-{}-no-invariants"}
_VERSIONED = {"apache": "Apache-{}", "artistic": "Artistic-{}", "mpl": "MPL-{}", "cpl": "CPL-{}", "cc0": "CC0-{}"}
_NAME = re.compile(r"(?P<name>[a-z0-9-]+?)-v?(?P<version>\d+(?:\.\d+)*)(?P<later>\+?)")


def names(copyright_file: bytes) -> list[str] | None:
    """What the `License:` fields of a copyright file say, each once, sorted; None for a file in no known format.

    A name may be an alternative ("GPL-2+ or Artistic"), as the format allows.
    """
    try:
        found = Copyright(copyright_file.decode(errors="replace").splitlines(), strict=False)
        # To a type checker a field is what describes it.
        fields: list[Any] = [paragraph.license for paragraph in found.all_paragraphs()]
        said = {" ".join(field.synopsis.split()) for field in fields if field is not None}
    except (Error, ValueError):
        return None
    return sorted(said - {""}) or None


def spdx(name: str) -> str | None:
    """The identifier of https://spdx.org/licenses/ for a name of a `License:` field, when there is one for certain."""
    plain = _PLAIN.get(name.lower())
    if plain is not None:
        return plain
    match = _NAME.fullmatch(name.lower())
    if match is None:
        return None
    base, version, later = match.group("name", "version", "later")
    if base in _GNU:
        pattern = f"{_GNU[base]}-{'or-later' if later else 'only'}"
    elif base in _VERSIONED and not later:
        pattern = _VERSIONED[base]
    else:
        # An identifier with a version, letter by letter, is not an accident.
        return name if is_supported_id(name) and not later else None
    # To the format 2, 2.0 and 2.0.0 are one version.
    return next((id_ for v in (version, f"{version}.0") if is_supported_id(id_ := pattern.format(_short(v)))), None)


def _short(version: str) -> str:
    while version.count(".") > 1 and version.endswith(".0"):
        version = version[:-2]
    return version
