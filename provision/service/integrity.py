"""Bases are read whole now and then: what a disk has lost since their import is given away no more."""

from __future__ import annotations

import logging
from pathlib import Path

from provision.errors import Unavailable
from provision.media.base import BaseImage
from provision.media.layout import MediumLayout, Progress
from provision.media.library import Library

_log = logging.getLogger(__name__)


class Integrity:
    """What is known of the bytes of the bases in `library`. Thread-safe.

    A service reads all of them now and then (`look`). A process `at_once`, which ends before that, reads the file
    behind a medium before it gives the medium away.
    """

    def __init__(self, library: Library, *, at_once: bool = False) -> None:
        self._library, self._at_once = library, at_once
        self._damaged: dict[str, Unavailable] = {}
        self._untold: dict[str, Unavailable] = {}
        self._whole: set[Path] = set()

    def is_whole(self, base_id: str) -> bool:
        """Whether nothing of a base was found damaged."""
        return base_id not in self._damaged

    def require(self, base_id: str) -> None:
        """Raises Unavailable for a base that was found damaged."""
        error = self._damaged.get(base_id)
        if error is not None:
            raise Unavailable(error.subject, error.fact, error.remedy)

    def require_medium(self, base: BaseImage, medium: MediumLayout) -> None:
        """Raises Unavailable when that medium must not be given away."""
        self.require(base.id)
        if self._at_once and medium.path not in self._whole:
            base.verify_file(medium)
            self._whole.add(medium.path)

    def verify(self, base_id: str, progress: Progress = lambda stage, done: None) -> BaseImage:
        """Read every file of a base and remember what was found; raises NotFound, Unavailable for the first damaged,
        and whatever `progress` does."""
        try:
            base = self._library.verify(base_id, progress)
        except Unavailable as error:
            if self.is_whole(base_id):
                self._untold[base_id] = error
            self._damaged[base_id] = error
            raise
        self.forget(base_id)
        return base

    def forget(self, base_id: str) -> None:
        """The base has been made anew."""
        self._damaged.pop(base_id, None)

    def look(self) -> list[Unavailable]:
        """Verify every base once; what is damaged is logged. Returns what was whole before, and what somebody else has
        found since."""
        for base in self._library.list():
            try:
                self.verify(base.id)
            except Unavailable as error:
                _log.error("%s", error)
        new, self._untold = list(self._untold.values()), {}
        return new
