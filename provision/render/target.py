"""What every boot-loader configuration says: which kernel, which initrds, which seed, which arguments."""

from __future__ import annotations

from dataclasses import dataclass

from provision.errors import Invalid

COMMAND_LINE_SIZE = 2047
"""Bytes of a kernel command line without its NUL (COMMAND_LINE_SIZE of Linux on x86 is 2048)."""


@dataclass(frozen=True)
class BootTarget:
    """One thing to boot. Paths are URLs or absolute paths as the boot loader takes them; the seed comes last, None for
    a host that has it on its own disk.

    `title` names the host, and shows on its console. `arguments` is the whole kernel command line.
    """

    title: str
    kernel: str
    initrds: tuple[str, ...]
    seed: str | None
    arguments: tuple[str, ...]

    @property
    def all_initrds(self) -> tuple[str, ...]:
        """The base's initrds in order, then the seed: later archives win."""
        return self.initrds if self.seed is None else (*self.initrds, self.seed)

    def require_room(self, additions: str) -> None:
        """Raise Invalid when the arguments and what the boot loader adds to them exceed the kernel's command line."""
        size = len(" ".join((*self.arguments, additions)))
        if size > COMMAND_LINE_SIZE:
            raise Invalid(
                self.title,
                f"the kernel command line has {size} bytes with what the boot loader adds, and {COMMAND_LINE_SIZE} fit",
                "shorten kernel_arguments of the host or the site",
            )
