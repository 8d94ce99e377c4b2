"""Importing a base image: check everything, copy it, build its media; all in one directory that is then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from provision.accounts import ROOT_ONLY, Accounts
from provision.accounts import read as read_accounts
from provision.below import remove, sync_directory
from provision.boot import DiskFormat
from provision.cmdline import faults
from provision.errors import Invalid, Problem, Problems
from provision.media.authoring import Ingredients
from provision.media.base import FORMAT, FORMATS, MEDIA, RECORD, BaseImage, hash_file, record
from provision.media.disk import build_disk
from provision.media.fat import CLOCK
from provision.media.initrd import CONTRACT, SIGNED, inspect_initrd
from provision.media.iso import build_iso
from provision.media.kernel import Kernel, inspect_kernel
from provision.media.layout import FileEntry, MediumLayout, Progress
from provision.media.loaders import GRUBS, SERVED, copy_loaders, find_loaders
from provision.media.newc import MARKER
from provision.media.plan import Slot
from provision.media.qcow2 import build_qcow2
from provision.media.raw_zst import build_raw_zst
from provision.media.refusal import build_refusal
from provision.media.signing import describe_signing
from provision.messages import quoted
from provision.model import KernelArgument, Name

SEED_SIZE = 4 * 1024 * 1024
SEED_LIMIT = 256 * 1024 * 1024
_SEED_UNIT = 4096
_PAD = 512
_CHUNK = 1024 * 1024
_BUILDERS = {"iso": build_iso, "disk": build_disk, "refusal": build_refusal}


@dataclass(frozen=True)
class ImportRequest:
    """What the operator names: files, default kernel arguments, a loader directory (None: Debian's), seed bytes, and
    the bytes of the image's parts as its own report has them."""

    name: str
    kernel: Path
    initrds: tuple[Path, ...]
    kernel_arguments: tuple[str, ...] = ()
    loaders: Path | None = None
    seed_size: int = SEED_SIZE
    parts: Mapping[str, int] = field(default_factory=dict)
    site_archive: bytes = b""
    """One more archive, behind all initrds; padded to 512 bytes."""


class ImportProblems(Problems):
    """All that speaks against importing these files."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems, "base image")


@dataclass(frozen=True)
class Prepared:
    """Checked copies of everything, and the id that they make."""

    ingredients: Ingredients
    kernel_version: str
    features: tuple[str, ...] = ()
    accounts: Accounts = ROOT_ONLY


def prepare(request: ImportRequest, work: Path, progress: Progress) -> Prepared:
    """Copy what the request names into the directory `work`, and check the copies.

    Raises ImportProblems with all problems at once, OSError when the copies cannot be written.
    """
    found, problems = find_loaders(request.loaders)
    problems += _request_problems(request)
    sources = [(request.kernel, work / "kernel")]
    sources += [(path, work / f"initrd{i}.img") for i, path in enumerate(request.initrds)]
    total, done = sum(_size(path) for path, _ in sources) or 1, 0
    copied = []
    for source, target in sources:
        try:
            for size in _copy(source, target):
                done += size
                progress("copying", 0.3 * min(1.0, done / total))
            copied.append((source, target))
        except Invalid as error:
            problems.append(_problem(source, error))
    kernel = _check_kernel(request, copied, problems)
    features, accounts = _check_initrds(request, copied, work, problems, progress)
    if request.site_archive and SIGNED not in features and not problems:
        fact = "does not check signatures, so the site's keys are nothing to it"
        problems.append(Problem(request.name, 0, "", fact, "build the image anew, or leave out --site-keys"))
    if problems or kernel is None:
        raise ImportProblems(problems)
    (work / "scratch").mkdir()
    loaders = copy_loaders(found, work / "scratch")
    initrds = [target for _, target in sources[1:]]
    if request.site_archive:
        initrds.append(work / f"initrd{len(initrds)}.img")
        initrds[-1].write_bytes(request.site_archive)
    id_ = _identify(request, work / "kernel", tuple(initrds), loaders)
    ingredients = Ingredients(id_, work / "kernel", tuple(initrds), loaders, request.seed_size)
    return Prepared(ingredients, kernel.version, features, accounts)


def build(request: ImportRequest, prepared: Prepared, work: Path, progress: Progress) -> None:
    """Build the media beside the copies in `work`, write the record, and make all of it durable."""
    ingredients, scratch = prepared.ingredients, work / "scratch"
    media: dict[str, MediumLayout] = {}
    for i, (name, builder) in enumerate(_BUILDERS.items()):
        progress(f"building {MEDIA[name]}", 0.6 + 0.08 * i)
        parts = scratch / name
        parts.mkdir()
        media[name] = _layout(work / MEDIA[name], builder(ingredients, work / MEDIA[name], parts))
        remove(scratch, parts.name)
    formats = _formats(media["disk"], work, scratch, progress)
    progress("checking signatures", 0.91)
    grubs = [ingredients.loaders[name] for name in GRUBS]
    signing = describe_signing(ingredients.loaders["shimx64.efi.signed"], grubs, ingredients.kernel, scratch)
    (work / "loaders").mkdir()
    for served, name in SERVED.items():
        shutil.copyfile(ingredients.loaders[name], work / "loaders" / served)
    remove(work, scratch.name)
    progress("hashing", 0.92)
    base = BaseImage(
        id=ingredients.id,
        name=request.name,
        kernel_version=prepared.kernel_version,
        kernel_arguments=request.kernel_arguments,
        seed_size=request.seed_size,
        directory=work,
        kernel=_entry(ingredients.kernel),
        initrds=tuple(_entry(path) for path in ingredients.initrds),
        loaders={served: _entry(work / "loaders" / served) for served in SERVED},
        signing=signing,
        features=prepared.features,
        accounts=prepared.accounts,
        parts=request.parts,
        **{name: _hashed(medium) for name, medium in media.items()},
        formats={format_: _hashed(medium) for format_, medium in formats.items()},
    )
    (work / RECORD).write_bytes(record(base))
    _settle(work)


def _formats(disk: MediumLayout, work: Path, scratch: Path, progress: Progress) -> dict[DiskFormat, MediumLayout]:
    """The base disk in its other formats."""
    progress(f"building {FORMATS[DiskFormat.QCOW2]}", 0.86)
    qcow2 = work / FORMATS[DiskFormat.QCOW2]
    found = {DiskFormat.QCOW2: _layout(qcow2, build_qcow2(disk.path, disk.slots, qcow2))}
    progress(f"building {FORMATS[DiskFormat.RAW_ZST]}", 0.88)
    packed = work / FORMATS[DiskFormat.RAW_ZST]
    return found | {DiskFormat.RAW_ZST: _layout(packed, build_raw_zst(disk.path, disk.slots, packed, scratch))}


def _layout(path: Path, slots: Mapping[str, Slot]) -> MediumLayout:
    return MediumLayout(path, path.stat().st_size, "", slots)


def _hashed(medium: MediumLayout) -> MediumLayout:
    return replace(medium, sha256=hash_file(medium.path))


def _problem(source: Path, error: Invalid) -> Problem:
    return Problem(str(source), 0, "", error.fact, error.remedy)


def _request_problems(request: ImportRequest) -> Iterator[Problem]:
    try:
        TypeAdapter(Name).validate_python(request.name)
    except ValidationError:
        yield Problem(
            request.name, 0, "", "is not a valid name for an image", "use lower case letters, digits and hyphens"
        )
    for argument in request.kernel_arguments:
        try:
            TypeAdapter(KernelArgument).validate_python(argument)
        except ValidationError as error:
            cause = (
                error.errors(include_url=False)[0].get("ctx", {}).get("error", "is too long; at most 256 characters")
            )
            fact, _, remedy = str(cause).partition("; ")
            yield Problem(quoted(argument)[1:-1], 0, "", fact, remedy)
    for fact, remedy in faults({"--cmdline": request.kernel_arguments}):
        yield Problem(request.name, 0, "", fact, remedy)
    size = request.seed_size
    if size % _SEED_UNIT or not _SEED_UNIT <= size <= SEED_LIMIT:
        fact = f"is not a valid size for the seed, which is a multiple of {_SEED_UNIT} bytes up to {SEED_LIMIT}"
        yield Problem(str(size), 0, "", fact, f"give --seed-size, in MiB, from 1 to {SEED_LIMIT >> 20}")
    if not request.initrds:
        yield Problem(request.name, 0, "", "has no initrd", "name at least one with --initrd")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _copy(source: Path, target: Path) -> Iterator[int]:
    """Copy in pieces, yielding their sizes; raises Invalid for a source that cannot be read, OSError for the target."""
    try:
        if not source.is_file():
            raise Invalid(str(source), "is not a file" if source.exists() else "does not exist")
        file = source.open("rb")
    except OSError as error:
        raise Invalid(str(source), f"cannot be read ({error.strerror})") from None
    with file, target.open("xb") as out:
        while True:
            try:
                data = file.read(_CHUNK)
            except OSError as error:
                raise Invalid(str(source), f"cannot be read ({error.strerror})") from None
            if not data:
                return
            out.write(data)
            yield len(data)


def _check_kernel(request: ImportRequest, copied: list[tuple[Path, Path]], problems: list[Problem]) -> Kernel | None:
    for source, target in copied:
        if target.name != "kernel":
            continue
        try:
            kernel = inspect_kernel(target)
        except Invalid as error:
            problems.append(_problem(source, error))
            return None
        length = len(" ".join(request.kernel_arguments))
        if length > kernel.command_line_limit:
            fact = f"takes a command line of {kernel.command_line_limit} bytes, and {length} are given"
            problems.append(Problem(str(source), 0, "", fact, "shorten --cmdline"))
        return kernel
    return None


def _check_initrds(
    request: ImportRequest, copied: list[tuple[Path, Path]], work: Path, problems: list[Problem], progress: Progress
) -> tuple[tuple[str, ...], Accounts]:
    """The features and the accounts that the initrds name; of two files of one path the later one counts."""
    markers, good = [], 0
    features: set[str] = set()
    passwd = group = b""
    initrds = [pair for pair in copied if pair[1].name != "kernel"]
    for i, (source, target) in enumerate(initrds):
        room = 0
        progress(f"checking {source.name}", 0.3 + 0.3 * i / len(initrds))
        try:
            inspected = inspect_initrd(target, work)
            markers.append((source, inspected.marker))
            features |= set(inspected.features)
            passwd = passwd if inspected.passwd is None else inspected.passwd
            group = group if inspected.group is None else inspected.group
            good += 1
            # After lz4 the kernel looks for another block first, which four zeros are not.
            room = 4 if inspected.members[-1].format == "lz4" else 0
        except Invalid as error:
            problems.append(_problem(source, error))
        # The next initrd, and at last the seed, must start on a boundary whatever loader puts them together.
        size = target.stat().st_size + room
        os.truncate(target, -(-size // _PAD) * _PAD)
    found = [(source, marker) for source, marker in markers if marker is not None]
    for source, marker in found:
        if marker != CONTRACT:
            problems.append(Problem(str(source), 0, "", *_other_contract(marker)))
    if not found and initrds and good == len(request.initrds):
        fact = f"no initrd holds {MARKER}, so this image would ignore its seed"
        problems.append(Problem(str(initrds[0][0]), 0, "", fact, "see docs/media-format.md"))
    return tuple(sorted(features)), read_accounts(passwd, group)


def _other_contract(marker: bytes) -> tuple[str, str]:
    """What is wrong with a marker, and the way out: the number, or how it is written."""
    ours, text = CONTRACT.decode().strip(), marker.decode("ascii", "replace").strip()
    if text != ours:
        return (
            f"asks for seed contract {quoted(text)}, and this release writes {ours}",
            "build the image for that contract",
        )
    fact = f"{MARKER} holds '{ours}' without the newline"
    if b"\r" in marker:
        fact = f"{MARKER} holds '{ours}', but ends in a carriage return"
    elif marker != ours.encode():
        fact = f"{MARKER} holds '{ours}' and white space beside it"
    return fact, f"write it with 'echo {ours}', and build the image again"


def _identify(request: ImportRequest, kernel: Path, initrds: tuple[Path, ...], loaders: dict[str, Path]) -> str:
    content = {
        "format": FORMAT,
        "kernel": hash_file(kernel),
        "initrds": [hash_file(path) for path in initrds],
        "kernel_arguments": request.kernel_arguments,
        "loaders": {name: hash_file(path) for name, path in sorted(loaders.items())},
        "seed_size": request.seed_size,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _entry(path: Path) -> FileEntry:
    return FileEntry(path, path.stat().st_size, hash_file(path))


def _settle(work: Path) -> None:
    """Fixed modes and times, everything durable. A file changed later shows by its time."""
    for path in sorted(work.rglob("*"), reverse=True):
        if path.is_dir():
            path.chmod(0o700)
            sync_directory(path)
            continue
        path.chmod(0o600)
        os.utime(path, (CLOCK, CLOCK))
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_directory(work)
