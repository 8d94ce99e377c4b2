"""Models of how boot loaders and those who read a kernel's command line take it apart, for the tests of what we write.

Each follows the program's source, which its docstring names; tests/boot compares them with the programs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_PLAIN = r"[A-Za-z0-9_.,:=/@%+-]+"
_GRUB_WORD = re.compile(rf"""(?:{_PLAIN}|'[^']*'|"[^"$\\]*"|\\')+""")


def grub_words(line: str) -> list[str]:
    """The words of one line of a GRUB script (grub-core/script/yylex.l); what GRUB would expand or split fails."""
    words = []
    for match in _GRUB_WORD.finditer(line):
        parts = re.findall(rf"""({_PLAIN})|'([^']*)'|"([^"]*)"|\\(')""", match[0])
        words.append("".join("".join(part) for part in parts))
    assert not _GRUB_WORD.sub("", line).strip(), line
    return words


def grub_command_line(words: Sequence[str]) -> str:
    """What the kernel gets for the words of `linux` (grub_create_loader_cmdline of grub-core/lib/cmdline.c)."""
    return " ".join(f'"{w}"' if " " in w else w for w in (re.sub(r"""([\\'"])""", r"\\\1", word) for word in words))


def quoted_by_grub(argument: str) -> str:
    """An argument as GRUB gives it to the kernel: double quotes are around the whole, and only where a space is."""
    bare = re.sub(r'(\\.)|"', r"\1", argument)
    return f'"{bare}"' if " " in bare else bare


def syslinux_append(line: str) -> str:
    """What the kernel gets for a line APPEND (com32/elflink/ldlinux/readconfig.c): the rest of the line as it is."""
    name, _, rest = line.strip().partition(" ")
    assert name == "APPEND" and rest != "-"
    return rest.lstrip()


def kernel_parameters(text: str) -> list[tuple[str, str | None]]:
    """Names and values as the kernel reads them (next_arg of lib/cmdline.c); it knows double quotes and no escapes."""
    found, rest = [], text.lstrip()
    while rest:
        quoted = rest.startswith('"')
        rest = rest[1:] if quoted else rest
        within, end, equals = quoted, 0, 0
        while end < len(rest) and (within or rest[end] != " "):
            equals = end if equals == 0 and rest[end] == "=" else equals
            within ^= rest[end] == '"'
            end += 1
        word, rest = rest[:end], rest[end + 1 :].lstrip()
        name, value = (word[:equals], word[equals + 1 :]) if equals else (word, None)
        if value is not None and value.startswith('"'):
            value = value[1:].removesuffix('"')
        elif quoted:
            name, value = (name, value.removesuffix('"')) if value is not None else (name.removesuffix('"'), None)
        found.append((name, value))
    return found


def systemd_words(text: str) -> list[str]:
    """Words as systemd reads them: proc_cmdline_parse(), whose extract_first_word() takes off quotes of both kinds and
    keeps backslashes (src/basic/proc-cmdline.c, src/basic/extract-word.c)."""
    return list(_systemd_words(text))


def _systemd_words(text: str) -> Iterator[str]:
    word, quote, begun = "", "", False
    for character in text:
        if quote:
            word, quote = (word, "") if character == quote else (word + character, quote)
        elif character == " ":
            if begun:
                yield word
            word, begun = "", False
            continue
        elif character in "'\"":
            quote = character
        else:
            word += character
        begun = True
    if begun:
        yield word
