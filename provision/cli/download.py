"""Writing a medium to a file: sparse, beside and then renamed, private, checked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from provision.api.media import MediumDescription
from provision.cli.client import Client
from provision.cli.received import foreign
from provision.errors import Unavailable
from provision.writing import replacing, unwritable

_BLOCK = 4096
_ZERO = bytes(_BLOCK)


def download(
    client: Client, url: str, described: MediumDescription, path: Path, progress: Callable[[int], None]
) -> None:
    """Write the medium at `url`, which was `described` before, to `path` (0600: it carries secrets).

    Runs of zeros become holes. The file appears under its name only when it is whole; nothing is left of it otherwise,
    even by kill -9 where the file system knows files without a name. Raises Invalid for a
    device before anything is asked for, Conflict when the medium is another one by now, and Unavailable.
    """
    try:
        with replacing(path) as descriptor, client.stream("GET", url, headers={"if-match": described.etag}) as answer:
            size, done = described.size, 0
            if answer.headers.get("content-length") != str(size) or "content-encoding" in answer.headers:
                raise foreign("gave another medium than it had described")
            for chunk in answer.iter_raw(1 << 20):
                # A chunked answer may have any length, whatever it says beside that (RFC 9112 section 6.3).
                if done + len(chunk) > size:
                    raise foreign("gave another medium than it had described")
                _write_sparse(descriptor, done, chunk)
                done += len(chunk)
                progress(done)
            if done != size:
                raise Unavailable(str(path), f"only {done} of {size} bytes came", "try again")
            os.ftruncate(descriptor, size)
    except OSError as error:
        raise unwritable(path, error) from None


def _write_sparse(descriptor: int, offset: int, chunk: bytes) -> None:
    start = 0
    while start < len(chunk):
        zero = _is_zero(chunk, start)
        end = start + _BLOCK
        while end < len(chunk) and _is_zero(chunk, end) == zero:
            end += _BLOCK
        if not zero:
            _write_all(descriptor, memoryview(chunk)[start:end], offset + start)
        start = end


def _write_all(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _is_zero(chunk: bytes, start: int) -> bool:
    block = chunk[start : start + _BLOCK]
    return block == _ZERO[: len(block)]
