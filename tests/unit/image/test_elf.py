"""What ELF files say of themselves, and stubs that the dynamic linker takes."""

from __future__ import annotations

import functools
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from provision.image import elf
from tests.helpers.image_samples import note

TRUE = Path("/bin/true").read_bytes()
LIBC = Path("/lib/x86_64-linux-gnu/libc.so.6").read_bytes()


def test_needed_libraries_are_read_from_a_program() -> None:
    assert "libc.so.6" in elf.needed(TRUE)
    assert any(name.startswith("ld-linux") for name in elf.needed(TRUE))
    assert elf.needed(b"#!/bin/sh\n") == ()
    assert elf.dynamic(TRUE).interpreter == "/lib64/ld-linux-x86-64.so.2"
    assert elf.dynamic(LIBC).soname == "libc.so.6"


def test_libraries_that_a_file_says_it_opens_are_read() -> None:
    rows = (
        '[{"feature": "kmod", "priority": "required", "soname": ["libkmod.so.2", "libkmod.so.1"]}, {"soname": ["b"]}]'
    )
    said = note(0x407C0C0A, b"FDO", rows.encode() + b"\0")
    assert elf.dlopens(said) == (
        elf.Dlopen(("libkmod.so.2", "libkmod.so.1"), "required"),
        elf.Dlopen(("b",), "recommended"),
    )
    assert elf.dlopens(note(3, b"GNU", rows.encode())) == elf.dlopens(b"#!/bin/sh\n") == ()
    assert elf.dlopens(TRUE) == (), "its notes are others"


def test_exported_symbols_are_those_that_others_can_use() -> None:
    names = {name for name, _ in elf.exported(LIBC)}
    assert {"printf", "environ"} <= names and "" not in names
    assert dict(elf.exported(LIBC))["environ"] == 1, "data"


def test_a_stub_is_taken_by_the_dynamic_linker(tmp_path: Path) -> None:
    data = elf.stub("libstub.so.1", (("stub_data", 1), ("stub_function", 2)))
    assert elf.dynamic(data).soname == "libstub.so.1" and len(data) < 2000
    (tmp_path / "libstub.so.1").write_bytes(data)
    code = (
        f"import ctypes\nlib = ctypes.CDLL({str(tmp_path / 'libstub.so.1')!r})\n"
        "print(lib.stub_function(), bytes((ctypes.c_char * 4096).in_dll(lib, 'stub_data')) == bytes(4096))\n"
        "try:\n lib.other\nexcept AttributeError:\n print('no other')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert done.stdout == "0 True\nno other\n", done.stderr


EXECUTABLE = "^rwxp|cannot enable executable stack"


def test_a_stub_leaves_the_stack_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    code = (
        f"import ctypes\nctypes.CDLL({str(path)!r})\n"
        "print(*(line.split()[1] for line in open('/proc/self/maps') if '[stack]' in line))"
    )
    whole = elf.stub("lib.so", (("function", 2),))
    # The third header says that the stack need not be executable; without its type it is ignored. Then the C library
    # makes the stack executable, or since its version 2.41 refuses the library.
    for data, expected in ((whole, "^rw-p"), (whole[: 64 + 2 * 56] + bytes(4) + whole[64 + 2 * 56 + 4 :], EXECUTABLE)):
        path.write_bytes(data)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
        assert re.search(expected, done.stdout + done.stderr), done.stderr


@pytest.mark.parametrize("count", [0, 1, 40, 400])
def test_a_stub_of_any_size_is_well_formed(tmp_path: Path, count: int) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(elf.stub("lib.so", tuple((f"symbol_{n}", 1 + n % 2) for n in range(count))))
    code = f"import ctypes\nlib = ctypes.CDLL({str(path)!r})\n[getattr(lib, f'symbol_{{n}}') for n in range({count})]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr


def test_a_stub_has_the_versions_that_programs_ask_for(tmp_path: Path) -> None:
    found = elf.versions(LIBC)
    assert found["printf"] == "GLIBC_2.2.5" and found["memcpy"] == "GLIBC_2.14", "the default of several"
    [selinux] = Path("/lib/x86_64-linux-gnu").glob("libselinux.so.1")
    data = selinux.read_bytes()
    versions = elf.versions(data)
    assert set(versions.values()) >= {"LIBSELINUX_1.0"}
    stub = elf.stub("libselinux.so.1", elf.exported(data), versions)
    (tmp_path / "libselinux.so.1").write_bytes(stub)
    # mkdir asks for versions of this library; with LD_BIND_NOW every symbol is looked up at once.
    environment = {"LD_LIBRARY_PATH": str(tmp_path), "LD_BIND_NOW": "1"}
    done = subprocess.run(["/bin/mkdir", str(tmp_path / "made")], capture_output=True, env=environment, timeout=20)
    assert (done.returncode, done.stderr) == (0, b"") and (tmp_path / "made").is_dir()
    bare = elf.stub("libselinux.so.1", elf.exported(data))
    (tmp_path / "libselinux.so.1").write_bytes(bare)
    done = subprocess.run(["/bin/mkdir", str(tmp_path / "more")], capture_output=True, env=environment, timeout=20)
    assert b"no version information available" in done.stderr, "this test can fail"


def test_a_stub_says_at_once_what_it_does_not_have() -> None:
    # Of 4000 names that it does not have, only those that its filter lets through are compared with any of its own.
    data = elf.stub("lib.so", tuple((f"symbol_{n}", 2) for n in range(4000)))
    (tag,) = [index for index in range(0, len(data), 8) if data[index : index + 8] == struct.pack("<Q", 0x6FFFFEF5)]
    buckets, first, words, shift = struct.unpack_from("<4I", data, at := struct.unpack_from("<Q", data, tag + 8)[0])
    bloom = struct.unpack_from(f"<{words}Q", data, at + 16)
    assert first == 1 and words & words - 1 == 0 and buckets > 1000

    def passes(name: str) -> bool:
        value = functools.reduce(lambda value, byte: (value * 33 + byte) % 2**32, name.encode(), 5381)
        word = bloom[value // 64 % words]
        return bool(word >> value % 64 & word >> (value >> shift) % 64 & 1)

    assert all(passes(f"symbol_{n}") for n in range(4000))
    assert sum(passes(f"other_{n}") for n in range(4000)) < 400
