"""Writing a medium to a file: sparse, private, whole or not at all, checked; it goes on after a broken connection."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, Protocol

from provision.api.media import MediumDescription
from provision.api.operations import Operation
from provision.cli import output
from provision.cli.client import Broken, Client
from provision.cli.operations import follow
from provision.cli.received import foreign
from provision.errors import Invalid, ProvisionError, Unavailable
from provision.writing import continuing, replacing, unwritable

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each new attempt at a server, as long as none brings the download forward."""
_FORWARD = 64 << 10
"""Bytes that an attempt must bring, so that a server cannot make us ask for ever."""
_AT_ONCE = 1 << 20
_BLOCK = 4096
_ZERO = bytes(_BLOCK)
_Put = Callable[[int, bytes], object]


def describe(client: Client, url: str, quiet: bool) -> MediumDescription:
    """What the medium at `url` is. A large one is read by the server first, which a progress bar follows."""
    try:
        return client.call(MediumDescription, "GET", f"{url}/sha256")
    except ProvisionError as error:
        if error.status != HTTPStatus.CONFLICT:
            raise
    with output.stages(quiet) as progress:
        ended = follow(client, "", lambda _: client.call(Operation, "POST", f"{url}/sha256"), progress=progress)
    if not isinstance(ended.result, MediumDescription):
        raise foreign()
    return ended.result


def download(
    client: Client,
    url: str,
    described: Described,
    path: Path,
    progress: Callable[[int], None],
    *,
    keep: bool = False,
) -> None:
    """Write the medium at `url`, which was `described` before, to `path` (0600: it carries secrets).

    Runs of zeros become holes. The file appears under its name only when it is whole; nothing is left of it otherwise,
    even by kill -9 where the file system knows files without a name. With `keep` what has come is kept beside it, and
    the next call goes on from there if the medium is still the same.

    A connection to another machine that breaks is made anew, and the medium goes on where it was: it is held to the
    entity tag of the description throughout, and to its SHA-256 at the end. Raises Invalid for a device before anything
    is asked for and for other content than was described, Conflict when the medium is another one by now, and
    Unavailable.
    """
    try:
        with _target(path, described.etag, keep) as descriptor:
            put = partial(_write_sparse, descriptor)
            copy = _Copy(put, described, progress, checked=keep or client.url is not None)
            if keep:
                copy.take_up(descriptor)
            _fetch(client, url, copy)
            copy.require_whole(str(path))
            os.ftruncate(descriptor, described.size)
    except OSError as error:
        raise unwritable(path, error) from None
    except Broken as error:
        remedy = "run the command again: what has come is kept" if keep else error.remedy
        raise Unavailable(error.subject, error.fact, remedy) from None


def stream(client: Client, url: str, described: Described, target: BinaryIO, progress: Callable[[int], None]) -> None:
    """Write the medium at `url`, which was `described` before, to a pipe, which has got some of it when this raises.

    Raises as `download` does.
    """
    name = "standard output"
    copy = _Copy(lambda offset, chunk: target.write(chunk), described, progress, checked=True)
    try:
        _fetch(client, url, copy)
        target.flush()
    except BrokenPipeError:
        raise  # who reads has had enough, as of any command
    except OSError as error:
        raise unwritable(name, error) from None
    copy.require_whole(name)


def _target(path: Path, etag: str, keep: bool) -> AbstractContextManager[int]:
    return continuing(path, hashlib.sha256(etag.encode()).hexdigest()[:16]) if keep else replacing(path)


