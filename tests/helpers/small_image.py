"""The host image without its hypervisor, for boots that ask nothing of that: it is half as large, and what firmware,
loaders and kernels read, hash and unpack of it takes half as long in an emulated machine. Programs, units and the
initramfs are the host image's own; what it does without stands in tests/fixtures/small-host.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from provision import assets
from provision.image import releases
from provision.image.build import Image, Request, build
from provision.image.versions import Versions
from tests.helpers.images import note
from tests.helpers.paths import FIXTURES

# Quick to unpack, and packed in seconds.
_SQUASHFS = {"compression": "zstd", "block": 128, "level": 15}
# What machines of the tests have besides, to boot from, to keep an identity on, as NICs, or as their watchdog.
_DEVICES = [
    "nvme",
    "xhci_pci",
    "usb_storage",
    "uas",
    "cdc_ether",
    "rndis_host",
    "e1000",
    "e1000e",
    "lpc_ich",
    "iTCO_wdt",
]


def small_image() -> Image:
    """The image, from the host image's cache when nothing changed."""
    with request() as wanted:
        return build(wanted, say=note)


@contextmanager
def request() -> Iterator[Request]:
    """What to build, as long as the block lasts: for QEMU's machine, and with the host image's locked packages."""
    shipped = assets.directory("images") / "host"
    with tempfile.TemporaryDirectory(prefix="provision-small-") as temporary:
        directory = Path(temporary) / "host"
        for name in ("host", "common"):
            shutil.copytree(assets.directory("images") / name, Path(temporary) / name)
        _change(directory / "recipe.yaml", smaller)
        _change(directory / "platforms" / "q35.yaml", lambda q35: {**q35, "extra": [*q35.get("extra", []), *_DEVICES]})
        lock = releases.lock_file(shipped, releases.of_machine())
        yield Request(directory / "recipe.yaml", lock, Versions.OBTAINABLE, platform="q35")


def _change(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    file.write_text(yaml.safe_dump(change(yaml.safe_load(file.read_text())), sort_keys=False))


def smaller(recipe: dict[str, Any]) -> dict[str, Any]:
    """The host image's recipe without all that."""
    without = yaml.safe_load((FIXTURES / "small-host" / "without.yaml").read_text())
    rules = recipe["rules"]
    rules["packages"].append({"drop": without["packages"]})
    rules["files"] = [rule for rule in (_kept(rule, without["files"]) for rule in rules["files"]) if rule]
    recipe["always"] = _left(recipe["always"], without["always"])
    recipe["units"]["enable"] = _left(recipe["units"]["enable"], without["units"])
    for name in ("opens", "requests"):
        recipe[name] = [one for one in recipe[name] if one.get("by") not in without[name]]
    recipe["links"] = _left(recipe["links"], without["links"])
    del recipe["early"]
    return {**recipe, "squashfs": _SQUASHFS}


def _kept(rule: dict[str, Any], patterns: list[str]) -> dict[str, Any]:
    """A rule without those words, which may stand below the name of a release; nothing when none are left."""
    if "keep" not in rule:
        return rule
    words = _left(rule["keep"], patterns)
    return {"keep": words} if words else {}


def _left(words: Any, patterns: list[str]) -> Any:
    """What no pattern fits, of words or of what words lead to; releases are looked into."""
    if isinstance(words, dict):
        pairs = ((word, _left(of, patterns) if word.startswith("debian-") else of) for word, of in words.items())
        return {word: of for word, of in pairs if of and not _fits(word, patterns)}
    looked = (_left(word, patterns) if isinstance(word, dict) else word for word in words)
    return [word for word in looked if word and not (isinstance(word, str) and _fits(word, patterns))]


def _fits(word: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(word, pattern) for pattern in patterns)
