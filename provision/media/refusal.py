"""The refusal ISO: what UEFI HTTP Boot gets when a host is not to boot from the network.

Firmware takes it as a RAM disk and starts GRUB, whose patched configuration says why and exits, so that
firmware goes on to its next boot option. It carries no kernel and no seed.
"""

from __future__ import annotations

from pathlib import Path

from provision.media.authoring import GRUB_PATH, Ingredients
from provision.media.iso import author, common_files
from provision.media.layout import GRUB
from provision.media.plan import Slot


def build_refusal(ingredients: Ingredients, target: Path, scratch: Path) -> dict[str, Slot]:
    """Write the refusal ISO to `target` and return its one slot; `scratch` is an existing directory for parts."""
    files = common_files(ingredients, scratch)
    return author(ingredients, files, [], {GRUB: GRUB_PATH}, target, scratch)
