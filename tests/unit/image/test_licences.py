"""Names of licences out of copyright files, and which of them have an identifier for certain."""

from __future__ import annotations

import logging

import pytest
from cyclonedx.spdx import is_supported_id

from provision.image.licences import names, spdx

FORMAT = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
FILE = f"""{FORMAT}Upstream-Name: tiny
License: GPL-2+

Files: *
Copyright: someone
License: GPL-2+
 The text.
 .
 License: not a field

Files: a
Copyright: someone
License:  GPL-1+  or Artistic
Comment: License: nor this

License: Expat
 The text.
"""


def test_each_name_once() -> None:
    assert names(FILE.encode()) == ["Expat", "GPL-1+ or Artistic", "GPL-2+"]


@pytest.mark.parametrize("address", ["http://dep.debian.net/deps/dep5", "https://dep.debian.net/deps/dep5/"])
def test_old_spellings_of_the_format(address: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        text = f"Format: {address}\n\nFiles: *\nCopyright: \xe9\nLicense: ISC\n"
        assert names(text.encode("latin-1")) == ["ISC"]
    assert caplog.text == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "\0\xff",
        "This package was debianized by hand.\n\nLicense: GPL\n\nOn Debian systems, see elsewhere.\n",
        "License: GPL-2+\n",
        FORMAT,
        f"{FORMAT}\nFiles: *\nCopyright: nobody\n",
        f"{FORMAT}\nFiles: *\nCopyright: nobody\nLicense:\n",
    ],
)
def test_what_says_nothing_certain_says_nothing(text: str) -> None:
    assert names(text.encode("latin-1")) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("GPL-2", "GPL-2.0-only"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL-2.0.0+", "GPL-2.0-or-later"),
        ("gpl-3+", "GPL-3.0-or-later"),
        ("LGPL-2", "LGPL-2.0-only"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("GFDL-1.2+", "GFDL-1.2-or-later"),
        ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
        ("Expat", "MIT"),
        ("BSD-3-clause", "BSD-3-Clause"),
        ("ZLIB", "Zlib"),
        ("CC0", "CC0-1.0"),
        ("Apache-2", "Apache-2.0"),
        ("MPL-2.0", "MPL-2.0"),
        ("Artistic-2", "Artistic-2.0"),
        ("OLDAP-2.8", "OLDAP-2.8"),
    ],
)
def test_names_with_an_identifier(name: str, expected: str) -> None:
    assert spdx(name) == expected
    assert is_supported_id(expected)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "GPL",
        "GPL-7",
        "GPL-2.7+",
        "MIT",
        "BSD",
        "public-domain",
        "Artistic",
        "Apache-2+",
        "GPL-1+ or Artistic",
        "GPL-2+ with OpenSSL exception",
        "BSD-3-clause-generic",
        "LGPL-2.1+~OpenSSL",
        "GPL-2.0-with-font",
        "OpenLDAP-2.8",
        "X11",
        "__proto__",
    ],
)
def test_names_that_could_be_something_else(name: str) -> None:
    assert spdx(name) is None
