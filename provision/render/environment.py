"""The one jinja2 environment, and the guard that every interpolated value passes.

The domain's types already hold values to patterns without white space, quotes and options. The guard does not rely
on that: a value that could add a line, a quote, a variable or an option to a rendered file is refused here again.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Hashable, Iterable
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import jinja2
from jinja2.runtime import Context

from provision import assets
from provision.errors import Invalid
from provision.model import KERNEL_ARGUMENT

_PLAIN = re.compile(r"[A-Za-z0-9_/:][A-Za-z0-9._:/@+-]*")
"""One word without the separators, quotes, comments, variables and globs of any file that is rendered."""

_ARGUMENT = re.compile(KERNEL_ARGUMENT)
"""One kernel argument (provision.model.KernelArgument). A SYSLINUX configuration takes all of it as it is."""

_BARE = re.compile(r"[A-Za-z0-9_.,:=/@%+-]+")
"""A word that means itself in a GRUB script without quotes."""

_INERT = re.compile(r"[^A-Za-z0-9 .,:;'()/_@%+=-]")
"""What a line of text for a console may not hold: everything that GRUB's double quotes would take for its own."""

WIDTH = 78
"""Columns that every console shows."""


class Checked(str):
    """Text that a filter of this module has already held to its own, wider pattern."""


def check(value: object, template: str) -> str:
    """The value as text when it is one plain word, an address or a number; raises Invalid naming `template`."""
    if isinstance(value, Checked):
        return value
    if type(value) in (int, IPv4Address, IPv6Address, IPv4Network, IPv6Network):
        return str(value)
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return str(value)
    raise _refused(template)


def message(lines: Iterable[str]) -> tuple[Checked, ...]:
    """Text for a person at a console: ASCII without quotes and variables, wrapped to 78 columns.

    What it says may come from anywhere (a MAC seen on the wire), so it is made harmless rather than refused.
    """
    return tuple(
        Checked(wrapped)
        for line in lines
        for wrapped in textwrap.wrap(_INERT.sub("?", line.replace('"', "'")), WIDTH, break_on_hyphens=False)
    )


def render(template: str, **values: object) -> bytes:
    """The template `DIRECTORY/FILE.j2` filled in; raises Invalid for a value that the guard refuses."""
    # Piece by piece: a file for ten thousand hosts has so many that a list of them would not stay in the cache.
    text = io.StringIO()
    for piece in _template(template).generate(values):
        text.write(piece)
    return text.getvalue().encode("ascii")


@lru_cache(maxsize=256)
def render_common(template: str, **values: Hashable) -> bytes:
    """The same for a file that many hosts have in common: it is rendered once for the same values."""
    return render(template, **values)


def _refused(template: str) -> Invalid:
    # The value is not shown: whatever it is, it is not what the model promises, and it may be hostile.
    return Invalid(
        template,
        "a value holds white space, a quote, a variable or another character that could add to this file",
        "apply the inventory again with 'provision apply'",
    )


@jinja2.pass_context
def _finalize(context: Context, value: object) -> str:
    if isinstance(value, jinja2.Undefined):
        return str(value)  # raises UndefinedError: a template and its renderer disagree
    return check(value, context.name or "template")


@jinja2.pass_context
def _words(context: Context, values: Iterable[object], separator: str = " ") -> Checked:
    return Checked(separator.join(check(value, context.name or "template") for value in values))


@jinja2.pass_context
def _arguments(context: Context, values: Iterable[str]) -> Checked:
    return Checked(" ".join(_argument_words(context, values)))


@jinja2.pass_context
def _grub_arguments(context: Context, values: Iterable[str]) -> Checked:
    return Checked(" ".join(map(_grub_word, _argument_words(context, values))))


def _grub_word(argument: str) -> str:
    """The word of a GRUB script of which the kernel gets `argument`.

    GRUB itself puts a backslash before each backslash and quote, and double quotes around a word with spaces
    (grub_create_loader_cmdline); the kernel takes ``"name=a b"`` as ``name="a b"``.
    """
    word = re.sub(r'\\(.)|"', r"\1", argument)
    # Nothing is special within single quotes, where no single quote can be.
    return word if _BARE.fullmatch(word) else "'" + word.replace("'", r"'\''") + "'"


def _argument_words(context: Context, values: Iterable[str]) -> list[str]:
    words = [str(value) for value in values]
    if not all(_ARGUMENT.fullmatch(word) for word in words):
        raise _refused(context.name or "template")
    return words


@cache
def _template(name: str) -> jinja2.Template:
    template = _environment().get_template(name)
    # One dictionary instead of a chain of several, which every rendering would walk.
    template.globals = dict(template.globals)
    return template


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(assets.directory("templates")),
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        autoescape=False,  # no HTML is rendered; the guard refuses instead of escaping
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    environment.filters.update(words=_words, arguments=_arguments, grub_arguments=_grub_arguments)
    return environment
