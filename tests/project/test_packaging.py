"""The Debian package and the container file bring the tools that the installation by hand has."""

from __future__ import annotations

import re

from tests.helpers.documents import Document
from tests.helpers.paths import ROOT

# Every Debian has the first three; the environment of the package is made before.
ESSENTIAL = {"apt", "dpkg", "libc-bin", "python3-venv"}
CONTROL = (ROOT / "packaging" / "debian" / "control").read_text()


def field(name: str) -> set[str]:
    """The packages that a relationship field of the package names, less what is filled in when it is built."""
    [value] = re.findall(rf"^{name}:((?:.*\n)(?: .*\n)*)", CONTROL, re.MULTILINE)
    return {word.strip() for word in value.split(",") if "$" not in word}


def by_hand() -> set[str]:
    block = Document.read("docs/deployment.md").section("Installing the server").blocks("sh")[0]
    words = block.replace("\\\n", " ").split("--no-install-recommends", 1)[1].split()
    return {word for word in words if not word.startswith("-")}


def test_the_package_brings_what_is_installed_by_hand() -> None:
    assert field("Depends") | field("Recommends") == by_hand() - ESSENTIAL


def test_the_container_has_what_the_package_depends_on() -> None:
    text = (ROOT / "packaging" / "Containerfile").read_text().replace("\\\n", " ")
    [words] = re.findall(r"--no-install-recommends ([^&]*)&&", text)
    assert set(words.split()) == field("Depends") | {"python3-venv"}
