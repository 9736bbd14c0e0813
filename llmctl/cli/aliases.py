"""llmctl aliases"""

from collections.abc import Mapping
from typing import Annotated

import typer

from llmctl.cli.boxes import LOCAL, open_box, target_of
from llmctl.cli.options import HostOption, JsonOption, VerboseOption
from llmctl.cli.output import answer, answer_json, warn
from llmctl.core.aliases import Shell, Ssh, render, taken, through_llmctl, through_ssh
from llmctl.core.hosts import HostEntry
from llmctl.engine.aliases import LLMCTL, look_at, own_program
from llmctl.errors import HostError
from llmctl.host.local import LocalHost
from llmctl.host.ssh_config import resolve
from llmctl.store.hosts import HostsFile
from llmctl.store.known_boxes import Known, KnownBoxes


def aliases(
    shell: Annotated[
        Shell | None, typer.Option(help="Whose words; otherwise such as all three understand.")
    ] = None,
    ssh: Annotated[
        str | None,
        typer.Option(
            metavar="DESTINATION", help="Through plain ssh, for a machine without llmctl."
        ),
    ] = None,
    cached: Annotated[
        bool, typer.Option("--cached", help="As last seen, without asking the box.")
    ] = False,
    host: HostOption = LOCAL,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Shell aliases for the profiles of a box: eval "$(llmctl aliases)".

    llcoder switches to coder; lloff, llstatus, lllogs, and llsleep and llwake of a box elsewhere.
    """
    known = _known(host, ssh, cached=cached, verbose=verbose)
    if ssh is None:
        commands = through_llmctl(
            known.profiles, box=None if host == LOCAL else host, program=_program_here()
        )
    else:
        commands = _plain(ssh, known, host)
    for name in taken(known.profiles):
        warn(f"no alias for the profile {name}: ll{name} means something else")
    _show(commands, url=known.url or "", shell=shell, as_json=json)


def _show(commands: Mapping[str, str], *, url: str, shell: Shell | None, as_json: bool) -> None:
    if as_json:
        answer_json({"aliases": commands, "url": url})
    else:
        answer(render(commands, url=url, shell=shell))


def _plain(destination: str, known: Known, host: str) -> Mapping[str, str]:
    """Through ssh. Whoever asks the box itself for them has this llmctl in mind."""
    program = known.program or (own_program() if host == LOCAL else None)
    if program is None:
        warn(f"there is no {LLMCTL} on {host}; systemctl has to do, and does not wait for models")
    entry = _entry(host)
    ssh = Ssh(destination=destination, program=program)
    if entry is not None:
        ssh = Ssh(
            destination=destination, program=program, mac=entry.mac, broadcast=entry.broadcast,
            via=target_of(entry.via) if entry.via else None,
        )  # fmt: skip
    return through_ssh(known.profiles, ssh)


def _program_here() -> str:
    """`llmctl` where the shell finds it, else its path."""
    return LLMCTL if LocalHost().which(LLMCTL) else own_program() or LLMCTL


def _entry(host: str) -> HostEntry | None:
    return HostsFile(LocalHost()).boxes.get(host)


def _known(host: str, ssh: str | None, *, cached: bool, verbose: bool) -> Known:
    """What is there; of a box that does not answer, what was there."""
    if host == LOCAL:
        # Plain aliases are for another machine, also where the box itself is asked for them.
        return _looked(host, verbose=verbose, address=_address(ssh) if ssh else None)
    before = KnownBoxes(LocalHost()).read(host)
    has_all = before is not None and before.url is not None
    if cached and before is not None and has_all:
        return before
    try:
        known = _looked(host, verbose=verbose, address=_address(host))
    except HostError as error:
        if before is None or not has_all:
            raise
        warn(f"{error.message} These are the aliases as they were last.")
        return before
    KnownBoxes(LocalHost()).keep(host, known)
    return known


def _looked(host: str, *, verbose: bool, address: str | None) -> Known:
    known, wrong = look_at(open_box(host, verbose=verbose), address=address)
    if wrong:
        warn(wrong)
    return known


def _address(host: str) -> str:
    """What ssh connects to for a box."""
    return resolve(target_of(host), LocalHost().environ()).address