class Described(Protocol):
    """What is known of a file before it comes."""

    @property
    def sha256(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def etag(self) -> str: ...


class _Copy:
    """What has come of a medium: its first `done` bytes, which were `put` at their offsets."""

    def __init__(self, put: _Put, described: Described, progress: Callable[[int], None], checked: bool) -> None:
        self.described, self.done = described, 0
        self._put, self._progress = put, progress
        self._digest = hashlib.sha256() if checked else None

    def take_up(self, descriptor: int) -> None:
        """Begin with what an earlier run has kept. It wrote from the first byte on, so all up to the end is there."""
        for chunk in _content(descriptor, self.described.size):
            self._count(chunk)
        os.ftruncate(descriptor, self.done)

    def take(self, chunk: bytes) -> None:
        """Write what comes next; raises Unavailable when it is more than there is."""
        # A chunked answer may have any length, whatever it says beside that (RFC 9112 section 6.3).
        if self.done + len(chunk) > self.described.size:
            raise foreign("gave a medium that is not the one it had described")
        self._put(self.done, chunk)
        self._count(chunk)

    def _count(self, chunk: bytes) -> None:
        if self._digest is not None:
            self._digest.update(chunk)
        self.done += len(chunk)
        self._progress(self.done)

    def require_whole(self, name: str) -> None:
        """Raises Unavailable when not all of it has come, and Invalid when it is not as described."""
        size = self.described.size
        if self.done != size:
            raise Unavailable(name, f"only {self.done} of {size} bytes arrived", "try again")
        if self._digest is not None and self._digest.hexdigest() != self.described.sha256:
            fact = "what arrived is not the medium that the server had described (its SHA-256 differs)"
            raise Invalid(name, fact, "try again; if it differs again, find out what changes it on the way")


def _content(descriptor: int, most: int) -> Iterator[bytes]:
    at = 0
    while chunk := os.pread(descriptor, min(_AT_ONCE, most - at), at):
        yield chunk
        at += len(chunk)


def _fetch(client: Client, url: str, copy: _Copy) -> None:
    """Have all of the medium come; raises Broken when a server could not be reached so often in a row."""
    failures, here = 0, client.url is None
    while copy.done < copy.described.size:
        before = copy.done
        try:
            _ask(client, url, copy)
            return
        except Broken:
            failures = 0 if copy.done - before >= _FORWARD else failures
            if here or failures == len(PAUSES):
                raise
        time.sleep(PAUSES[failures])
        failures += 1


def _ask(client: Client, url: str, copy: _Copy) -> None:
    """Ask for what is missing, of this very medium, once (RFC 9110 sections 13.1.1, 13.1.5 and 14.2)."""
    described, start = copy.described, copy.done
    wanted = {"if-match": described.etag}
    if start:
        wanted |= {"range": f"bytes={start}-", "if-range": described.etag}
    with client.stream("GET", url, headers=wanted) as answer:
        status = HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK
        told = {"content-length": str(described.size - start)}
        if start:
            told |= {
                "content-range": f"bytes {start}-{described.size - 1}/{described.size}",
                "etag": described.etag,
            }
        as_told = all(answer.headers.get(name) == value for name, value in told.items())
        if answer.status_code != status or not as_told or "content-encoding" in answer.headers:
            raise foreign("gave a medium that is not the one it had described")
        # Not by pieces of a size that httpx is given: of one that breaks off, it drops what has come.
        pending = bytearray()
        try:
            for piece in answer.iter_raw():
                pending += piece
                if len(pending) >= _AT_ONCE:
                    copy.take(bytes(pending))
                    pending.clear()
        finally:
            copy.take(bytes(pending))


def _write_sparse(descriptor: int, offset: int, chunk: bytes) -> None:
    start, first = 0, _BLOCK - offset % _BLOCK  # by blocks of the file
    while start < len(chunk):
        end = first if start == 0 else start + _BLOCK
        zero = _is_zero(chunk, start, end)
        while end < len(chunk) and _is_zero(chunk, end, end + _BLOCK) == zero:
            end += _BLOCK
        if not zero:
            _write_all(descriptor, memoryview(chunk)[start:end], offset + start)
        start = end


def _write_all(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _is_zero(chunk: bytes, start: int, end: int) -> bool:
    block = chunk[start:end]
    return block == _ZERO[: len(block)]
