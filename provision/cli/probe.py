"""image probe, image minimal-set: a built image tried in a virtual machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from provision.cli import output
from provision.cli.context import context
from provision.errors import ProvisionError

_Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A directory that 'image build -o' filled")]


def probe(
    directory: _Directory,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Only this use case; give it again for more [all]"),
    ] = None,
) -> None:
    """Try a built image in a virtual machine.

    The machine does what hypervisors do, and each use case has a verdict. Fails when a use case fails. Needs root
    (network namespaces), QEMU, swtpm, tgt, OpenSSH's client and nfs-ganesha. Leaves nothing behind.
    """
    from provision.image.trial import usecases

    given = context()
    image = usecases.load(directory)
    with output.stages(given.json, lines=True) as progress:
        verdicts = usecases.run(image, only or (), progress)
    failed = [verdict.name for verdict in verdicts if not verdict.passed]
    if given.json:
        output.data([asdict(verdict) for verdict in verdicts])
    else:
        output.table(
            ("USE CASE", "RESULT", "WHY"), ((v.name, "pass" if v.passed else "FAIL", v.reason) for v in verdicts)
        )
        for verdict in verdicts:
            for line in verdict.log:
                output.say(f"{verdict.name}: {line}")
    if failed:
        raise ProvisionError(str(directory), f"fails as a hypervisor: {', '.join(failed)}", "do not publish it")


def minimal_set(
    directory: _Directory,
    file: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the proposed rules there")
    ] = None,
) -> None:
    """Propose rules that drop the files which an image never opens.

    It boots the image while the kernel records every file that is opened. These are proposals only: files that the use
    cases do not open may still be wanted. Needs what 'image probe' needs.
    """
    from provision.image.trial import minimal, opened, usecases

    given = context()
    image = usecases.load(directory)
    with output.stages(given.json, lines=True) as progress:
        proposal, verdicts = minimal.run(image, progress)
    text = opened.rules(proposal)
    if file:
        file.write_text(text)
    if given.json:
        output.data(asdict(proposal))
        return
    if not file:
        output.text(text)
        return
    rows = [
        (row.package, f"{len(row.unused)} of {row.files}", f"{row.size:,}", f"{row.packed:,}") for row in proposal.rows
    ]
    output.table(("PACKAGE", "NEVER OPENED", "BYTES", "PACKED"), rows[:20])
    output.say(f"{proposal.opened} of {proposal.files} files were opened; the rules are in {file}")
    output.say(opened.summary(proposal))
    if failed := [verdict.name for verdict in verdicts if not verdict.passed]:
        output.say(f"these use cases failed, so what they need is not in it: {', '.join(failed)}")
