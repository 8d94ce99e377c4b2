"""The host image for tests that need one to run: of the locked packages, or of today's where the archive has others."""

from __future__ import annotations

import warnings

from provision.image.build import Image, Request, build
from provision.image.versions import Versions

HOST = Request(versions=Versions.OBTAINABLE)


def note(line: str) -> None:
    """Into the summary at the end of the tests."""
    warnings.warn(line, stacklevel=2)


def host_image() -> Image:
    """The host image, from the cache when nothing changed."""
    return build(HOST, say=note)
