"""What shim, signed GRUB and a kernel measure of a boot by PXE under Secure Boot, from the server's own files alone.

GRUB extends PCR 8 with every command that it runs, after it has expanded it, and with the kernel's command line; PCR 9
with every file that it reads, in that order. Measured with Debian's shim 16.1 and GRUB 2.06 (grubnetx64). Its language
is read here as far as `provision.render.grub` uses it for a boot: words and quotes, and nothing that is expanded, so
that every command is known before it runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from provision.errors import Invalid
from provision.tpm.algorithms import Hash
from provision.tpm.boot_chain import application_events
from provision.tpm.event_log import Event, EventType

COMMANDS, FILES = 8, 9
"""PCRs: what GRUB ran, and what it read."""

_WORD = r"""(?:[A-Za-z0-9_.,:=/@%+-]|"[^"$`\\]*"|'[^']*'|\\')+"""
_LINE = re.compile(rf"{_WORD}(?: {_WORD})*")
_WORDS = re.compile(_WORD)
_PIECES = re.compile(r""""([^"]*)"|'([^']*)'|\\(')|([^"'\\]+)""")
_KNOWN = ("boot", "echo", "initrd", "linux", "set")
_SUBJECT, _REMEDY = "GRUB's configuration", "bind the host by a unified kernel: 'provision sb sign'"


@dataclass(frozen=True)
class Programs:
    """The Authenticode hashes (SHA-256) of what firmware and shim start: shim, GRUB and the kernel."""

    shim: bytes
    grub: bytes
    kernel: bytes


def events(server: IPv4Address, config: bytes, programs: Programs, files: Mapping[str, bytes]) -> tuple[Event, ...]:
    """All that is measured into PCRs 4, 8 and 9 when GRUB comes from the TFTP server with that address and is given
    `config`; `files` has the SHA-256 of each file that this names.

    Raises Invalid for a configuration whose commands depend on anything else, or that names another file.
    """
    # The kernel is measured when GRUB asks shim about it, and again when its stub is started.
    started = programs.shim, programs.grub, programs.kernel, programs.kernel
    return (*application_events(*started), *_loader(server), *_configured(config, files))


def _loader(server: IPv4Address) -> Iterator[Event]:
    """What the script in Debian's grubnetx64 does before it comes to a file of ours."""
    place = f"(tftp,{server})/grub"
    yield _command(f"[ -e {place}/x86_64-efi/grub.cfg ]")
    yield _command(f"source {place}/grub.cfg")


def _configured(config: bytes, files: Mapping[str, bytes]) -> Iterator[Event]:
    yield _event(FILES, "grub.cfg", Hash.SHA256.of(config))
    for line in config.decode("ascii").splitlines():
        words = _words(line)
        yield _command(" ".join(words))
        if words[0] == "linux":
            yield from _files(words[1:2], files)
            arguments = _kernel_arguments(words[1:])
            yield _event(COMMANDS, f"kernel_cmdline: {arguments}", Hash.SHA256.of(arguments.encode()))
        elif words[0] == "initrd":
            yield from _files(words[1:], files)


def _words(line: str) -> list[str]:
    """The words of a line as GRUB has them when it has taken their quotes away."""
    if not _LINE.fullmatch(line):
        raise Invalid(_SUBJECT, "has a line whose commands depend on more than its text", _REMEDY)
    words = ["".join("".join(piece) for piece in _PIECES.findall(word)) for word in _WORDS.findall(line)]
    if words[0] not in _KNOWN:
        raise Invalid(_SUBJECT, f"has the command '{words[0]}', whose measurements are not known", _REMEDY)
    return words


def _kernel_arguments(words: Sequence[str]) -> str:
    """The command line that GRUB makes of the words behind `linux` (grub_create_loader_cmdline)."""
    return " ".join(_kernel_argument(word) for word in words)


def _kernel_argument(word: str) -> str:
    escaped = re.sub(r"(\\(?!x[0-9a-fA-F]{2})|['\"])", r"\\\1", word)
    return f'"{escaped}"' if " " in word else escaped


def _files(paths: Sequence[str], files: Mapping[str, bytes]) -> Iterator[Event]:
    for path in paths:
        if path not in files:
            raise Invalid(_SUBJECT, f"names {path}, whose hash is not known", _REMEDY)
        yield _event(FILES, path, files[path])


def _command(text: str) -> Event:
    return _event(COMMANDS, f"grub_cmd: {text}", Hash.SHA256.of(text.encode()))


def _event(pcr: int, said: str, digest: bytes) -> Event:
    return Event(pcr, EventType.IPL, digest, said.encode())
